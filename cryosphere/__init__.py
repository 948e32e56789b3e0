"""cryoSPHERE: conformational ensembles from single-particle cryo-EM images and a nominal structure.

The public Python API is what ``__all__`` lists; names are loaded when first used, so that importing the package is
fast. Conventions (axes, signs, units) are in :mod:`cryosphere.conventions`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryosphere.analysis.analyze import analyze
    from cryosphere.analysis.columns import read_columns
    from cryosphere.analysis.results import read_analysis
    from cryosphere.config import Config
    from cryosphere.config_files import read_config
    from cryosphere.errors import ConfigError, CryosphereError, InputError, RunError
    from cryosphere.evaluation.evaluate import evaluate
    from cryosphere.export.particles import export_particles
    from cryosphere.io.particles import read_particles as load_particles
    from cryosphere.io.structures import read_structure as load_structure
    from cryosphere.particles.chosen import chosen_particles as choose_particles
    from cryosphere.pipelines.checked_training import train
    from cryosphere.pipelines.fit import fit
    from cryosphere.preflight.check import check
    from cryosphere.report.write import write_report
    from cryosphere.runs.run import Run
    from cryosphere.simulation.particles import simulate

_SOURCES = {
    "Config": ("cryosphere.config", "Config"),
    "ConfigError": ("cryosphere.errors", "ConfigError"),
    "CryosphereError": ("cryosphere.errors", "CryosphereError"),
    "InputError": ("cryosphere.errors", "InputError"),
    "Run": ("cryosphere.runs.run", "Run"),
    "RunError": ("cryosphere.errors", "RunError"),
    "analyze": ("cryosphere.analysis.analyze", "analyze"),
    "check": ("cryosphere.preflight.check", "check"),
    "choose_particles": ("cryosphere.particles.chosen", "chosen_particles"),
    "evaluate": ("cryosphere.evaluation.evaluate", "evaluate"),
    "export_particles": ("cryosphere.export.particles", "export_particles"),
    "fit": ("cryosphere.pipelines.fit", "fit"),
    "load_particles": ("cryosphere.io.particles", "read_particles"),
    "load_structure": ("cryosphere.io.structures", "read_structure"),
    "read_analysis": ("cryosphere.analysis.results", "read_analysis"),
    "read_columns": ("cryosphere.analysis.columns", "read_columns"),
    "read_config": ("cryosphere.config_files", "read_config"),
    "simulate": ("cryosphere.simulation.particles", "simulate"),
    "train": ("cryosphere.pipelines.checked_training", "train"),
    "write_report": ("cryosphere.report.write", "write_report"),
}

__all__ = [
    "Config",
    "ConfigError",
    "CryosphereError",
    "InputError",
    "Run",
    "RunError",
    "analyze",
    "check",
    "choose_particles",
    "evaluate",
    "export_particles",
    "fit",
    "load_particles",
    "load_structure",
    "read_analysis",
    "read_columns",
    "read_config",
    "simulate",
    "train",
    "write_report",
]
__version__ = _version("cryosphere")


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module 'cryosphere' has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
