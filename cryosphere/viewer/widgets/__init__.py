"""Panels beside the napari canvas: each shows a part of a session and changes nothing else."""
