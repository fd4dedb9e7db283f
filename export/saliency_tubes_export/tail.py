"""In any ONNX classifier: what is averaged, and how the average becomes the logits.

A saliency tube needs what the network averages (`features`) and how it weighs the average (the head). Both are read off
the graph, by walking back from its logits, so that it does not matter which framework or network the graph came from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from saliency_tubes.errors import TailError
from saliency_tubes.head import Head, Hidden

from .convolution import attributes_of
from .factoring import Factored, affine, factored
from .linear import evaluate
from .lookup import Lookup
from .route import Route, find_route


@dataclass(frozen=True)
class Pathway:
    """A tensor that is averaged.

    Attributes:
        tensor: its name.
        channel_axis: which of its four axes is C; the others are t, h and w, in this order.
        shape: (C, t, h, w).
        by_frame: whether its first axis is clips and frames in one, N * t.
    """

    tensor: str
    channel_axis: int
    shape: tuple[int, int, int, int]
    by_frame: bool

    @property
    def sides(self) -> tuple[int, ...]:
        """The four axes as they lie in the tensor, of one clip."""
        places = list(self.shape[1:])
        places.insert(self.channel_axis, self.shape[0])
        return tuple(places)

    @property
    def perm(self) -> list[int]:
        """What transposes (N, *sides) into (N, C, t, h, w)."""
        axis = self.channel_axis + 1
        return [0, axis, *(other for other in range(1, 5) if other != axis)]


@dataclass(frozen=True, eq=False)
class Tail:
    """Where a classifier ends.

    Attributes:
        logits: name of the tensor of logits, (N, K), or (N, K, 1, ...).
        logits_rank: how many axes the logits have.
        softmax: the operator behind the logits that is left out, Softmax or LogSoftmax; None where there is none.
        pathways: what is averaged: one tensor, or several whose averages are concatenated.
        head: how the average becomes the logits; its channels are those of all pathways, one after the other.
    """

    logits: str
    logits_rank: int
    softmax: str | None
    pathways: tuple[Pathway, ...]
    head: Head

    @property
    def features_shape(self) -> tuple[int, int, int, int]:
        """(C, t, h, w) of all pathways together: the shortest grid into which all of theirs divide."""
        t, h, w = _grid(self.pathways)
        return sum(one.shape[0] for one in self.pathways), t, h, w

    def features(self, tensors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The tensors of the pathways, for N clips, as one array, (N, C, t, h, w) float32.

        Where a pathway has fewer steps of time than another, each of its steps stands for several: its mean, and so
        the logits, stay the same.
        """
        _, *grid = self.features_shape
        volumes = []
        for one, tensor in zip(self.pathways, tensors, strict=True):
            volume = tensor.reshape(-1, *one.sides).transpose(one.perm)
            volumes.append(_spread(volume, grid))
        return np.concatenate(volumes, axis=1)


def find_tail(model: onnx.ModelProto, logits: str | None = None, features: str | None = None) -> Tail:
    """Find what a graph averages, and the linear layers around or behind that.

    Args:
        model: an ONNX classifier, of static shapes but for N; frames one by one, for one clip.
        logits: which tensor to take for the logits; None for the output that ends in such a tail.
        features: which tensor to take for what is averaged; None for what the pooling is applied to.

    Raises:
        TailError: the graph ends in something else, or in several such tails; the message lists its last nodes.
    """
    look = Lookup(model)
    check_names(look, logits, features)
    ends = [logits] if logits is not None else [info.name for info in look.graph.output]
    found: dict[str, Tail] = {}
    refused: list[TailError] = []
    for end in ends:
        try:
            tail = _tail(look, find_route(look, end, features), end)
            found.setdefault(tail.logits, tail)
        except TailError as error:
            refused.append(error)
    if len(found) > 1:
        raise look.error(f"{' and '.join(found)} do both: choose one with --logits")
    if not found:
        raise refused[0]
    return next(iter(found.values()))


def check_names(look: Lookup, logits: str | None, features: str | None) -> None:
    """Tensors that options name have to be there.

    Raises:
        TailError: one is not.
    """
    for option, name in (("--logits", logits), ("--features", features)):
        if name is not None and name not in look.producers:
            raise look.error(f"the graph computes no tensor called {name!r}, which {option} names")


def _tail(look: Lookup, route: Route, end: str) -> Tail:
    ways = factored(look, route, end)
    head = _head(look, route, ways, end)
    pathways = tuple(_pathway(look, one) for one in ways)
    return Tail(route.logits, len(look.shapes[route.logits]), route.softmax, pathways, head)


def _head(look: Lookup, route: Route, ways: Sequence[Factored], end: str) -> Head:
    weight = np.concatenate([one.weight for one in ways], axis=1)
    bias = ways[0].bias
    hidden = None
    if route.relu is not None:
        hidden = Hidden(np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32))
        name = route.relu.output[0]
        shape = look.of_one_clip(name)
        weight, bias = affine(
            lambda x: evaluate(route.behind_relu, {name: x.reshape(len(x) * shape[0], *shape[1:])}, look)[route.logits],
            len(bias),
        )
    return Head(
        np.ascontiguousarray(weight, np.float32),
        np.ascontiguousarray(bias, np.float32),
        _coverage(look, ways, end),
        hidden,
    )


def _coverage(look: Lookup, ways: Sequence[Factored], end: str) -> NDArray[np.float32] | None:
    """How often windows cover each place; pathways have to agree."""
    if all(one.coverage is None for one in ways):
        return None
    grid = _grid(ways)
    spread = [_spread(np.ones(one.shape[1:]) if one.coverage is None else one.coverage, grid) for one in ways]
    if not all(np.allclose(spread[0], other, rtol=1e-6) for other in spread[1:]):
        raise look.error("the pathways are averaged over windows that cover places differently", None, end)
    return np.ascontiguousarray(spread[0], np.float32)


def _grid(parts: Sequence[Pathway | Factored]) -> list[int]:
    """(t, h, w) into which the grids of all parts divide."""
    return [math.lcm(*sides) for sides in zip(*(one.shape[1:] for one in parts), strict=True)]


def _spread(volume: NDArray[Any], grid: Sequence[int]) -> NDArray[Any]:
    """A volume, its last axes (t, h, w), on a finer grid: each cell stands for several."""
    for axis, side in enumerate(grid, start=volume.ndim - len(grid)):
        volume = np.repeat(volume, side // volume.shape[axis], axis=axis)
    return volume


def _pathway(look: Lookup, one: Factored) -> Pathway:
    """What is averaged; before a Transpose that moved its channels to the end, where there is one."""
    pathway = Pathway(one.tensor, one.channel_axis, one.shape, look.of_one_clip(one.tensor)[0] != 1)
    maker = look.producers.get(one.tensor)
    if pathway.by_frame or maker is None or maker.op_type != "Transpose":
        return pathway
    perm = attributes_of(maker).get("perm", [])
    if [perm[axis] for axis in pathway.perm] == sorted(perm):
        return Pathway(str(maker.input[0]), 0, one.shape, by_frame=False)
    return pathway
