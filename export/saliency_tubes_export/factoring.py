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

from .convolution import attributes_of
from .linear import MOVES, evaluate
from .lookup import Lookup
from .pooling import averages
from .route import Route

_CLOSE = 1e-9  # relative, in double precision
_CHUNK = 2**23  # values that are tried at once
_CHANNEL_AXES = (0, 3, 1)  # of (C, t, h, w), (t, h, w, C), and (t, C, h, w)
_FEW = 6  # places that are tried before all are
_MOST = 2**36  # values in all that places are tried with: minutes
_FLAT = 1e-3  # places of such a mean effect, relative to the largest, cancel
_FIRST = {"Conv", "ConvTranspose", "BatchNormalization", "MaxPool", "AveragePool", "GlobalAveragePool"}
_LAST = {"MatMul", "LayerNormalization"}
_ACTIVATIONS = {"Relu", "Clip", "Sigmoid", "Tanh", "Elu", "LeakyRelu", "Erf", "Gelu", "HardSwish", "HardSigmoid"}
_UNARY = {*_ACTIVATIONS, "Softplus", "Abs", "Mul", "Add", "Sub", "Div", "Identity", "Dropout", "Cast", "Transpose"}

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


def channel_axes(look: Lookup, tensor: str) -> tuple[int, ...]:
    """Which of a tensor's four axes of a clip its channels can be, the likeliest first.

    A convolution makes channels the first of a clip, a matrix product the last; what only moves or changes values keeps
    them. Where something else made it, all orders are possible.
    """
    whole = look.of_one_clip(tensor)
    perms: list[list[int]] = []
    name = tensor
    while (node := look.producers.get(name)) is not None:
        if node.op_type in _FIRST or node.op_type in _LAST:
            axis = 1 if node.op_type in _FIRST else len(whole) - 1
            for perm in reversed(perms):
                axis = perm.index(axis)
            axis -= whole[0] == 1
            return (axis,) if 0 <= axis < 4 else _CHANNEL_AXES
        if node.op_type not in _UNARY:
            break
        if node.op_type == "Transpose":
            perms.append(list(attributes_of(node).get("perm", range(len(whole))[::-1])))
        computed = [str(one) for one in node.input if one and look.constant(one) is None]
        if not computed:
            break
        name = computed[0]
    return (1, 3, 0) if whole[0] != 1 else _CHANNEL_AXES


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
        axes = channel_axes(self.look, self.tensor)
        for axis in axes:
            even = np.broadcast_to(x.mean(axis=_places(axis), keepdims=True), x.shape)
            if _equal(self._run(even), found):
                one = self._of(axis, bias, None)
                if not _equal(x.mean(axis=_places(axis)) @ one.weight.T + bias, found):
                    raise self._uneven()
                return one
        for axis in axes:
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
        with a volume in which each channel has a number of its own, which no mean of others can be.
        """
        channels = self.sides[axis]
        names = np.sort(np.random.default_rng(1).random(channels)) + 1
        volume = np.broadcast_to(names.reshape([-1 if other == axis else 1 for other in range(4)]), self.sides)
        name, pooled = self._pooled(volume)
        nearest = np.abs(pooled[..., None] - names).argmin(axis=-1) if pooled.size <= _CHUNK // channels else None
        if name == self.tensor or nearest is None or not _equal(pooled, names[nearest]):
            name, pooled = self.tensor, volume[None]  # such as where padding counts, and makes less of ones
            nearest = np.searchsorted(names, pooled)
        step = max(1, _CHUNK // pooled.size)
        rows = []
        for first in range(0, channels, step):
            chunk = np.arange(first, min(first + step, channels))
            probes = (nearest[None] == chunk.reshape(-1, *[1] * pooled.ndim)).astype(np.float64)
            rows.append(self._run(probes.reshape(-1, *pooled.shape[1:]), name, len(chunk)) - bias)
        return np.concatenate(rows).T

    def _pooled(self, volume: _Values) -> tuple[str, _Values]:
        """The last tensor that only poolings and moves have made, and its values for a volume."""
        name, values = self.tensor, {self.tensor: volume.reshape(self.look.of_one_clip(self.tensor))}
        for node in self.route.before_relu:
            if sum(name in one.input for one in self.route.before_relu) != 1:
                break
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

        def effects_of(chosen: NDArray[np.intp]) -> _Values:
            spots = np.zeros((len(chosen), count))
            spots[np.arange(len(chosen)), chosen] = 1
            volumes = np.expand_dims(spots.reshape(-1, *places), axis + 1)
            shape = [-1 if other == axis else 1 for other in range(4)]
            return self._run(volumes * channels.reshape(shape)) - bias

        some = np.concatenate([effects_of(rng.integers(count, size=1)) for _ in range(_FEW)])
        norms = np.linalg.norm(some, axis=1)
        if not _equal(np.abs(some @ some.T), np.outer(norms, norms)):  # what places do is not the same but for a factor
            raise self._uneven()
        if count**2 * len(channels) > _MOST:
            raise self.look.error(
                f"{self.tensor} has {count} places of unequal weight: too many to try", None, self.end
            )
        effects = np.concatenate([effects_of(np.arange(i, min(i + step, count))) for i in range(0, count, step)])
        mean = effects.mean(axis=0)
        if np.abs(mean).max() <= _FLAT * np.abs(effects).max():
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
