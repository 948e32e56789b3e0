"""Images per second of training, stage by stage, beside the published program and the floor of this machine.

    python benchmarks/speed.py --reference /tmp/reference/bin/python [--quick]

The published program lives in an environment of its own, as both are called cryosphere:

    python -m venv /tmp/reference
    /tmp/reference/bin/pip install torch==2.13.0 numpy scipy pandas matplotlib tqdm pyyaml mrcfile starfile gemmi \
        wandb roma einops biotite
    /tmp/reference/bin/pip install --no-deps cryosphere==0.6.1

Both train on the same images (noise) and structure (helices), epoch by epoch in turns; the fastest epoch of each
counts; OpenMP's threads of both wait as our command sets it. Stages are timed one by one, the fastest of some calls;
the epoch reads, steps and counts as training does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cryosphere.cli  # noqa: F401  # isort: skip  (sets what the command sets before torch is imported)
import numpy as np
import torch
from speed_floor import ceilings, floor
from speed_picture import draw
from speed_set import make_structure, make_table

from cryosphere.config import Config
from cryosphere.io.atomic import atomic_output
from cryosphere.model import losses
from cryosphere.model.vae import CryoSphere, KLWeights
from cryosphere.particles.dataset import ParticleImages
from cryosphere.physics.fourier import fourier_to_image
from cryosphere.physics.gaussians import project_fourier
from cryosphere.physics.rotations import rotmat_to_euler
from cryosphere.runs.layout import RunLayout
from cryosphere.runs.tables import read_metrics
from cryosphere.training import elbo, marginal

PIXEL_SIZE_A = 3.0
# Epochs of ours in a turn, which are short; one of the published program takes tens of times as long.
PASSES = 4
RESULTS = Path(__file__).parent / "results" / "speed.json"
# The published program holds all pairs of residues of a batch several times.
LARGEST_REFERENCE = 2000


@dataclass(frozen=True)
class Case:
    """What is trained: pixels along the box, images per step, residues, segments."""

    box_size: int = 64
    batch_size: int = 32
    n_residues: int = 1000
    n_segments: int = 20

    @property
    def n_images(self) -> int:
        """Images of the set: whole batches, and as many as the published program needs."""
        return max(2, -(-256 // self.batch_size)) * self.batch_size

    def config(self, preset: str) -> Config:
        """Configuration of some passes over the set; of the usual preset, of one."""
        usual = {"objective": "marginal"} if preset == "default" else {}
        return Config(
            particles={"file": Path("particles.star")},
            structure={"file": Path("base.cif")},
            segments={"n_segments": self.n_segments},
            model={"preset": preset} | ({"latent_dim": 2} if usual else {}),
            loss=usual,
            training={"held_out": 0.0, "batch_size": self.batch_size, "epochs": 1 if usual else PASSES}
            | ({"own_samples": 4} if usual else {}),
            output={"tensorboard": False},
        )


class Ours:
    """Our training of a case."""

    def __init__(self, case: Case, folder: Path, preset: str = "paper") -> None:
        self.case, self.folder, self.config = case, folder, case.config(preset)
        structure = make_structure(case.n_residues)
        table = make_table(folder, case.n_images, case.box_size, PIXEL_SIZE_A)
        torch.manual_seed(0)
        self.model = CryoSphere(structure, case.n_images, case.box_size, PIXEL_SIZE_A, self.config)
        self.images = ParticleImages(table, self.model.mask_radius)
        self.write_set(folder / "set.npz", structure.residue_positions, table)

    @staticmethod
    def write_set(path: Path, positions: np.ndarray, table) -> None:
        """What the published program is given."""
        angles = torch.stack(rotmat_to_euler(torch.from_numpy(table.rotmat)), dim=1)
        defocus = np.column_stack([table.defocus_u, table.defocus_v, np.degrees(table.defocus_angle)])
        np.savez(path, positions=positions, angles=np.degrees(angles.numpy()), shift=table.shift, defocus=defocus)

    def trainer(self, kind=elbo.ElboTrainer):
        """A trainer that has done nothing."""
        return kind(self.model, self.images, self.config, RunLayout(self.folder), "", show_progress=False)

    def epoch(self) -> float:
        """Images per second of the fastest of some epochs of the evidence lower bound, as training counts them."""
        self.trainer().train()
        return max(record["images_per_second"] for record in read_metrics(RunLayout(self.folder).metrics)[-PASSES:])

    def marginal_epoch(self) -> float:
        """The same of a round at full resolution of the usual objective, score features of all images included."""
        trainer = self.trainer(marginal.MarginalTrainer)
        stage = next(stage for stage in trainer.stages if stage.is_round)
        trainer.stages = [replace(stage, visits=self.case.n_images)]
        trainer.progress.verdict = {"motion": "not asked for"}
        trainer.train()
        return read_metrics(RunLayout(self.folder).metrics)[-1]["images_per_second"]

    def stages(self) -> dict[str, float]:
        """Milliseconds per image of every stage of a step."""
        case, model = self.case, self.model
        generator = torch.Generator().manual_seed(0)
        rows = np.arange(case.batch_size)
        renderer, batch = model.renderer, self.images.batch(rows)
        mean, _ = model.encoder(batch)
        noise = model.segmentation.noise(generator)

        def decode():
            return model.decode_with_sites(mean, model.segmentation.weights(model.segmentation.sample(noise)))

        def project():
            level = prepared.level
            where = (level.size, level.pixel_size)
            return project_fourier(sites, renderer.amplitudes, renderer.sigmas, batch.rotmat, *where)

        positions, sites = decode()
        prepared = renderer.prepare(batch)
        projected, rendered = project(), renderer.render(prepared, sites)
        total = model.loss(batch, KLWeights(1.0, 1.0, 1.0), torch.randn(mean.shape), noise).total
        optimiser = self.trainer().optimiser

        def transfer():
            renderer.prepare(batch)
            return fourier_to_image(projected * prepared.transfer, case.box_size) * prepared.level.mask

        def compare():
            return losses.correlation(prepared.images, rendered, prepared.level.mask), model.geometry(positions)

        times = {
            "load": fastest(lambda: self.images.batch(rows)),
            "encode": fastest(lambda: model.encoder(batch)),
            "motion": fastest(decode),
            "projection": fastest(project),
            "CTF": fastest(transfer),
            "loss": fastest(compare),
            "backward": fastest(lambda: total.backward(retain_graph=True)),
            "optimiser": fastest(optimiser.step),
        }
        return {name: round(1e3 * seconds / case.batch_size, 4) for name, seconds in times.items()}


class Reference:
    """The published program, waiting in a process of its own."""

    def __init__(self, python: Path, folder: Path, case: Case, clash: str) -> None:
        self.case = case
        job = {
            **asdict(case),
            "clash": clash,
            "pixel_size": PIXEL_SIZE_A,
            "n_images": case.n_images,
            "stack": next(folder.glob("*.mrcs")).name,
        }
        script = Path(__file__).with_name("speed_reference.py")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.process = subprocess.Popen(
            [str(python), str(script), str(folder), json.dumps(job)],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL},
            text=True,
            env=environment | {"WANDB_MODE": "disabled"},
        )

    def epoch(self) -> float:
        """Images per second of one epoch."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the published program ended; run speed_reference.py by hand to see why")
        return self.case.n_images / float(answer)

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *error) -> None:
        self.process.stdin.close()
        self.process.wait()


