"""An optimiser step in parts: as many images at a time as memory holds, each process its share, gradients added up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from cryosphere import distributed
from cryosphere.errors import RunError

# Mean terms of the objective over some of a step's images, the one to be minimised under "total".
TermsOf = Callable[[slice], dict[str, Tensor]]


@dataclass(frozen=True)
class Step:
    """Images of one optimiser step in a block.

    Attributes
    ----------
    n_images : int
        Of all processes.
    own : slice
        Those of this process, among all that it has of the block.
    place : slice
        Where these are in the step.
    """

    n_images: int
    own: slice
    place: slice


class Division:
    """Images of a block, cut into steps of consecutive ones, and every step's images shared out to the processes.

    Parameters
    ----------
    n_images : int
    step_size : int
        Images of a step; the last one may have fewer.
    """

    def __init__(self, n_images: int, step_size: int) -> None:
        self.n_images = n_images
        starts = range(0, n_images, step_size)
        self._step_sizes = [min(step_size, n_images - start) for start in starts]
        self._places = [self._places_of(number) for number in range(distributed.count())]

    def _places_of(self, process: int) -> Int[Tensor, " own"]:
        shares = [distributed.share(size, process) for size in self._step_sizes]
        starts = [sum(self._step_sizes[:number]) for number in range(len(shares))]
        ranges = [torch.arange(start + own.start, start + own.stop) for start, own in zip(starts, shares, strict=True)]
        return torch.cat(ranges)

    @property
    def places(self) -> Int[Tensor, " own"]:
        """Places in the block of the images of this process."""
        return self._places[distributed.rank()]

    def steps(self) -> list[Step]:
        """Steps of the block."""
        found, done = [], 0
        for size in self._step_sizes:
            place = distributed.share(size)
            count = place.stop - place.start
            found.append(Step(size, slice(done, done + count), place))
            done += count
        return found

    def gather(self, values: Shaped[Tensor, "own ..."]) -> Shaped[Tensor, "image ..."]:
        """Values of all images in the order of the block, from those of this process."""
        together = distributed.gather(values.contiguous(), [len(places) for places in self._places])
        order = torch.argsort(torch.cat(self._places)).to(values.device)
        return together if distributed.count() == 1 else together[order]


class GradientSum:
    """Gradient of the mean loss of a step's images, as large a part of them at a time as memory holds.

    Parts weigh by their images, so that gradients and terms are those of all images at once. When a part does not fit
    into the memory of the accelerator, parts of half as many images are tried from then on.

    Parameters
    ----------
    at_a_time : int, optional
        Images of a part; by default all.
    say : callable
        Told when parts become smaller.
    """

    def __init__(self, at_a_time: int | None = None, say: Callable[[str], None] = lambda sentence: None) -> None:
        self.at_a_time, self.say = at_a_time, say

    def __call__(
        self, parameters: Iterable[nn.Parameter], terms_of: TermsOf, names: Sequence[str], n_own: int, n_images: int
    ) -> dict[str, Tensor]:
        """Put gradients into parameters.

        Parameters
        ----------
        parameters : iterable of Parameter
            Those that the step moves.
        terms_of : callable
            Mean terms over a slice of this process's images; the same draws at every call.
        names : sequence of str
            Of the terms, in the order in which they are wanted.
        n_own, n_images : int
            Images of this process and of all.

        Returns
        -------
        dict of scalar tensors
            Mean terms over all images, detached.

        Raises
        ------
        RunError
            One image alone does not fit into memory.
        """
        parameters = list(parameters)
        while True:
            try:
                found = self._in_parts(parameters, terms_of, n_own, n_images)
                break
            except torch.OutOfMemoryError:
                self._take_fewer(n_own)
        return self._added_up(parameters, found, names)

    def _in_parts(self, parameters, terms_of: TermsOf, n_own: int, n_images: int) -> dict[str, Tensor]:
        for parameter in parameters:
            parameter.grad = None
        size = self.at_a_time or max(1, n_own)
        total: dict[str, Tensor] = {}
        for start in range(0, n_own, size):
            part = slice(start, min(start + size, n_own))
            weight = (part.stop - part.start) / n_images
            terms = terms_of(part)
            (weight * terms["total"]).backward()
            for name, value in terms.items():
                total[name] = total.get(name, 0.0) + weight * value.detach()
        return total

    def _take_fewer(self, n_own: int) -> None:
        size = min(self.at_a_time or n_own, n_own)
        if size == 1:
            raise RunError(
                "one image does not fit into the memory of the device: use coarser pixels (particles.pixel_size), "
                "fewer segments, or --device cpu."
            )
        self.at_a_time = math.ceil(size / 2)
        torch.cuda.empty_cache()
        self.say(f"The device's memory is too small for {size} images at a time: going on with {self.at_a_time}.")

    @staticmethod
    def _added_up(parameters: list[nn.Parameter], terms: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        """Gradients and terms summed over processes; one without images of the step has nothing to add."""
        if distributed.count() == 1:
            return {name: terms[name] for name in names}
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        distributed.add_up([parameter.grad for parameter in parameters])
        values = parameters[0].new_zeros(len(names), dtype=torch.float64)
        if terms:
            values += torch.stack([terms[name] for name in names])
        distributed.add_up([values])
        return dict(zip(names, values, strict=True))
