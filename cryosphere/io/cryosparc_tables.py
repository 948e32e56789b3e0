"""cryoSPARC datasets as tables: ``.cs`` arrays and ``.csg`` groups read, parts joined by ``uid``, fields checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float, Int

from cryosphere.errors import InputError

NUMPY_MAGIC, _STREAM_MAGIC = b"\x93NUMPY", b"\x94CSDAT"
_JOB = re.compile(r"(?<![A-Za-z0-9])J\d+")
# A file of the job that is not about particles is never a partner.
_OTHER_ITEMS = ("exposure", "micrograph", "volume", "mask")
_REMEDY = "give the particles of a 3-D refinement as cryoSPARC wrote them"


@dataclass(frozen=True)
class CsTable:
    """Fields of a particle dataset, whichever file they came from.

    ``path`` is the file that was asked for, ``files`` that of every slot (what stands before the slash of a field),
    ``notes`` say what was joined.
    """

    path: Path
    columns: dict[str, np.ndarray]
    files: dict[str, Path]
    notes: tuple[str, ...] = ()

    @property
    def n_rows(self) -> int:
        """Number of particles."""
        return len(next(iter(self.columns.values())))

    def has(self, *fields: str) -> bool:
        """Whether all fields are there."""
        return all(field in self.columns for field in fields)

    def require(self, fields: tuple[str, ...], what: str, remedy: str = _REMEDY) -> None:
        """Refuse the table if one of the fields is missing."""
        missing = [field for field in fields if field not in self.columns]
        if missing:
            raise InputError(f"{self.path} has no {what}: {', '.join(missing)} missing; {remedy}.")

    def numbers(
        self, field: str, default: float | None = None, width: int | None = None
    ) -> Float[np.ndarray, "row ..."]:
        """Return a field as finite float64 (``width`` numbers in every row), or ``default`` where it is absent."""
        if default is not None and field not in self.columns:
            return np.full(self.n_rows, default)
        values = self.columns[field]
        shape = () if width is None else (width,)
        if values.dtype.kind not in "iufb" or values.shape[1:] != shape:
            raise InputError(
                f"{self.file_of(field)}: {field} has rows of {values.dtype.name} {values.shape[1:]}, expected "
                f"{width or 1} number(s); export the particles again."
            )
        values = values.astype(np.float64)
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            raise self.row_error(np.flatnonzero(~finite), field, "finite numbers")
        return values

    def row_error(self, rows: Int[np.ndarray, " wrong"], field: str, expected: str) -> InputError:
        """Make the error that names the first of ``rows`` (from 0), all with a wrong value in ``field``."""
        found = self.columns[field][rows[0]]
        return InputError(
            f"{self.file_of(field)}, row {rows[0] + 1}: {field} is {found}, expected {expected} "
            f"({len(rows)} such rows); remove these particles or export them again."
        )

    def file_of(self, field: str) -> Path:
        """File that a field came from."""
        return self.files[slot_of(field)]


def slot_of(field: str) -> str:
    """What stands before the slash: ``ctf`` of ``ctf/df1_A``."""
    return field.partition("/")[0]


def pose_slots(fields: tuple[str, ...] | dict[str, np.ndarray]) -> list[str]:
    """Slots of 3-D poses among fields, ``alignments3D`` first, classes in the order of their numbers."""
    slots = {slot_of(field) for field in fields if field.endswith("/pose")}
    slots = {slot for slot in slots if slot.startswith("alignments") and slot != "alignments2D"}

    def order(slot: str) -> tuple[bool, str, int]:
        stem, number = re.fullmatch(r"(.*?)(\d*)", slot).groups()
        return slot != "alignments3D", stem, int(number or 0)

    return sorted(slots, key=order)


def read_table(path: Path) -> CsTable:
    """Read a ``.cs`` file with what it lacks from its passthrough files beside it, or the files of a ``.csg`` group.

    Raises
    ------
    InputError
        A file is missing or something else than a dataset, has no rows, or the parts do not fit together by ``uid``.
    """
    if path.suffix.lower() == ".csg":
        return _read_group(path)
    data = read_dataset(path)
    files = {slot_of(field): path for field in data.dtype.names}
    table = CsTable(path, {field: data[field] for field in data.dtype.names}, files)
    return _with_passthrough(table)


def read_dataset(path: Path) -> np.ndarray:
    """Read a ``.cs`` file as a structured array with at least one row.

    Raises
    ------
    InputError
        The file is missing, holds something else, or has no rows.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; a cryoSPARC particle .cs file is expected.")
    with open(path, "rb") as file:
        magic = file.read(len(NUMPY_MAGIC))
    if magic == _STREAM_MAGIC:
        raise InputError(
            f"{path} is a cryoSPARC dataset in stream format, expected numpy format; save it again with "
            "Dataset.save(path) of cryosparc-tools."
        )
    if magic != NUMPY_MAGIC:
        raise InputError(f"{path} is not a cryoSPARC .cs file: it does not begin as a numpy array does; {_REMEDY}.")
    try:
        data = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if "Object arrays" in str(error):
            raise InputError(
                f"{path} holds pickled Python objects, which could run code and are not read; save it as plain arrays."
            ) from None
        raise InputError(
            f"{path} cannot be read as a numpy array ({' '.join(str(error).split())}); {_REMEDY}."
        ) from None
    if data.dtype.names is None or data.ndim != 1:
        raise InputError(
            f"{path} is a numpy array of {data.dtype.name} {data.shape}, expected a row of named fields per particle; "
            f"{_REMEDY}."
        )
    if not len(data):
        raise InputError(f"{path} has no particles: the table has 0 rows.")
    return data


