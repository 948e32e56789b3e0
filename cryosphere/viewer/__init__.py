"""napari plugin: conformations, particles and the map of a run together.

``session.py`` and what it uses know neither Qt nor napari; ``layers/`` draws a session in napari; ``widgets/`` are
thin.
"""
