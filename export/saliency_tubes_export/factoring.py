"""From a chain of linear nodes to the weights of channels and of places: ``logits = W mean(V * A) + b``.

What a chain computes is tried out, in double precision, and not read off its nodes, so that every composition of linear
layers, poolings and means comes out right, or is seen to be something else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from saliency_tubes.errors import TailError

from .linear import MOVES, evaluate
from .lookup import Lookup
from .pooling import averages
from .route import Route

_CLOSE = 1e-9  # relative, in double precision
_CHUNK = 2**23  # values that are tried at once
_CHANNEL_AXES = (0, 3, 1)  # of (C, t, h, w), (t, h, w, C), and (t, C, h, w)

_Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Factored:
    """What a tensor contributes to the logits, or to the hidden layer before them.

    Attributes:
        tensor: its name.
        channel_axis: which of its four axes is C; the others are t, h and w, in this order.
        shape: (C, t, h, w).
        weight: W, (K, C).
        bias: b, (K,), of all tensors together.
        coverage: V, (t, h, w) of mean 1; None where all places count alike.
    """

    tensor: str
    channel_axis: int
    shape: tuple[int, int, int, int]
    weight: _Values
    bias: _Values
    coverage: _Values | None


def factored(look: Lookup, route: Route, end: str) -> list[Factored]:
    """The factors of every tensor that is averaged.

    Raises:
        TailError: places or channels are not weighed by one number each.
    """
    return [_Trial(look, route, name, end).factored() for name in route.features]


def affine(compute: Callable[[_Values], _Values], inputs: int) -> tuple[_Values, _Values]:
    """W (K, inputs) and b (K,) of an affine function from (B, inputs) to (B, K) or (B, K, 1, ...)."""
    bias = compute(np.zeros((1, inputs))).ravel()
    rows = []
    step = max(1, _CHUNK // inputs)
    for first in range(0, inputs, step):
        basis = np.eye(min(step, inputs - first), inputs, k=first)
        rows.append(compute(basis).reshape(len(basis), -1) - bias)
    return np.concatenate(rows).T, bias


class _Trial:
    """Tries out what one of the averaged tensors does, while the others are zero."""

    def __init__(self, look: Lookup, route: Route, tensor: str, end: str) -> None:
        self.look, self.route, self.tensor, self.end = look, route, tensor, end
        self.target = route.logits if route.relu is None else str(route.relu.input[0])
        whole = look.of_one_clip(tensor)
        self.sides = whole[1:] if whole[0] == 1 else whole
        if len(self.sides) != 4:
            raise look.error(
                f"{tensor}, which is averaged, is of {look.sides(tensor)}, and not one volume (t, h, w) a clip: "
                "images are not supported",
                look.producers.get(tensor),
                end,
            )

    def factored(self) -> Factored:
        """The factors.

        Raises:
            TailError: there are none.
        """
        bias = self._run(np.zeros((1, *self.sides)))[0]
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2, *self.sides))
        found = self._run(x)
        for axis in _CHANNEL_AXES:
            even = np.broadcast_to(x.mean(axis=_places(axis), keepdims=True), x.shape)
            if _equal(self._run(even), found):
                return self._of(axis, bias, None)
        for axis in _CHANNEL_AXES:
            one = self._of(axis, bias, self._coverage(axis, bias, rng))
            covered = x * np.expand_dims(np.asarray(one.coverage), axis)
            if _equal(covered.mean(axis=_places(axis)) @ one.weight.T + bias, found):
                return one
        raise self._uneven()

    def _of(self, axis: int, bias: _Values, coverage: _Values | None) -> Factored:
        t, h, w = (side for other, side in enumerate(self.sides) if other != axis)
        return Factored(self.tensor, axis, (self.sides[axis], t, h, w), self._weight(axis, bias), bias, coverage)

    def _weight(self, axis: int, bias: _Values) -> _Values:
        """(K, C): what a channel does that is 1 everywhere.

        What the poolings at the beginning make of that is the same in every channel, so that it is tried once for all:
        with a volume that holds the number of its channel.
        """
        channels = self.sides[axis]
        numbers = np.arange(1.0, channels + 1).reshape([-1 if other == axis else 1 for other in range(4)])
        volume = np.broadcast_to(numbers, self.sides)
        name, pooled = self._pooled(volume)
        if name == self.tensor or not _equal(pooled, np.rint(pooled)):  # padding that counts makes less of ones
            name, pooled = self.tensor, volume[None]
        step = max(1, _CHUNK // pooled.size)
        rows = []
        for first in range(1, channels + 1, step):
            chunk = np.arange(first, min(first + step, channels + 1))
            probes = (np.rint(pooled)[None] == chunk.reshape(-1, *[1] * pooled.ndim)).astype(np.float64)
            rows.append(self._run(probes.reshape(-1, *pooled.shape[1:]), name, len(chunk)) - bias)
        return np.concatenate(rows).T

    def _pooled(self, volume: _Values) -> tuple[str, _Values]:
        """The last tensor that only poolings and moves have made, and its values for a volume."""
        name, values = self.tensor, {self.tensor: volume.reshape(self.look.of_one_clip(self.tensor))}
        for node in self.route.before_relu:
            if node.input[0] == name and (averages(node, self.look) or node.op_type in MOVES):
                values = evaluate([node], values, self.look)
                name = node.output[0]
        return name, values[name]

    def _coverage(self, axis: int, bias: _Values, rng: np.random.Generator) -> _Values:
        """(t, h, w): what each place does, all channels together, relative to the mean of all."""
        channels = rng.standard_normal(self.sides[axis])
        places = [side for other, side in enumerate(self.sides) if other != axis]
        count = int(np.prod(places))
        step = max(1, _CHUNK // (count * len(channels)))
        rows = []
        for first in range(0, count, step):
            spots = np.eye(min(step, count - first), count, k=first).reshape(-1, *places)
            shape = [-1 if other == axis else 1 for other in range(4)]
            rows.append(self._run(np.expand_dims(spots, axis + 1) * channels.reshape(shape)) - bias)
        effects = np.concatenate(rows)
        mean = effects.mean(axis=0)
        if not np.any(mean):
            raise self._uneven()
        return np.asarray(effects @ mean / (mean @ mean)).reshape(places)

    def _run(self, values: _Values, name: str | None = None, clips: int | None = None) -> _Values:
        """(B, K): what comes of values of this tensor, (B, *sides), or of another one."""
        name = name or self.tensor
        clips = len(values) if clips is None else clips
        inputs = {name: values.reshape(-1, *self.look.of_one_clip(name)[1:])}
        for other in self.route.features:
            if other != self.tensor:
                whole = self.look.of_one_clip(other)
                inputs[other] = np.zeros((clips * whole[0], *whole[1:]))
        nodes = list(_needed(self.route.before_relu, inputs, self.target))
        made = evaluate(nodes, inputs, self.look)[self.target]
        if len(made) != clips or made[0].size != max(made.shape[1:], default=0):
            sides = "x".join(map(str, made.shape[1:]))
            problem = f"{self.target}, Nx{sides}, is not a row of numbers for each clip"
            raise self.look.error(problem, self.look.producers.get(self.target), self.end)
        return made.reshape(clips, -1)

    def _uneven(self) -> TailError:
        return self.look.error(
            f"{self.tensor}, {self.look.sides(self.tensor)}, is not averaged channel by channel: its places have "
            "weights of their own",
            next((node for node in self.route.nodes if self.tensor in node.input), None),
            self.end,
        )


def _needed(nodes: Sequence[onnx.NodeProto], known: dict[str, _Values], target: str) -> Iterator[onnx.NodeProto]:
    """Those of the nodes that the target is computed by from what is known."""
    wanted, chosen = {target}, []
    for node in reversed(nodes):
        if node.output[0] in wanted and node.output[0] not in known:
            wanted.update(node.input)
            chosen.append(node)
    return reversed(chosen)


def _places(axis: int) -> tuple[int, ...]:
    """The axes of (B, *sides) that are not channels."""
    return tuple(other + 1 for other in range(4) if other != axis)


def _equal(one: _Values, other: _Values) -> bool:
    scale = float(np.abs(other).max(initial=0)) or 1.0
    return bool(one.shape == other.shape and np.abs(one - other).max(initial=0) <= _CLOSE * scale)