def _lacking(columns: dict[str, np.ndarray]) -> list[str]:
    """What a table needs and does not have: ``blob``, ``ctf``, ``poses``."""
    lacking = [slot for slot, field in (("blob", "blob/path"), ("ctf", "ctf/df1_A")) if field not in columns]
    return lacking if pose_slots(columns) else [*lacking, "poses"]


def _offered(need: str, fields: tuple[str, ...]) -> list[str]:
    """Fields of a file that meet a need."""
    slots = pose_slots(fields) if need == "poses" else [need]
    return [field for field in fields if slot_of(field) in slots]


def _with_passthrough(table: CsTable) -> CsTable:
    """Join what a table lacks from the passthrough files of its job, which lie beside it."""
    lacking = _lacking(table.columns)
    if not lacking or "passthrough" in table.path.name:
        return table
    candidates = [(file, read_dataset(file)) for file in passthrough_files(table.path)]
    wanted: dict[int, list[str]] = {}
    for need in lacking:
        offers = [number for number, (_, data) in enumerate(candidates) if _offered(need, data.dtype.names)]
        if not offers:
            continue
        uid = _uid(table.columns, table.path)
        complete = [n for n in offers if np.isin(uid, _uid(candidates[n][1], candidates[n][0])).all()]
        number = (complete or offers)[0]
        wanted.setdefault(number, []).extend(_offered(need, candidates[number][1].dtype.names))
    for number, fields in wanted.items():
        table = _join(table, candidates[number][1], candidates[number][0], fields)
    return table


def passthrough_files(path: Path) -> Iterator[Path]:
    """Passthrough files of particles beside a table, of its job where both names have the number of one."""
    jobs = set(_JOB.findall(path.name))
    for file in sorted(path.parent.glob("*passthrough*.cs")):
        others = set(_JOB.findall(file.name))
        if file.is_file() and not (jobs and others and not jobs & others):
            if not any(item in file.name for item in _OTHER_ITEMS):
                yield file


def _uid(data: np.ndarray | dict[str, np.ndarray], path: Path) -> np.ndarray:
    fields = data if isinstance(data, dict) else data.dtype.names
    if "uid" not in fields:
        raise InputError(f"{path} has no field uid, by which its particles are matched with those of another file.")
    return data["uid"]


