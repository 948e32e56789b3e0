"""The one multilayer perceptron that encoder and decoder are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn


def multilayer_perceptron(
    n_inputs: int, hidden: Sequence[int], n_outputs: int, activation: type[nn.Module] = nn.LeakyReLU
) -> nn.Sequential:
    """Linear layers with an activation between them, leaky ReLU by default."""
    sizes = [n_inputs, *hidden]
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_outputs))