def fastest(function: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of some calls, after one that does not count."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def cases(quick: bool) -> list[Case]:
    """The rows of the bars; without ``quick`` also other boxes, residues, segments and batches."""
    rows = [Case(box_size=box, batch_size=batch) for box in (64, 128) for batch in (32, 128)]
    if not quick:
        rows += [Case(box_size=box, batch_size=64) for box in (64, 128, 256, 512)]
        rows += [Case(box_size=128, n_residues=n) for n in (200, 4000, 10_000, 50_000)]
        rows += [Case(box_size=128, n_segments=n) for n in (4, 64)]
    return rows


def measure(case: Case, machine: dict[str, float], python: Path | None, turns: int) -> dict:
    """Everything about a case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = Ours(case, folder)
        result = {**asdict(case), "milliseconds": ours.stages()}
        best = {"ours": 0.0}
        for clash in ("full", "light"):
            compared = python is not None and case.n_residues <= LARGEST_REFERENCE
            with Reference(python, folder, case, clash) if compared else nullcontext() as reference:
                for _ in range(turns):
                    best["ours"] = max(best["ours"], ours.epoch())
                    if reference is not None:
                        best[clash] = max(best.get(clash, 0.0), reference.epoch())
        result["images_per_second"] = {name: round(value, 1) for name, value in best.items()}
        result["ratio"] = {name: round(best["ours"] / best[name], 1) for name in ("full", "light") if name in best}
        result["floor_milliseconds"] = floor(case, ours.model, machine)
        if case.n_residues <= LARGEST_REFERENCE:
            usual = Ours(case, folder, preset="default")
            result["images_per_second"]["default preset"] = max(usual.marginal_epoch() for _ in range(turns))
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="Python of the published program's environment")
    parser.add_argument("--quick", action="store_true", help="the rows of the bars only")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--machine", default="", help="what it is, for the results")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(min(2, os.cpu_count()))
    machine = ceilings()
    report = {"machine": options.machine, "threads": torch.get_num_threads(), "ceilings": machine, "cases": []}
    for case in cases(options.quick):
        result = measure(case, machine, options.reference, options.turns)
        report["cases"].append(result)
        print(json.dumps(result), file=sys.stderr)
        with atomic_output(options.output, overwrite=True) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    with atomic_output(options.output.with_suffix(".png"), overwrite=True) as temporary:
        draw(temporary, report)


if __name__ == "__main__":
    main()
