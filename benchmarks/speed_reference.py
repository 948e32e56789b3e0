"""Epochs of the published program (cryosphere 0.6.1 of PyPI), as it runs them, each when asked for.

Started by ``speed.py`` in the environment of that program: ``python speed_reference.py FOLDER JOB``. JOB is JSON; a
line on stdin asks for an epoch, a line on stdout answers with its seconds. Its functions are called as they are, and
for want of a GPU three things around them are replaced: ``torchvision`` (only its resize, which is not called), the
wrapper DistributedDataParallel (which would need one), and saving after each epoch (which is left out).
"""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch

BETAS = {
    "KL_prior_latent": {"schedule": "linear"},
    "KL_prior_segmentation_mean": {"schedule": "linear"},
    "KL_prior_segmentation_std": {"schedule": "linear"},
    "KL_prior_segmentation_proportions": {"schedule": "cyclical"},
    "l2_pen": {"schedule": "constant", "beta": 1e-6},
    "continuity_loss": {"schedule": "constant", "beta": 0.1},
}


def main() -> None:
    folder, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr  # the program prints
    program = import_program()
    epoch = prepare(program, folder, job)
    epoch()
    for _ in sys.stdin:
        start = time.perf_counter()
        epoch()
        print(time.perf_counter() - start, file=answers, flush=True)


def import_program():
    """The program's training module, made to run on a CPU."""
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = [types.ModuleType(name) for name in names]
    modules[0].transforms, modules[1].functional = modules[1:]
    sys.modules |= dict(zip(names, modules, strict=True))
    from cryosphere import cryosphere_train as program

    class Alone:
        def __init__(self, module, device_ids):
            self.module = module

    program.DDP = Alone
    program.model.utils.monitor_training = lambda *arguments: None
    program.tqdm = iter
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    return program


def prepare(program, folder: Path, job: dict):
    """Function that trains for one epoch."""
    import yaml

    with np.load(folder / "set.npz") as made:
        write_star(folder / "particles.star", made, job["stack"])
        write_pdb(folder / "base.pdb", made["positions"])
    image = {"apix": job["pixel_size"], "Npix": job["box_size"], "Npix_downsize": job["box_size"], "sigma_gmm": 2.0}
    clash = {"schedule": "constant", "beta": 0.1, "clashing_cutoff": 4, "full_clashing_loss": job["clash"] == "full"}
    clash |= {"min_clashing_cutoff_pairs": 4, "max_clashing_cutoff_pairs": 10}
    settings = {
        "folder_path": str(folder),
        "image_yaml": "image.yaml",
        "particles_path": str(folder),
        "base_structure_path": "base.pdb",
        "cs_star_file": {"file": str(folder / "particles.star")},
        "segmentation_config": {"part": {"N_segm": job["n_segments"], "all_protein": True}},
        "encoder": {"hidden_dimensions": [512, 256, 64, 64]},
        "decoder": {"hidden_dimensions": [512, 512]},
        "optimizer": {"name": "adam", "learning_rate": 3e-5, "learning_rate_segmentation": 3e-4},
        "loss": BETAS | {"clashing_loss": clash},
        "resume_training": {"model": None, "segmentation": None},
        **{"latent_dimension": 8, "tau_segmentation": 0.05, "epsilon_kl": "1e-10", "amortized": True},
        **{"N_epochs": 100, "batch_size": job["batch_size"], "N_images": job["n_images"], "num_workers": 0},
        **{"wandb": False, "seed": 1, "deterministic_cuda": False, "device": "CPU"},
    }
    for name, values in (("image.yaml", image), ("settings.yaml", settings)):
        (folder / name).write_text(yaml.safe_dump(values))
    made = list(program.model.utils.parse_yaml(str(folder / "settings.yaml"), 0))
    made[7] = 1  # epochs
    del made[10]  # device
    return lambda: program.start_training(*made, "cpu")


def write_star(path: Path, made, stack: str) -> None:
    """Particle table of RELION 3.0."""
    names = "ImageName AngleRot AngleTilt AnglePsi OriginXAngst OriginYAngst DefocusU DefocusV DefocusAngle Voltage "
    names += "SphericalAberration AmplitudeContrast PhaseShift"
    lines = ["", "data_particles", "", "loop_", *(f"_rln{name}" for name in names.split())]
    columns = np.column_stack([made["angles"], made["shift"], made["defocus"]])
    for index, row in enumerate(columns.tolist(), start=1):
        lines.append(f"{index}@{stack} " + " ".join(f"{value:.6f}" for value in row) + " 300.0 2.7 0.1 0.0")
    path.write_text("\n".join([*lines, ""]))


def write_pdb(path: Path, positions: np.ndarray) -> None:
    """One Cα per residue."""
    lines = [
        f"ATOM  {i:5d}  CA  ALA A{i:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
        for i, (x, y, z) in enumerate(positions.tolist(), start=1)
    ]
    path.write_text("\n".join([*lines, "END", ""]))


if __name__ == "__main__":
    main()
