"""Files that napari opens through this package: run folders, particle images, maps, structures; and the demo run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from cryosphere.errors import CryosphereError, InputError
from cryosphere.io.mrc import MRCHeader, read_header, read_images, read_volume
from cryosphere.io.stack_paths import resolve_stacks
from cryosphere.io.structures import read_models, read_structure
from cryosphere.particles.columns import source_columns
from cryosphere.records import Structure
from cryosphere.runs.layout import RunLayout

if TYPE_CHECKING:
    from cryosphere.viewer.window import RunWindow

LayerData = tuple[Any, dict, str] | tuple[None]
NO_LAYER: list[LayerData] = [(None,)]
_TABLES, _STACKS, _MAPS = (".star", ".cs", ".csg"), (".mrcs",), (".mrc", ".map", ".ccp4")
_STRUCTURES = (".pdb", ".ent", ".cif", ".mmcif")
# Further models of a file that become layers.
_MOST_MODELS = 20
# Images from which the grey scale of a stack is taken, and share of their pixels beyond it at either end (percent).
_GREY_IMAGES, _GREY_SHARE = 16, 0.1
# Parts of a stack that dask knows of, at most; images are read one by one all the same.
_MOST_CHUNKS = 10_000
# Bytes of images that are read for one view at most.
_MOST_BYTES = 2e9
# Standard deviations above the mean at which an isosurface is drawn at first.
_ISO_STD = 3.0


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Reader of a file or folder for napari, None where it is of another kind."""
    if not isinstance(path, str):
        return None
    place = Path(path)
    if place.is_dir():
        layout = RunLayout(place)
        is_run = layout.config.is_file() and layout.last_checkpoint.parent.is_dir()
        return _plain(_open_run) if is_run else None
    kinds = {_TABLES: read_table, _STACKS: read_stack, _MAPS: read_map, _STRUCTURES: read_tubes}
    suffix = place.with_suffix("").suffix if place.suffix == ".gz" else place.suffix
    for suffixes, reader in kinds.items():
        if suffix.lower() in suffixes and (place.suffix != ".gz" or suffixes == _STRUCTURES):
            return _plain(reader)
    return None


def _plain(reader: Callable[[Path], list[LayerData]]) -> Callable[[str], list[LayerData]]:
    """A reader that tells of a file it cannot use in a notification, and then gives no layer."""

    def read(path: str) -> list[LayerData]:
        from cryosphere.viewer.widgets.notices import tell

        try:
            return reader(Path(path))
        except (CryosphereError, OSError, MemoryError) as error:
            tell(error)
            return NO_LAYER

    return read


def _open_run(folder: Path) -> list[LayerData]:
    viewer = _current_viewer()
    from cryosphere.viewer.window import open_run

    open_run(viewer, folder)
    return NO_LAYER


def _current_viewer():
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        raise InputError("A run is shown in a napari window, and none is open; `cryosphere view RUN` opens one.")
    return viewer


def open_demo_run() -> list[LayerData]:
    """Open the run that comes with the package; its images are made meanwhile where they are not there yet.

    Gives the known other end of its motion, hidden, as the layer that napari wants of sample data.

    Raises
    ------
    InputError, RunError
        No window is open, or the cache folder cannot be written to.
    """
    viewer = _current_viewer()
    from cryosphere.viewer.sample import demo_run, has_images, known_open_structure
    from cryosphere.viewer.window import open_run

    folder = demo_run()
    structure = known_open_structure(folder)
    open_run(viewer, folder)
    if not has_images(folder) and folder not in _being_made:
        _start_making_images(folder)
    return [_tube_layer(structure, structure.residue_positions, "adenylate kinase, open (PDB 4AKE)", visible=False)]


_being_made: set[Path] = set()


class _StoppedError(Exception):
    """The program ends."""


def _start_making_images(folder: Path) -> None:
    """Make the demo's images beside the window, and show them when they are there."""
    from qtpy.QtWidgets import QApplication

    from cryosphere.viewer.sample import make_images
    from cryosphere.viewer.widgets.notices import show_info, show_warning
    from cryosphere.viewer.widgets.workers import Latest
    from cryosphere.viewer.window import look_for_images

    show_info("The demo's particle images are being made, once; everything else can be looked at meanwhile.")
    stopped = threading.Event()

    def goes_on(what: str, number: int, total: int) -> None:
        if stopped.is_set():
            raise _StoppedError

    def make() -> str:
        try:
            make_images(folder, goes_on)
        except (CryosphereError, OSError) as error:
            return str(error)
        return ""

    def tell_of(problem: str) -> None:
        _being_made.discard(folder)
        if problem:
            show_warning(problem)
        else:
            look_for_images(folder)
            show_info("The demo's particle images are there: choose a particle to see its own.")

    def finish() -> None:
        stopped.set()
        worker.close()

    app = QApplication.instance()
    worker = Latest(make, tell_of, app)
    app.aboutToQuit.connect(finish)
    _being_made.add(folder)
    worker.request()


