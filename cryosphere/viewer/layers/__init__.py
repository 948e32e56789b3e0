"""A session as napari layers."""

from cryosphere.viewer.layers.scene import SceneLayers

__all__ = ["SceneLayers"]
