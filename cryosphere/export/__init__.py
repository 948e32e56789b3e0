"""Conformations of a run as files that other programs read: coordinates, ensembles, volumes."""
