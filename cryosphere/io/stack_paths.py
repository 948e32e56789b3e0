"""Where the image stacks of a particle table are: beside it, in the project it belongs to, in the user's folder."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath

from cryosphere.errors import InputError

# Beginnings of stack names and what replaces them.
PathMap = Mapping[str, str] | Iterable[tuple[str, str]]
# Folders above the table's that may be the project's (cryoSPARC exports lie four levels down).
_LEVELS_ABOVE = 6
# Bounds of the search for a folder to suggest: entries read, levels down, and folders above to search from.
_SEARCH_ENTRIES, _SEARCH_DEPTH, _SEARCH_ABOVE = 10_000, 4, 2


def resolve_stacks(
    names: Sequence[str],
    source: Path,
    datadir: str | Path | None = None,
    path_map: PathMap = (),
) -> tuple[Path, ...]:
    """Find each stack named in the table ``source``.

    Looked for, in this order: relative to the table's folder; under ``datadir``, by the whole name and then without
    more and more of its leading folders; relative to the folders above the table's (names of RELION and cryoSPARC
    start in the folder of the project). Absolute names are taken as they are, then looked for under ``datadir``.

    Parameters
    ----------
    names : sequence of str
        Distinct stack names as the table has them.
    source : Path
        The table.
    datadir : path, optional
        Folder of the user's.
    path_map : mapping of str to str, optional
        Beginnings of names and what replaces them; see :func:`map_names`.

    Raises
    ------
    InputError
        If stacks are missing (how many, the first, where it was looked for, a ``datadir`` that would do), two names
        lead to one file, a replacement applies to no name, or ``datadir`` is no folder.
    """
    if datadir is not None:
        datadir = Path(datadir).expanduser()
        if not datadir.is_dir():
            raise InputError(f"the data folder {datadir} (--datadir) does not exist.")
    mapped = map_names(names, path_map, source)
    above = _folders_above(source)
    found: list[Path] = []
    missing: list[int] = []
    under_datadir: dict[Path, str] = {}
    for position, name in enumerate(mapped):
        path = _find(name, source.parent, datadir, above)
        if path is None:
            missing.append(position)
            continue
        if datadir is not None and path.is_relative_to(datadir):
            other = under_datadir.setdefault(path, name)
            if PurePath(other) != PurePath(name):
                raise InputError(
                    f"{source}: the stacks {other} and {name} would both be read from {path}; give a --datadir in "
                    "which they are two files."
                )
        found.append(path)
    if missing:
        raise _missing_error(names, mapped, missing, source, datadir)
    return tuple(found)


def map_names(names: Sequence[str], path_map: PathMap, source: Path) -> list[str]:
    """Replace the beginnings of stack names, whole folders at a time; the longest beginning that fits is replaced.

    Raises
    ------
    InputError
        If a replacement fits no name.
    """
    pairs = {old.rstrip("/") or old: new.rstrip("/") or new for old, new in dict(path_map).items()}
    used = set()
    mapped = []
    for name in names:
        fitting = [old for old in pairs if name == old or name.startswith(old if old.endswith("/") else f"{old}/")]
        if not fitting:
            mapped.append(name)
            continue
        old = max(fitting, key=len)
        used.add(old)
        rest = name[len(old) :].lstrip("/")
        mapped.append(str(Path(pairs[old]).expanduser() / rest) if pairs[old] else rest)
    unused = [old for old in pairs if old not in used]
    if unused and names:
        raise InputError(
            f"{source}: no stack name begins with the folder {unused[0]!r} (--path-map, particles.path_map), the first "
            f"is {names[0]}; correct it or leave it out."
        )
    return mapped


def _folders_above(source: Path) -> list[Path]:
    """Folders above the table's, nearest first, as the path is written and as it is without symbolic links."""
    written = list(Path(os.path.abspath(source)).parents)[1 : _LEVELS_ABOVE + 1]
    return list(dict.fromkeys([*written, *list(source.resolve().parents)[1 : _LEVELS_ABOVE + 1]]))


def _tails(name: str) -> list[Path]:
    """A name without its root, then without more and more of its leading folders, down to the file's name."""
    parts = _parts(name)
    return [Path(*parts[start:]) for start in range(len(parts))]


def _parts(name: str) -> tuple[str, ...]:
    path = PurePath(name)
    return path.parts[1:] if path.is_absolute() else path.parts


def _find(name: str, folder: Path, datadir: Path | None, above: list[Path]) -> Path | None:
    """First place where the stack is."""
    candidates = [folder / name]
    if datadir is not None:
        candidates += [datadir / tail for tail in _tails(name)]
    if not PurePath(name).is_absolute() and len(_parts(name)) > 1:
        candidates += [parent / name for parent in above]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _missing_error(
    names: Sequence[str], mapped: Sequence[str], missing: list[int], source: Path, datadir: Path | None
) -> InputError:
    """Say how many stacks are missing, the first, where it was looked for, and which ``--datadir`` would do."""
    name, original = mapped[missing[0]], names[missing[0]]
    places = [source.parent / name]
    if datadir is not None:
        places += [datadir / Path(*_parts(name)), datadir / PurePath(name).name]
    listed = " and ".join(str(place) for place in dict.fromkeys(places))
    if not PurePath(name).is_absolute() and len(_parts(name)) > 1:
        listed += " and below the folders above"
    remedy = "correct --datadir" if datadir is not None else "pass --datadir"
    suggestion = _suggest([mapped[position] for position in missing], source)
    if suggestion is None:
        remedy += " so that it names the folder the stack paths are relative to"
    else:
        remedy += f": {suggestion[0]} has {suggestion[1]} of the {len(missing)}"
    return InputError(
        f"{source}: {len(missing)} of {len(names)} image stacks are missing, the first is {name}"
        f"{f' ({original} in the table)' if original != name else ''}, looked for at {listed}; {remedy}."
    )


def _suggest(missing: Sequence[str], source: Path) -> tuple[Path, int] | None:
    """A folder above or below the table in which the first missing stack is, and how many of the missing it has."""
    tails = _tails(missing[0])
    here = Path(os.path.abspath(source)).parent
    above = [here, *_folders_above(source)]
    folder = next((parent for parent in above for tail in tails if (parent / tail).is_file()), None)
    if folder is None:
        tops = [here, *list(here.parents)[:_SEARCH_ABOVE]]
        files = (_search_below(top, tails[-1].name) for top in tops if top != top.parent)
        file = next((file for file in files if file is not None), None)
        if file is None:
            return None
        folder = next(
            file.parents[len(tail.parts) - 1] for tail in tails if file.parts[-len(tail.parts) :] == tail.parts
        )
    return folder, sum(any((folder / tail).is_file() for tail in _tails(name)) for name in missing)


def _search_below(top: Path, file_name: str) -> Path | None:
    """First file of a name below a folder, nearest level first, within the bounds and not through symbolic links."""
    left = _SEARCH_ENTRIES
    queue = deque([(top, 0)])
    while queue and left > 0:
        folder, depth = queue.popleft()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(islice(listing, left), key=lambda entry: entry.name)
        except OSError:
            continue
        left -= len(entries)
        for entry in entries:
            if entry.name == file_name and entry.is_file():
                return Path(entry.path)
            if depth < _SEARCH_DEPTH and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                queue.append((Path(entry.path), depth + 1))
    return None