def _join(table: CsTable, data: np.ndarray, file: Path, fields: list[str]) -> CsTable:
    """Add fields of another file, matched by ``uid``."""
    uid, other = _uid(table.columns, table.path), _uid(data, file)
    order = np.argsort(other, kind="stable")
    ordered = other[order]
    repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(repeated):
        first, second = sorted(order[repeated[0] : repeated[0] + 2])
        raise InputError(
            f"{file}: uid {ordered[repeated[0]]} stands in rows {first + 1} and {second + 1} ({len(repeated)} "
            f"repeated), so that {table.path.name} cannot be matched with it; export the particles again."
        )
    place = np.searchsorted(ordered, uid).clip(max=len(ordered) - 1)
    alone = np.flatnonzero(ordered[place] != uid)
    if len(alone):
        raise InputError(
            f"{table.files['uid']}, row {alone[0] + 1}: uid {uid[alone[0]]} has no partner in {file} ({len(alone)} "
            f"such rows of {table.n_rows}); both must be of one job."
        )
    rows = order[place]
    slots = list(dict.fromkeys(slot_of(field) for field in fields))
    note = f"{table.path.name}: {', '.join(slots)} taken from {file.name}, matched by uid."
    return CsTable(
        table.path,
        {**table.columns, **{field: data[field][rows] for field in fields}},
        {**table.files, **dict.fromkeys(slots, file)},
        (*table.notes, note),
    )


def _read_group(path: Path) -> CsTable:
    """Join the files that a ``.csg`` group names; poses lead, their file's rows are the table's."""
    files = _group_files(path)
    poses = sorted(
        pose_slots(tuple(f"{slot}/pose" for slot in files)), key=lambda slot: "passthrough" in files[slot].name
    )
    leading = poses[0] if poses else next(slot for slot in ("blob", "ctf") if slot in files)
    base = read_dataset(files[leading])
    slots = [slot for slot, file in files.items() if file == files[leading]]
    fields = [field for field in base.dtype.names if field == "uid" or slot_of(field) in slots]
    table = CsTable(path, {field: base[field] for field in fields}, {slot_of(f): files[leading] for f in fields})
    for file in dict.fromkeys(files.values()):
        if file == files[leading]:
            continue
        data = read_dataset(file)
        wanted = [slot for slot, its_file in files.items() if its_file == file and slot in _lacking(table.columns)]
        fields = [field for field in data.dtype.names if slot_of(field) in wanted]
        if fields:
            table = _join(table, data, file, fields)
    return table


def group_results(path: Path) -> dict[str, tuple[Path, str]]:
    """Slot → (file, type) of every result of a ``.csg`` group of particles whose file is there.

    Raises
    ------
    InputError
        The group cannot be read, is not of particles, or the file of a slot that matters is missing.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; a cryoSPARC .csg group is expected.")
    try:
        group = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a cryoSPARC group: it cannot be read as YAML ({reason}).") from None
    results = group.get("results") if isinstance(group, dict) else None
    if not isinstance(results, dict):
        raise InputError(f"{path} is not a cryoSPARC group: it has no 'results'; give the .csg of a particle output.")
    kind = group.get("group")
    kind = kind.get("type") if isinstance(kind, dict) else None
    if kind not in (None, "particle"):
        raise InputError(f"{path} is a group of type {kind}, expected particle; give the .csg of a particle output.")
    found = {}
    for slot, result in results.items():
        slot, result = str(slot), result if isinstance(result, dict) else {}
        name = result.get("metafile")
        if not isinstance(name, str):
            if _matters(slot):
                raise InputError(f"{path}: results.{slot} has no metafile; export the group again.")
            continue
        name = name.removeprefix(">")
        places = [folder / name for folder in (path.parent, *list(path.absolute().parents)[1:7])]
        file = next((place for place in places if place.is_file()), None)
        if file is not None:
            found[slot] = file, str(result.get("type") or f"particle.{slot}")
        elif _matters(slot):
            raise InputError(f"{path}: results.{slot} is in {name}, which is not at {places[0]}; copy it there.")
    return found


def _group_files(path: Path) -> dict[str, Path]:
    """Slot → file of a ``.csg`` group of particles, for the slots that matter."""
    files = {slot: file for slot, (file, _) in group_results(path).items() if _matters(slot)}
    if not files:
        raise InputError(
            f"{path} has no results blob, ctf or alignments3D; give the .csg of a 3-D refinement's particles."
        )
    return files


def _matters(slot: str) -> bool:
    """Whether images, CTF or 3-D poses are in a slot."""
    return slot in ("blob", "ctf") or (slot.startswith("alignments") and slot != "alignments2D")