def read_table(path: Path) -> list[LayerData]:
    """Images of a STAR, ``.cs`` or ``.csg`` file in its order as one stack, read when they are looked at.

    Raises
    ------
    InputError
        It is of another kind, an image has no number, or stacks are missing or do not fit.
    """
    columns = source_columns(path)
    stack_index, image_index = columns.images()
    if not len(image_index):
        raise InputError(f"{path} has no particles.")
    if image_index.min() < 0:
        raise InputError(
            f"{path}, row {int(image_index.argmin()) + 1}: the image has no number; expected NUMBER@STACK.mrcs from 1."
        )
    paths = resolve_stacks(columns.stack_names(), path)
    return [_stack_layer(_Images(path, paths, stack_index, image_index), path.name)]


def read_stack(path: Path) -> list[LayerData]:
    """Images of an MRC stack, read when they are looked at.

    Raises
    ------
    InputError
        As ``io.mrc.read_header``.
    """
    numbers = np.arange(read_header(path).n_images)
    return [_stack_layer(_Images(path, (path,), np.zeros_like(numbers), numbers), path.name)]


class _Images:
    """What dask wants of an array whose images are in stacks; single images are read alone.

    Parameters
    ----------
    source : Path
        For messages.
    paths : tuple of Path
    stack_index, image_index : int arrays of shape (image,)
    """

    ndim, dtype = 3, np.dtype(np.float32)

    def __init__(
        self,
        source: Path,
        paths: tuple[Path, ...],
        stack_index: Int[np.ndarray, " image"],
        image_index: Int[np.ndarray, " image"],
    ) -> None:
        self.paths, self.stack_index, self.image_index = paths, stack_index, image_index
        headers = [read_header(stack) for stack in paths]
        self.pixel_size = _common(source, headers)
        available = np.array([header.n_images for header in headers])
        beyond = np.flatnonzero(image_index >= available[stack_index])
        if len(beyond):
            row = int(beyond[0])
            header = headers[stack_index[row]]
            raise InputError(
                f"{source}, row {row + 1}: image {image_index[row] + 1} of {header.path} is asked for, which has "
                f"{header.n_images} images; the table and the stack do not belong together."
            )
        self.shape = (len(image_index), *headers[0].shape[1:])

    def __getitem__(self, index) -> Float[np.ndarray, ...]:
        first, *rest = index if isinstance(index, tuple) else (index,)
        rows = np.arange(len(self.image_index))[first]
        if rows.size * np.prod(self.shape[1:], dtype=float) * self.dtype.itemsize > _MOST_BYTES:
            raise MemoryError("These are too many images for one view; look at them in 2-D, one by one.")
        chosen = np.atleast_1d(rows)
        images = read_images(self.paths, self.stack_index[chosen], self.image_index[chosen])
        images = images if rows.ndim else images[0]
        return images[(slice(None), *rest) if rows.ndim else tuple(rest)]


def _common(source: Path, headers: list[MRCHeader]) -> float:
    """Pixel size (Å, of the first stack; 1 where it does not say) of stacks that all have one box (InputError)."""
    first = headers[0]
    other = next((header for header in headers if header.shape[1:] != first.shape[1:]), None)
    if other is not None:
        boxes = ["{} x {}".format(*header.shape[:0:-1]) for header in (first, other)]
        raise InputError(
            f"{source} has images of {boxes[0]} pixels ({first.path.name}) and of {boxes[1]} ({other.path.name}), "
            "which do not go into one stack; open the stacks one by one."
        )
    return first.voxel_size[0] or 1.0


