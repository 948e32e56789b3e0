"""Particle tables of any program that is read: RELION STAR and cryoSPARC ``.cs`` or ``.csg``."""

from __future__ import annotations

from pathlib import Path

from cryosphere.io.cryosparc import read_particles_cs
from cryosphere.io.cryosparc_tables import NUMPY_MAGIC
from cryosphere.io.stack_paths import PathMap
from cryosphere.io.star import read_particles as read_particles_star
from cryosphere.records import ParticleTable


def read_particles(path: str | Path, datadir: str | Path | None = None, path_map: PathMap = ()) -> ParticleTable:
    """Read a particle table with poses and CTF and check it against its image stacks.

    Parameters
    ----------
    path : path
        RELION STAR file (3.0, 3.1 and later), cryoSPARC ``.cs`` file (what it lacks is taken from the passthrough files
        beside it) or ``.csg`` group. A file of another name is recognised by its content.
    datadir : path, optional
        Where to look for stacks that are neither beside the file nor in its project's folder.
    path_map : mapping of str to str, optional
        Beginnings of the stack paths in the file and what replaces them, for data that have moved.

    Returns
    -------
    ParticleTable
        One row per particle in the order of the file; ``notes`` hold what the user should know.

    Raises
    ------
    InputError
        The file cannot be used, or its stacks are missing or do not fit.
    """
    path = Path(path)
    reader = read_particles_cs if is_cryosparc(path) else read_particles_star
    return reader(path, datadir, path_map)


def is_cryosparc(path: Path) -> bool:
    """Whether a file is cryoSPARC's, by its name or by how it begins."""
    if path.suffix.lower() in (".cs", ".csg"):
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC
