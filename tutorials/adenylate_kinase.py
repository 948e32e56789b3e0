# %% [markdown]
# # Adenylate kinase, step by step
#
# What `cryosphere demo` does in one go, done here by hand in Python: simulate images of an opening enzyme, train from
# the closed structure alone, look at what was learned, and compare it with the truth. Run it as a script, or open it as
# a notebook (`jupytext --to ipynb adenylate_kinase.py`). Like the demo it takes minutes on two CPU cores.

# %%
from pathlib import Path

import numpy as np

import cryosphere
from cryosphere.export.ensemble import export_ensemble
from cryosphere.export.selection import select_traversal
from cryosphere.simulation.acquisition import SimulationSettings
from cryosphere.simulation.paths import read_path
from cryosphere.simulation.shipped_data import shipped_path

N_PARTICLES, EPOCHS = 5000, None
folder = Path("adenylate_kinase")

# %% [markdown]
# ## 1. Particles with a known truth
#
# PDB 1AKE (closed) and 4AKE (open) come with the package. `read_path` joins them by 50 states whose consecutive Cα
# distances stay those of a protein. `simulate` projects all atoms of a random state in a random pose, applies shift and
# CTF, and adds noise until the variance of the signal is 5 % of that of the noise. The result is a RELION 3.1 STAR file
# with its stack, the closed structure, and a folder `truth`.

# %%
conformations = read_path(shipped_path("adk/closed.cif"), shipped_path("adk/open.cif"), n_states=50, align="none")
settings = SimulationSettings(n_particles=N_PARTICLES, box_size=64, pixel_size=1.5, snr=0.05, seed=0)
summary = cryosphere.simulate(conformations, settings, folder / "particles")
print("\n".join(summary.lines()))

# %% [markdown]
# ## 2. Read them back
#
# Poses, shifts and CTF come from the STAR file, residues and their electrons from the structure. With your own data you
# would start here.

# %%
particles = cryosphere.load_particles(folder / "particles" / "particles.star")
structure = cryosphere.load_structure(folder / "particles" / "nominal.cif")
print(particles.n_particles, "particles;", particles.box_size, "px;", particles.pixel_size, "Å/px")
print(structure.n_residues, "residues in chains", sorted(set(structure.chain_ids)))

# %% [markdown]
# ## 3. Train
#
# Every key of the configuration but the two files has a default; `cryosphere init` writes them all with comments.
# Images that are kept out of training decide how many segments there are, and how many dimensions the motion has.

# %%
run = cryosphere.train(
    {
        "particles": {"file": str(folder / "particles" / "particles.star")},
        "structure": {"file": str(folder / "particles" / "nominal.cif")},
        "training": {"epochs": EPOCHS},
    },
    folder / "run",
    say=print,
)

# %% [markdown]
# ## 4. What each image says
#
# The posterior has a mean and a covariance per particle; `conformations` turns it into the expected structure of an
# image, in Å, with the origin at the box centre.

# %%
print("posterior means:", run.posterior.mean.shape)
first_three = run.conformations(particles=np.arange(3))
print("structures of the first three particles:", first_three.shape)
segments = run.segment_weights().argmax(1)
print("residues in each segment:", np.bincount(segments).tolist())

# %% [markdown]
# ## 5. Tables, plots, structures
#
# `analyze` fills `run/analysis`: motions, states, free energy, RMSF, traversals ([results.ipynb](results.ipynb) has
# them in Python); `write_report` makes one page of it all. The export below writes ten conformations along the main
# motion with all atoms, to be opened in ChimeraX beside a map.

# %%
cryosphere.analyze(run)
cryosphere.write_report(run)
export_ensemble(run, select_traversal(run, component=1, n_points=10), folder / "ensemble.cif")
print(sorted(path.name for path in run.layout.analysis.iterdir()))

# %% [markdown]
# ## 6. Against the truth
#
# Because the images were simulated, every structure can be checked: the first row is the mean distance of the structure
# found in each image from the one that made it.

# %%
scores = cryosphere.evaluate(run, folder / "particles" / "truth")
print(scores.table())
