"""The memory that ``check`` and ``train`` announce against the peak that is measured, one process for each setting.

    python benchmarks/memory.py -o benchmarks/results/memory.json

Images of noise and a compact chain. Of the usual training the stages before full resolution are left out, as they take
less memory and much time: one block, the models compared on held-out images, and the posterior are what is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
from pathlib import Path

import gemmi
import numpy as np
from read_star import write_stack

SPACING = 3.8
# Box, Å per pixel, residues, particles, and sections of the configuration.
SETTINGS = {
    "32 px": (32, 4.0, 200, 1000, {}),
    "64 px": (64, 3.0, 1000, 1500, {}),
    "64 px, 2 dimensions": (64, 3.0, 1000, 400, {"model": {"latent_dim": 2}}),
    "128 px, 8 conformations": (
        *(128, 2.0, 1000, 600),
        {"training": {"n_nodes": 8}, "inference": {"n_conformations": 8}},
    ),
    "64 px, 100,000 particles": (64, 3.0, 200, 100_000, {"training": {"n_nodes": 4}}),
    "64 px, paper": (64, 3.0, 1000, 1000, {"model": {"preset": "paper"}}),
    "128 px, paper, batch 256": (128, 3.0, 1000, 1000, {"model": {"preset": "paper"}, "training": {"batch_size": 256}}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    options = parser.parse_args()
    found = []
    for name in options.settings:
        box, pixel_size, n_residues, n_particles, sections = SETTINGS[name]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_structure(folder, n_residues)
            write_particles(folder, n_particles, box, pixel_size)
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                found.append({"setting": name, **pool.apply(measure, (folder, n_particles, sections))})
        print(json.dumps(found[-1]), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=2) + "\n")


def measure(folder: Path, n_particles: int, sections: dict) -> dict[str, float]:
    """Estimated and measured peak memory of a run."""
    needed = train(folder, n_particles, sections) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"estimated_gb": round(needed, 2), "measured_gb": round(peak, 2), "ratio": round(needed / peak, 2)}


def train(folder: Path, n_particles: int, sections: dict) -> float:
    """Train at full resolution; bytes that were announced."""
    from cryosphere.config_files import parse_config
    from cryosphere.preflight.resources import Resources
    from cryosphere.training import marginal
    from cryosphere.training import train as training

    marginal.plan = lambda *_: [marginal.Stage("full resolution", "latent", None, 1024, 1024)]
    marginal.LEAST_JUDGES = n_particles
    values = {
        "particles": {"file": "particles.star"},
        "structure": {"file": "model.cif", "origin": "center"},
        **sections,
    }
    values["segments"] = {"n_segments": 12}
    values["model"] = {"latent_dim": 1, **values.get("model", {})}
    values["training"] = {
        "epochs": 1,
        "device": "cpu",
        "held_out": min(0.05, 200 / n_particles),
        **values.get("training", {}),
    }
    told = []
    training.train(
        parse_config(values, folder),
        folder / "run",
        show_progress=False,
        check=lambda config, table, structure, say: told.append(Resources.of(config, table, structure)),
    )
    return sum(told[0].required.ram.values())


def write_structure(folder: Path, n_residues: int) -> None:
    """A chain of Cα atoms that fills a cube back and forth."""
    side = round(n_residues ** (1 / 3)) + 1
    chain = gemmi.Chain("A")
    for number in range(n_residues):
        z, rest = divmod(number, side**2)
        y, x = divmod(rest, side)
        y = side - 1 - y if z % 2 else y
        x = side - 1 - x if (z * side + y) % 2 else x
        atom = gemmi.Atom()
        atom.name, atom.element = "CA", gemmi.Element("C")
        atom.pos = gemmi.Position(*(SPACING * (np.array([x, y, z]) - side / 2)))
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(number + 1, " ")
        residue.add_atom(atom)
        chain.add_residue(residue)
    model, structure = gemmi.Model(1), gemmi.Structure()
    model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(folder / "model.cif"))


def write_particles(folder: Path, n_particles: int, box: int, pixel_size: float) -> None:
    """Noise with random poses."""
    random = np.random.default_rng(0)
    pool = random.normal(size=(100, box, box)).astype(np.float32)
    write_stack(folder / "particles.mrcs", n_particles, box)
    with open(folder / "particles.mrcs", "r+b") as file:
        file.seek(1024)
        for start in range(0, n_particles, len(pool)):
            file.write(pool[: n_particles - start].data)
    optics = (
        "OpticsGroup OpticsGroupName AmplitudeContrast SphericalAberration Voltage ImagePixelSize ImageSize".split()
    )
    columns = (
        "ImageName OpticsGroup AngleRot AngleTilt AnglePsi OriginXAngst OriginYAngst DefocusU DefocusV DefocusAngle"
    )
    angles = random.uniform(0, 180, (n_particles, 3))
    with open(folder / "particles.star", "w") as file:
        file.write("data_optics\n\nloop_\n" + "".join(f"_rln{name}\n" for name in optics))
        file.write(f"1 one 0.1 2.7 300 {pixel_size} {box}\n\ndata_particles\n\nloop_\n")
        file.write("".join(f"_rln{name}\n" for name in columns.split()))
        for number, (rot, tilt, psi) in enumerate(angles, start=1):
            file.write(f"{number}@particles.mrcs 1 {rot:.2f} {tilt:.2f} {psi:.2f} 0.5 -0.5 12000 11800 30\n")


if __name__ == "__main__":
    main()
