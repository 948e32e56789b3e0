"""Tests; ``check`` is the type checker they run the package under: beartype with the numeric tower of PEP 484."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
