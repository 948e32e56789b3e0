"""Metrics of a run as JSON lines and, where installed, TensorBoard events."""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
from pathlib import Path
from typing import Any

from cryosphere import distributed
from cryosphere.io.atomic import atomic_output
from cryosphere.runs.tables import read_metrics


class Metrics:
    """One JSON object per finished epoch or stage, appended and flushed to disk at once; TensorBoard scalars beside.

    Parameters
    ----------
    path : Path
        Of the JSON lines.
    events : Path, optional
        Folder of the TensorBoard events; without it, or where tensorboard is not installed, there are none.
    """

    def __init__(self, path: Path, events: Path | None) -> None:
        self.path, self.events = path, events
        self._writer = None

    def open(self, epoch: int) -> None:
        """Drop records after ``epoch`` and any line cut short by a kill, so that the file continues seamlessly."""
        kept = [record for record in read_metrics(self.path) if record["epoch"] <= epoch]
        with atomic_output(self.path, overwrite=True) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
        if self.events is not None and importlib.util.find_spec("tensorboard") is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter
            self._writer = SummaryWriter(str(self.events))

    def append(self, record: dict[str, Any]) -> None:
        """Add a record: ``epoch``, the terms ``train`` and ``held_out`` (or None), ``learning_rate``, and more.

        Of several processes the first one writes.
        """
        if not distributed.is_main():
            return
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._writer is None:
            return
        for group in ("train", "held_out"):
            for name, value in (record[group] or {}).items():
                self._writer.add_scalar(f"{group}/{name}", value, record["epoch"])
        for name in ("learning_rate", "images_per_second"):
            self._writer.add_scalar(name, record[name], record["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
