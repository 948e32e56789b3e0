"""Subsets of cryoSPARC particle datasets: chosen rows with every field, and the group to import them by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Int

from cryosphere.errors import InputError
from cryosphere.io.atomic import atomic_output, check_output
from cryosphere.io.cryosparc_tables import group_results, passthrough_files, read_dataset, read_table, slot_of

# Results of particles whose type in a group has the name of the result; others are only known from a group.
_SLOTS = ("blob", "ctf", "location", "pick_stats", "alignments2D", "alignments3D")
_CLASS_SLOT = re.compile(r"alignments_class_\d+")
# Of groups that are written without one to go by; the layout is that of this version's exported groups.
_GROUP_VERSION = "v4.4.1"


@dataclass(frozen=True)
class _Part:
    """Chosen rows of one file, and the results (slot → type) that a group has from it."""

    file: Path
    data: np.ndarray
    results: dict[str, str]


def write_subset_cs(
    source: str | Path,
    rows: Int[np.ndarray, " row"],
    path: str | Path,
    extra_columns: Mapping[str, np.ndarray] | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write some particles of a cryoSPARC dataset as another one: same fields, same bytes of every row.

    What lies in passthrough files of the job (or in the files of a ``.csg`` group) is written beside it as
    ``…_passthrough.cs``, in the same order and with the same ``uid``; ``….csg`` is the group of both, as cryoSPARC's
    "Import Result Group" takes it: name, type, file and number of every result. Its layout is that of groups exported
    by cryoSPARC.

    Parameters
    ----------
    source : path
        ``.cs`` file or ``.csg`` group.
    rows : int array of shape (row,)
        Rows (from 0), in the order in which they are to be written.
    path : path
        The new file, ``….cs``.
    extra_columns : mapping of field to values, optional
        Further fields of the new file, one value for every row that is written.
    overwrite : bool
        Whether existing files may be replaced; those of ``source`` never are.

    Returns
    -------
    list of Path
        The new ``.cs`` files and the group.

    Raises
    ------
    InputError
        ``source`` cannot be read, there are no rows or some out of range, fields are there already, or a file exists
        and may not be replaced.
    """
    source, path = Path(source), Path(path)
    parts = _chosen_parts(source, rows)
    parts[0] = _with_fields(parts[0], extra_columns or {})
    ends = ["", *("_passthrough" + (f"_{number}" if number > 1 else "") for number in range(1, len(parts)))]
    targets = [path.with_name(f"{path.stem}{end}.cs") for end in ends]
    group = path.with_suffix(".csg")
    kept = {file.resolve() for file in (source, *(part.file for part in parts))}
    for target in (*targets, group):
        if target.resolve() in kept:
            raise InputError(f"{target} is a file that the rows come from and is kept; choose another name.")
        check_output(target, overwrite=overwrite)
    for part, target in zip(parts, targets, strict=True):
        with atomic_output(target, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
            np.save(file, part.data, allow_pickle=False)
    with atomic_output(group, overwrite=overwrite) as temporary:
        text = yaml.safe_dump(_group(source, parts, targets), allow_unicode=True, sort_keys=True)
        temporary.write_text(text, encoding="utf-8")
    return [*targets, group]


def _chosen_parts(source: Path, rows: Int[np.ndarray, " row"]) -> list[_Part]:
    """The rows in every file of a dataset, that with the poses first."""
    table = read_table(source)
    if not len(rows):
        raise InputError(f"no particle of {source} is chosen, so that there is nothing to write; choose some.")
    beyond = rows[(rows < 0) | (rows >= table.n_rows)]
    if len(beyond):
        raise InputError(
            f"{source} has {table.n_rows} particles, row {beyond[0]} (counted from 0) is asked for; the rows belong to "
            "another file."
        )
    is_group = source.suffix.lower() == ".csg"
    leading = table.files["uid"] if "uid" in table.files else source
    known = group_results(source) if is_group else {}
    files = list(dict.fromkeys([leading, *table.files.values(), *(file for file, _ in known.values())]))
    if not is_group and "uid" in table.files and "passthrough" not in source.name:
        files = list(dict.fromkeys([*files, *passthrough_files(source)]))
    parts: list[_Part] = []
    taken: set[str] = set()
    for file in files:
        data = read_dataset(file)
        chosen = data[rows] if file == leading else _rows_of(data, table.columns["uid"][rows])
        slots = [slot for slot in dict.fromkeys(map(slot_of, data.dtype.names)) if slot != "uid"]
        if is_group:
            results = {slot: kind for slot, (its_file, kind) in known.items() if its_file == file and slot in slots}
        else:
            results = {slot: kind for slot in slots if slot not in taken and (kind := _type_of(slot))}
        is_needed = file == leading or file in table.files.values()
        if chosen is None or not (is_needed or set(slots) - taken):
            continue
        taken |= set(slots)
        parts.append(_Part(file, chosen, results))
    return parts


def _rows_of(data: np.ndarray, uid: np.ndarray) -> np.ndarray | None:
    """Rows with given ``uid``, in that order; None where some are not there or stand there twice."""
    if "uid" not in data.dtype.names or len(np.unique(data["uid"])) != len(data):
        return None
    order = np.argsort(data["uid"], kind="stable")
    found = order[np.searchsorted(data["uid"][order], uid).clip(max=len(data) - 1)]
    return data[found] if (data["uid"][found] == uid).all() else None


def _type_of(slot: str) -> str | None:
    """Type of a result in a group, as far as the slot tells."""
    if _CLASS_SLOT.fullmatch(slot):
        return "particle.alignments3D"
    return f"particle.{slot}" if slot in _SLOTS else None


def _with_fields(part: _Part, fields: Mapping[str, np.ndarray]) -> _Part:
    """A part with further fields behind its own: whole numbers as int32, others as float32."""
    data = part.data
    if not fields:
        return part
    for name, values in fields.items():
        if name in data.dtype.names:
            raise InputError(f"{part.file} has the field {name} already; give the added one another name.")
        if np.shape(values) != data.shape:
            raise InputError(f"the field {name} has {len(values)} values for {len(data)} rows; give one for every row.")
    kinds = [(name, "<i4" if np.asarray(values).dtype.kind in "iub" else "<f4") for name, values in fields.items()]
    extended = np.zeros(len(data), dtype=[*data.dtype.descr, *kinds])
    for name in data.dtype.names:
        extended[name] = data[name]
    for name, values in fields.items():
        extended[name] = values
    return _Part(part.file, extended, part.results)


def _group(source: Path, parts: list[_Part], targets: list[Path]) -> dict:
    """The group that names the files; head and version are those of the source where that is a group."""
    head = yaml.safe_load(source.read_text(encoding="utf-8")) if source.suffix.lower() == ".csg" else {}
    usual = {
        "description": f"Particles of {source.name} that were chosen with cryoSPHERE",
        "name": "particles",
        "title": "Chosen particles",
        "type": "particle",
    }
    results = {
        slot: {"metafile": f">{target.name}", "num_items": len(part.data), "type": kind}
        for part, target in zip(parts, targets, strict=True)
        for slot, kind in part.results.items()
    }
    made = datetime.fromtimestamp(source.stat().st_mtime, UTC).replace(tzinfo=None)
    return {
        "created": made,  # of the source, so that the same choice gives the same bytes
        "group": {**usual, **(head.get("group") or {})},
        "results": results,
        "version": head.get("version", _GROUP_VERSION),
    }
