"""The run folder: the name of every file in it, checkpoints, and the :class:`~cryosphere.runs.run.Run` object."""
