"""Whether a run fits into memory, GPU memory and disk of this machine, and what to change where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryosphere import distributed
from cryosphere.config import Config, choose_device
from cryosphere.errors import ConfigError
from cryosphere.preflight.facts import Fact
from cryosphere.preflight.memory import Requirements, Workload, requirements
from cryosphere.preflight.verdicts import Verdict
from cryosphere.records import ParticleTable, Structure
from cryosphere.training.memory import free_disk, free_on, free_ram, resident

# Requirements of memory are estimates, at most a half too high: a run that needs more than so many times what is there
# certainly does not fit.
_CERTAIN = 1.5
_NAMES = {"ram": "memory", "gpu": "GPU memory", "disk": "disk"}
_REMEDIES = {
    "transforms": "set a smaller training.n_nodes and inference.n_conformations, or a coarser particles.pixel_size",
    "step": "set a smaller training.batch_size or fewer segments.n_segments",
    "images": "set a coarser particles.pixel_size",
    "posterior": "set a smaller inference.n_conformations, or take fewer particles (--select)",
    "particles": "take fewer particles (--select)",
    "prepared images": "set a coarser particles.pixel_size, particles.stack: none, or another -o",
}
_USUAL_REMEDY = "use a machine that has more"


@dataclass(frozen=True)
class Resources:
    """What a run takes, and what there is for it.

    Attributes
    ----------
    required : Requirements
    free : dict
        Bytes free as ``ram`` (what the program has already included), ``gpu`` and ``disk``; without ``gpu`` where there
        is none, or none here.
    place : str
        Where the run would be written.
    """

    required: Requirements
    free: dict[str, float]
    place: str

    @classmethod
    def of(
        cls,
        config: Config,
        table: ParticleTable,
        structure: Structure,
        run_folder: Path | None = None,
        device: str | None = None,
    ) -> Resources:
        """Resources of a run on this machine.

        Parameters
        ----------
        config : Config
        table, structure : ParticleTable, Structure
            As read, so that what they take is in the memory of this process.
        run_folder : Path, optional
            By default in the current folder; a run that is there already counts as free.
        device : str, optional
            In place of ``training.device``.
        """
        wanted = device or config.training.device
        try:
            name = choose_device(wanted)
            free = {"gpu": free_on(name)} if name != "cpu" else {}
        except ConfigError:  # a check before the run goes to a machine that has it
            name, free = wanted, {}
        own = resident()
        required = requirements(Workload.of(config, table, structure), name, own)
        place = Path.cwd() if run_folder is None else run_folder
        there = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) if run_folder else 0
        free |= {"ram": free_ram() // distributed.n_on_this_machine() + own, "disk": free_disk(place) + there}
        return cls(required, free, "the current folder" if run_folder is None else str(run_folder))

    def facts(self) -> list[Fact]:
        """Lines of the table."""
        found = []
        for kind, name in _NAMES.items():
            parts = getattr(self.required, kind)
            if not parts:
                continue
            needed, free = sum(parts.values()), self.free.get(kind)
            text = f"about {size(needed)}{self._there(kind)}: " + ", ".join(
                f"{part} {size(value)}" for part, value in sorted(parts.items(), key=lambda item: -item[1])
            )
            if kind == "disk":
                text += f"; coordinates of every particle, if exported, {size(self.required.coordinates)}"
            values = {"needed_bytes": needed, "free_bytes": free, "parts_bytes": parts}
            found.append(Fact(name, text, values))
        return found

    def sentence(self) -> str:
        """What the run takes, in one line."""
        told = [
            f"{size(sum(getattr(self.required, kind).values()))} of {name}{self._there(kind)}"
            for kind, name in _NAMES.items()
            if getattr(self.required, kind)
        ]
        return f"The run takes about {', '.join(told)}."

    def verdicts(self) -> list[Verdict]:
        """What does not fit, with what to change."""
        found = []
        for kind, name in _NAMES.items():
            parts, free = getattr(self.required, kind), self.free.get(kind)
            needed = sum(parts.values())
            if free is None or needed <= free:
                continue
            largest = max(parts, key=parts.get)
            sentence = f"The run needs about {size(needed)} of {name}, of which {size(parts[largest])} for {largest};"
            sentence += f" {size(free)} are there{f' in {self.place}' if kind == 'disk' else ''}:"
            remedy = _REMEDIES.get(largest, _USUAL_REMEDY)
            found.append(Verdict(name, sentence, f"{remedy}.", fatal=kind == "disk" or needed > _CERTAIN * free))
        return found

    def _there(self, kind: str) -> str:
        if kind not in self.free:
            return ""
        return f" ({size(self.free[kind])} there{f' in {self.place}' if kind == 'disk' else ''})"


def size(n_bytes: float) -> str:
    """Bytes in words."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
