"""Commands for ChimeraX and PyMOL that show an ensemble over a map and play it.

ChimeraX: www.rbvi.ucsf.edu/chimerax/docs/user/index.html (open, volume, cartoon, color, morph, coordset); PyMOL:
pymolwiki.org (load, isosurface, spectrum, mset). Files are named relative to the script, whose folder both make the
current one.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryosphere.export.residue_colours import ResidueColours

# Frames between two conformations, and how often the movie is played back and forth.
_MORPH_FRAMES, _MORPH_LOOPS = 20, 100
_PYMOL_FRAMES_PER_SECOND = 10
_MAP_COLOUR, _MAP_ALPHA = "#999999", "60"
_PYMOL_TRANSPARENCY = 0.65


@dataclass(frozen=True)
class Scene:
    """What the scripts show: file of the models and their number, colours, and a map with its level, if there is one.

    ``is_trace``: Cα and C1′ only. ``has_ligands``: there are ligands to be drawn as atoms.
    """

    models: str
    n_models: int
    colours: ResidueColours
    is_trace: bool
    has_ligands: bool
    map: str | None = None
    level: float | None = None


def chimerax_commands(scene: Scene) -> list[str]:
    """Lines of a ``.cxc`` file, for a new session of ChimeraX 1.6 or later."""
    lines = [f"# ChimeraX 1.6 or later, in a new session. B factors of {scene.models} are: {scene.colours.legend}."]
    if scene.map is not None:
        lines += [
            f"open {scene.map}",
            f"volume #1 style surface level {scene.level:.6g} color {_MAP_COLOUR}{_MAP_ALPHA} step 1",
        ]
    number = 1 if scene.map is None else 2
    palette = ":".join(f"{value:g},{colour}" for value, colour in scene.colours.palette())
    lines += [f"open {scene.models}", *_drawn(f"#{number}", scene), f"color bfactor #{number} palette {palette}"]
    if scene.n_models > 1:
        movie = f"#{number + 1}"
        lines += [
            f"morph #{number}.1-{scene.n_models} same true frames {_MORPH_FRAMES} play false",
            *_drawn(movie, scene),
            f"color bfactor {movie} palette {palette}",
        ]
    lines.append("view")
    if scene.n_models > 1:
        lines.append(f"coordset #{number + 1} 1, bounce true loop {_MORPH_LOOPS}")
    return lines


def _drawn(model: str, scene: Scene) -> list[str]:
    """Cartoon, and atoms of ligands; a trace as thick sticks between its atoms, since it has no peptide planes."""
    if scene.is_trace:
        return [f"show {model} atoms", f"style {model} sphere"]
    lines = [f"hide {model} atoms", f"cartoon {model}"]
    return [*lines, f"show {model} & ligand atoms"] if scene.has_ligands else lines


def pymol_commands(scene: Scene) -> list[str]:
    """Lines of a ``.pml`` file, for PyMOL 2.5 or later."""
    lines = [
        f"# PyMOL 2.5 or later. B factors of {scene.models} are: {scene.colours.legend}.",
        "python",
        "import os",
        "cmd.cd(os.path.dirname(os.path.abspath(__script__)))",
        "python end",
    ]
    if scene.map is not None:
        lines += [
            "set normalize_ccp4_maps, 0",
            f"load {scene.map}, consensus",
            f"isosurface surface, consensus, {scene.level:.6g}",
            f"color 0x{_MAP_COLOUR[1:]}, surface",
            f"set transparency, {_PYMOL_TRANSPARENCY}, surface",
        ]
    lines += [f"load {scene.models}, models", "dss models, 1", "hide everything, models", "show cartoon, models"]
    if scene.is_trace:
        lines.append("set cartoon_trace_atoms, 1, models")
    if scene.has_ligands:
        lines.append("show sticks, models and not polymer")
    lines += [*_pymol_colours(scene.colours), "orient models"]
    if scene.n_models > 1:
        back = " -2" if scene.n_models > 2 else ""
        lines += [f"set movie_fps, {_PYMOL_FRAMES_PER_SECOND}", f"mset 1 -{scene.n_models}{back}", "mplay"]
    return lines


def _pymol_colours(colours: ResidueColours) -> list[str]:
    if colours.stops:
        names = " ".join(f"0x{colour[1:]}" for _, colour in colours.stops)
        (low, _), *_, (high, _) = colours.stops
        return [f"spectrum b, {names}, models, minimum={low:g}, maximum={high:g}"]
    first = colours.bands[0]
    return [f"color 0x{first[2][1:]}, models"] + [
        f"color 0x{colour[1:]}, models and b > {low - 0.005:g}" for low, _, colour in colours.bands[1:]
    ]
