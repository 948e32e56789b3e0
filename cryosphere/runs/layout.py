"""Every file of a run folder, each named once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunLayout:
    """Paths inside a run folder."""

    folder: Path

    @property
    def config(self) -> Path:
        """Resolved configuration (YAML)."""
        return self.folder / "config.yaml"

    @property
    def structure(self) -> Path:
        """Folder with a copy of the nominal structure's file, under its own name."""
        return self.folder / "structure"

    @property
    def particles(self) -> Path:
        """Particle table as it was read (npz)."""
        return self.folder / "particles.npz"

    @property
    def prepared(self) -> Path:
        """Folder with the stack of prepared images, where one is kept."""
        return self.folder / "prepared"

    @property
    def check(self) -> Path:
        """What the check before training found (JSON)."""
        return self.folder / "check.json"

    @property
    def versions(self) -> Path:
        """Versions of the packages that training began with (JSON)."""
        return self.folder / "versions.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def last_checkpoint(self) -> Path:
        """State from which training resumes."""
        return self.folder / "checkpoints" / "last.pt"

    @property
    def best_checkpoint(self) -> Path:
        """State of the epoch with the lowest held-out loss."""
        return self.folder / "checkpoints" / "best.pt"

    @property
    def posterior(self) -> Path:
        """Posterior of every particle (npz)."""
        return self.folder / "posterior.npz"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard events."""
        return self.folder / "tensorboard"

    @property
    def analysis(self) -> Path:
        """Tables and plots of ``analyze``."""
        return self.folder / "analysis"

    @property
    def evaluation(self) -> Path:
        """Scores of ``evaluate`` against a truth folder."""
        return self.folder / "evaluation"

    @property
    def report(self) -> Path:
        """The page of ``report``."""
        return self.folder / "report.html"
