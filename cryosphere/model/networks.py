"""The one multilayer perceptron that encoder and decoder are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn


def multilayer_perceptron(n_inputs: int, hidden: Sequence[int], n_outputs: int) -> nn.Sequential:
    """Linear layers with leaky ReLU between them."""
    sizes = [n_inputs, *hidden]
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_outputs))
