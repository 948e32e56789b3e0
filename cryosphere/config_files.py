"""Configurations as files: read strictly from YAML, written, and the commented template that ``init`` writes."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cryosphere.config import Config, RegionConfig
from cryosphere.errors import ConfigError

_PATHS = (
    *(("particles", "file"), ("particles", "datadir"), ("particles", "index_file"), ("particles", "subset")),
    *(("structure", "file"), ("segments", "pae_file")),
)


def read_config(path: Path, overrides: tuple[str, ...] = (), check_files: bool = True) -> Config:
    """Read a YAML configuration strictly.

    Parameters
    ----------
    path : Path
        The file; relative paths in it are taken from its folder.
    overrides : tuple of str
        ``section.key=value`` items; values are read as YAML.
    check_files : bool
        Whether the input files must exist.

    Raises
    ------
    ConfigError
        A file that is not YAML (tabs), an unknown key (the nearest known one is named), a wrong type or range, an
        input file that does not exist.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration; `cryosphere init` writes one.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error}).") from None
    return parse_config(
        _load_yaml(text, str(path)), Path(os.path.abspath(path)).parent, str(path), overrides, check_files
    )


def parse_config(
    values: dict[str, Any],
    folder: Path,
    source: str = "configuration",
    overrides: tuple[str, ...] = (),
    check_files: bool = True,
) -> Config:
    """Check a configuration given as a mapping; see :func:`read_config`. ``folder`` anchors relative paths."""
    for item in overrides:
        values = _override(values, item)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error)}") from None
    resolved = config.model_dump()
    for section, key in _PATHS:
        if resolved[section][key] is not None:
            location = Path(os.path.abspath(folder / Path(resolved[section][key]).expanduser()))
            if check_files and not location.exists():
                raise ConfigError(f"{source}: {section}.{key}: {location} does not exist.")
            resolved[section][key] = location
    resolved["particles"]["path_map"] = {
        old: os.path.abspath(folder / Path(new).expanduser()) if new else ""
        for old, new in resolved["particles"]["path_map"].items()
    }
    return Config.model_validate(resolved)


def dump_config(config: Config) -> str:
    """YAML text of a resolved configuration; reading it gives the same configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def template(given: dict[tuple[str, str], Any], facts: list[str]) -> str:
    """Commented YAML for ``init``: the given keys set, every other one behind ``#`` at its default.

    Parameters
    ----------
    given : dict
        (section, key) → value; None leaves the default.
    facts : list of str
        Lines on what was read from the inputs (box, pixel size, residues …), written as comments at the top.
    """
    lines = [
        "# cryoSPHERE configuration. Paths are relative to this file.",
        "# A key behind '#' stands at its default; remove the '#' to set it (model.preset changes some defaults).",
    ]
    lines += [f"# {fact}" for fact in facts]
    for section, section_field in Config.model_fields.items():
        annotation = section_field.annotation
        lines += ["", f"# {annotation.__doc__.strip().splitlines()[0]}", f"{section}:"]
        for key, field in annotation.model_fields.items():
            value = given.get((section, key))
            sign = "  " if value is not None else "  # "
            if value is None and not field.is_required():
                value = field.get_default(call_default_factory=True)
            text = yaml.safe_dump(value, default_flow_style=True, width=1000).replace("\n...", "").strip()
            comment = f"  # {field.description}" if field.description else ""
            lines.append(f"{sign}{key}: {text}{comment}")
        if section == "segments":
            lines += [
                "  # for example regions: [{chain: A, first: 10, last: 120, n_segments: 3, starts: [10, 40, 90]}]",
            ]
    return "\n".join(lines) + "\n"


class _StrictLoader(yaml.SafeLoader):
    """Safe loading with 1e-4 read as a number, as in YAML 1.2, and a key given twice refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Build a mapping, refusing repeated keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", mark)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def _load_yaml(text: str, source: str) -> dict[str, Any]:
    for number, line in enumerate(text.splitlines(), start=1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            raise ConfigError(f"{source}: line {number} is indented with a tab; YAML wants spaces.")
    try:
        values = _StrictLoader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{source}: {where}not YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected sections such as 'particles:' and 'structure:', found none.")
    return values


def _override(values: dict[str, Any], item: str) -> dict[str, Any]:
    key, equals, text = item.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) != 2:
        raise ConfigError(f"--set {item!r}: expected section.key=value, for example training.epochs=20.")
    section, name = parts
    inner = values.get(section) or {}
    if not isinstance(inner, dict):
        raise ConfigError(f"{section}: expected keys under it, found {inner!r}.")
    return {**values, section: {**inner, name: _load_yaml(f"value: {text}", f"--set {item}")["value"]}}


def _explain(error: ValidationError) -> str:
    """First problem of a validation error as one sentence; a misspelt key comes before what it left missing."""
    problems = error.errors()
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "literal_error" and str(problem["loc"][-1]).startswith("literal["):
        return _explain_union(problems, problem)
    found = problem["input"]
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.0)
        return f"unknown key '{key}'; did you mean '{'.'.join([*map(str, problem['loc'][:-1]), near[0]])}'?"
    if problem["type"] == "missing":
        return f"'{key}' is missing; it is required."
    if problem["type"] == "value_error":
        return f"{problem['ctx']['error']}."
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"'{key}': {message.replace('input should be', 'expected')}, found {found!r}."


def _explain_union(problems: list[ErrorDetails], literal: ErrorDetails) -> str:
    """A value that is neither the word a key also takes (``auto``) nor a good number."""
    place = literal["loc"][:-1]
    other = next(p for p in problems if p["loc"][: len(place)] == place and p is not literal)
    message = (other["msg"][0].lower() + other["msg"][1:]).replace("input should be", "expected")
    key = ".".join(str(part) for part in place)
    return f"'{key}': {message}, or {literal['ctx']['expected']}, found {literal['input']!r}."


def _known_keys(location: tuple) -> list[str]:
    if not location:
        return list(Config.model_fields)
    if "regions" in location:
        return list(RegionConfig.model_fields)
    return list(Config.model_fields[location[0]].annotation.model_fields)