def _stack_layer(images: _Images, name: str) -> LayerData:
    import dask.array as da

    rows = np.unique(np.linspace(0, len(images.image_index) - 1, _GREY_IMAGES).astype(int))
    some = read_images(images.paths, images.stack_index[rows], images.image_index[rows])
    low, high = np.nanpercentile(some, (_GREY_SHARE, 100 - _GREY_SHARE)).tolist()
    per_chunk = -(-len(images.image_index) // _MOST_CHUNKS)
    data = da.from_array(
        images, chunks=(per_chunk, *images.shape[1:]), name=False, meta=np.zeros((0, 0, 0), images.dtype)
    )
    _show_flat()
    settings = {
        **_space(1.0, images.pixel_size, images.pixel_size),
        "name": name,
        "axis_labels": ("particle", "y", "x"),
        "contrast_limits": (low, high if high > low else low + 1.0),
        "colormap": "gray",
        "rgb": False,
        "multiscale": False,
    }
    return data, settings, "image"


def _show_flat() -> None:
    """Look at a stack image by image: in 3-D all of it would be read as one volume."""
    import napari

    from cryosphere.viewer.widgets.notices import show_info

    viewer = napari.current_viewer()
    if viewer is not None:
        if viewer.dims.ndisplay == 3 and len(viewer.layers):
            show_info("Images are shown in 2-D; hide or remove them before going back to 3-D (Ctrl+Y).")
        viewer.dims.ndisplay = 2


def _show_right_handed(in_3d: bool = False) -> None:
    """Show x, y, z as a right-handed frame, perhaps in 3-D at once; light the surfaces that are about to be added."""
    import napari
    from qtpy.QtCore import QTimer

    from cryosphere.viewer.layers.stack import RIGHT_HANDED, light_surface

    viewer = napari.current_viewer()
    if viewer is None:
        return
    viewer.scene.camera.orientation = RIGHT_HANDED
    before = set(viewer.layers)

    def light() -> None:
        if in_3d and viewer.layers:
            viewer.dims.ndisplay = 3
        for layer in viewer.layers:
            if isinstance(layer, napari.layers.Surface) and layer not in before:
                light_surface(viewer, layer)

    QTimer.singleShot(0, light)


def _opened_run() -> RunWindow | None:
    """The run that is open in the current window."""
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        return None
    from cryosphere.viewer.window import opened_run

    return opened_run(viewer)


def _space(*scale: float) -> dict[str, Any]:
    return {"scale": scale, "units": ("angstrom",) * 3, "axis_labels": ("z", "y", "x")}


def read_map(path: Path) -> list[LayerData]:
    """A map in its place: axes z y x, pixel size as scale, origin as translation, Å; one section is an image.

    Where a run is open it becomes that run's map.

    Raises
    ------
    InputError
        As ``io.mrc.read_volume``.
    """
    if read_header(path).n_images == 1:
        return read_stack(path)
    opened = _opened_run()
    if opened is not None:
        opened.layers.set_map(path)
        return NO_LAYER
    density = read_volume(path)
    volume = density.volume
    low, high = float(volume.min()), float(volume.max())
    threshold = float(volume.mean() + _ISO_STD * volume.std())
    settings = {
        **_space(*(density.pixel_size,) * 3),
        "translate": tuple(density.origin[::-1].tolist()),
        "name": path.name,
        "contrast_limits": (low, high if high > low else low + 1.0),
        "rendering": "iso",
        "iso_threshold": min(max(threshold, low), high),
        "colormap": "gray",
        "rgb": False,
        "multiscale": False,
    }
    _show_right_handed()
    return [(volume, settings, "image")]


def read_tubes(path: Path) -> list[LayerData]:
    """Chains of a PDB or mmCIF file as tubes coloured by chain; of several models the first, the others hidden.

    Raises
    ------
    InputError
        As ``io.structures.read_structure``.
    """
    from cryosphere.viewer.widgets.notices import show_info

    _show_right_handed(in_3d=True)
    try:
        models = read_models(path)
    except InputError as error:
        structure = read_structure(path)
        show_info(f"The first model alone is shown. {error}")
        return [_tube_layer(structure, structure.residue_positions, path.name)]
    count = len(models.residue_positions)
    if count > _MOST_MODELS + 1:
        show_info(f"{path.name} has {count} models; the first {_MOST_MODELS + 1} are layers, all but the first hidden.")
    name = path.name if count == 1 else f"{path.name} model {{}}"
    return [
        _tube_layer(models.structure, positions, name.format(number), visible=number == 1)
        for number, positions in enumerate(models.residue_positions[: _MOST_MODELS + 1], start=1)
    ]


def _tube_layer(
    structure: Structure, positions: Float[np.ndarray, "residue 3"], name: str, visible: bool = True
) -> LayerData:
    from matplotlib.colors import to_rgb

    from cryosphere.analysis.style import segment_colour
    from cryosphere.viewer.tube import Tube

    tube = Tube(structure)
    chains = list(dict.fromkeys(structure.chain_ids.tolist()))
    colours = np.array([to_rgb(segment_colour(number)) for number in range(len(chains))])
    of_residue = np.array([chains.index(chain) for chain in structure.chain_ids.tolist()])
    settings = {
        **_space(1.0, 1.0, 1.0),
        "name": name,
        "vertex_colors": colours[of_residue[tube.vertex_residue]],
        "shading": "smooth",
        "visible": visible,
    }
    return (tube.vertices(positions.astype(np.float32))[:, ::-1], tube.faces), settings, "surface"
