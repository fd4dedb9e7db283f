"""Where the cells of a network's features lie: each in the middle of its receptive field, by arithmetic on its graph.

For every axis of a tensor it is followed which frames, or rows or columns of pixels, its first cell sees, and how far
on the next one looks (Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill
2019). Where branches meet, a cell sees what it sees through any of them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
from saliency_tubes.cells import Cells
from saliency_tubes.choices import InputLayout

from .convolution import attributes_of
from .lookup import Lookup, inner_nodes
from .tail import Tail

_WINDOWS = {"Conv", "MaxPool", "AveragePool", "LpPool"}
_GLOBAL = {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}
_REGROUPS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_SHAPES = {"Shape", "Size"}  # what they tell does not depend on what is seen
# Cell by cell, broadcast where there are several inputs. Norms take statistics from afar, and move no cell.
_CELL_BY_CELL = {
    *("Abs", "Cast", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
    *("LeakyRelu", "Log", "Mish", "Neg", "PRelu", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign"),
    *("Sqrt", "Tanh", "ThresholdedRelu", "Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum", "Where"),
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LRN"),
}


@dataclass(frozen=True)
class _Field:
    """What the cells along one axis of a tensor see of one axis of the clip.

    Attributes:
        axis: of the clip: 0 is time, 1 is y, 2 is x.
        low: the first frame or pixel that the first cell sees; below 0 in the padding.
        high: the last one.
        stride: how far on the next cell looks.
    """

    axis: int
    low: int
    high: int
    stride: int

    def through(self, kernel: int, stride: int, before: int, dilation: int = 1) -> "_Field":
        """Behind a window of `kernel` cells, `before` cells of padding in front."""
        low = self.low - before * self.stride
        high = self.high + ((kernel - 1) * dilation - before) * self.stride
        return replace(self, low=low, high=high, stride=self.stride * stride)

    @property
    def centre(self) -> float:
        return (self.low + self.high) / 2


# What each axis of a tensor sees; None for one that has no place in the clip, such as channels, or of what was pooled.
_Fields = tuple[_Field | None, ...]


class _NotUnderstoodError(Exception):
    """The cells of a tensor cannot be followed."""


def find_cells(model: onnx.ModelProto, layout: InputLayout, tail: Tail) -> Cells | None:
    """Where the cells of what a classifier pools lie in its clip.

    Args:
        model: an ONNX classifier as it came, of static shapes but for N.
        layout: the order of its input's axes.
        tail: where it ends.

    Returns:
        The middle of the first cell's receptive field, and the distance to the next; None where the graph has something
        on the way that this cannot follow, branches that meet with different strides, or a first cell outside the clip.
    """
    look = Lookup(model)
    axes = {"T": 0, "H": 1, "W": 2}
    clip = look.graph.input[0].name
    start = tuple(_Field(axes[letter], 0, 0, 1) if letter in axes else None for letter in layout.value)
    fields: dict[str, _Fields | None] = {clip: start}  # None: not understood; what is missing has no place in the clip
    for node in look.graph.node:
        try:
            found = _behind(node, fields, look)
        except _NotUnderstoodError:
            fields.update(dict.fromkeys(node.output))
            continue
        if found is not None:
            fields.update(dict.fromkeys(node.output[1:]), **{node.output[0]: found})
    first = 1 if tail.channels_last else 2
    features = (fields.get(tail.features) or ())[first : first + 3]
    t, y, x = features if len(features) == 3 else (None, None, None)
    if t is None or y is None or x is None or (t.axis, y.axis, x.axis) != (0, 1, 2):
        return None
    cells = Cells((t.centre, y.centre, x.centre), (float(t.stride), float(y.stride), float(x.stride)))
    T, H, W = (look.shapes[clip][layout.value.index(letter)] or 0 for letter in axes)
    return cells if cells.begin_within((T, H, W)) else None


def _behind(node: onnx.NodeProto, fields: dict[str, _Fields | None], look: Lookup) -> _Fields | None:
    """What the first output of a node sees; None where nothing in it has a place in the clip.

    Raises:
        _NotUnderstoodError: that cannot be told.
    """
    inner = (name for one in inner_nodes(node) for name in one.input)
    placed = {name: fields[name] for name in (*node.input, *inner) if name in fields}
    if not placed or node.op_type in _SHAPES:
        return None
    seen = [one for one in placed.values() if one is not None]
    if len(seen) < len(placed):
        raise _NotUnderstoodError
    kind = str(node.op_type)
    if kind in _CELL_BY_CELL or kind == "Concat":
        found = _met(node, {name: one for name, one in placed.items() if one is not None}, look)
    elif len(placed) > 1 or node.input[0] not in placed:
        raise _NotUnderstoodError
    elif kind in _WINDOWS:
        found = _windows(node, seen[0], look)
    elif kind in _GLOBAL:
        found = (*seen[0][:2], *[None] * len(seen[0][2:]))
    elif kind.startswith("Reduce"):
        found = _reduced(node, seen[0], look)
    elif kind == "Transpose":
        found = tuple(seen[0][axis] for axis in attributes_of(node).get("perm", range(len(seen[0]))[::-1]))
    elif kind in _REGROUPS:
        found = _regrouped(seen[0], _shape(node.input[0], look), _shape(node.output[0], look))
    elif kind == "Pad":
        found = _padded(node, seen[0], look)
    elif kind == "Slice":
        found = _sliced(node, seen[0], look)
    else:
        raise _NotUnderstoodError
    return found if any(found) else None


def _met(node: onnx.NodeProto, inputs: dict[str, _Fields], look: Lookup) -> _Fields:
    """Branches that meet: the hull of what they see. What is broadcast along an axis has no place on it."""
    sides = _shape(node.output[0], look)
    if node.op_type == "Concat" and any(one[attributes_of(node)["axis"]] for one in inputs.values()):
        raise _NotUnderstoodError
    found: list[_Field | None] = []
    for place, side in enumerate(sides):
        from_end = place - len(sides)
        here = [
            one[from_end]
            for name, one in inputs.items()
            if len(one) >= -from_end and _shape(name, look)[from_end] == side
        ]
        found.append(_hull([field for field in here if field is not None]))
    return tuple(found)


def _hull(branches: Sequence[_Field]) -> _Field | None:
    if not branches:
        return None
    if len({(field.axis, field.stride) for field in branches}) > 1:
        raise _NotUnderstoodError
    low, high = min(field.low for field in branches), max(field.high for field in branches)
    return replace(branches[0], low=low, high=high)


def _windows(node: onnx.NodeProto, fields: _Fields, look: Lookup) -> _Fields:
    """Behind a convolution or pooling, whose windows run over all axes but the first two."""
    attributes = attributes_of(node)
    kernel = attributes.get("kernel_shape") or [side or 0 for side in _shape(node.input[1], look)[2:]]
    if 0 in kernel:
        raise _NotUnderstoodError
    strides = attributes.get("strides") or [1] * len(kernel)
    dilations = attributes.get("dilations") or [1] * len(kernel)
    found = list(fields[:2])
    for i, field in enumerate(fields[2:]):
        reach = (kernel[i] - 1) * dilations[i] + 1
        before = _padding(attributes, i, reach, strides[i], _shape(node.input[0], look)[2 + i])
        found.append(field and field.through(kernel[i], strides[i], before, dilations[i]))
    return tuple(found)


def _padding(attributes: dict[str, Any], i: int, reach: int, stride: int, side: int | None) -> int:
    """How many cells of padding are in front, written down or worked out."""
    auto = attributes.get("auto_pad", b"NOTSET")
    if auto not in (b"SAME_UPPER", b"SAME_LOWER"):
        return int(attributes["pads"][i]) if "pads" in attributes and auto == b"NOTSET" else 0
    if side is None:
        raise _NotUnderstoodError
    both = max(0, (math.ceil(side / stride) - 1) * stride + reach - side)
    return both // 2 if auto == b"SAME_UPPER" else (both + 1) // 2


def _reduced(node: onnx.NodeProto, fields: _Fields, look: Lookup) -> _Fields:
    """Behind a mean, a sum, a maximum: the axes that it goes over have no place any more."""
    attributes = attributes_of(node)
    axes = attributes.get("axes")
    if axes is None and len(node.input) > 1:
        axes = _integers(node.input[1], look)
    gone = {axis % len(fields) for axis in (range(len(fields)) if axes is None else axes)}
    left = [None if place in gone else field for place, field in enumerate(fields)]
    return tuple(left if attributes.get("keepdims", 1) else [left[i] for i in range(len(left)) if i not in gone])


def _regrouped(fields: _Fields, shape: Sequence[int | None], to: Sequence[int | None]) -> _Fields:
    """Behind a new shape: an axis goes on where one of its length has as many values behind it."""
    found: list[_Field | None] = [None] * len(to)
    for place, field in enumerate(fields):
        if field is None:
            continue
        behind = _count(shape[place + 1 :])
        same = [i for i, side in enumerate(to) if side == shape[place] and _count(to[i + 1 :]) == behind]
        if shape[place] is None or behind is None or len(same) != 1:
            raise _NotUnderstoodError
        found[same[0]] = field
    return tuple(found)


def _padded(node: onnx.NodeProto, fields: _Fields, look: Lookup) -> _Fields:
    pads = _integers(node.input[1], look)
    before = dict(zip(_axes(node, 3, len(fields), look), pads, strict=False))  # behind these are the ends' own
    return tuple(field and field.through(1, 1, before.get(i, 0)) for i, field in enumerate(fields))


def _sliced(node: onnx.NodeProto, fields: _Fields, look: Lookup) -> _Fields:
    starts = _integers(node.input[1], look)
    steps = _integers(node.input[4], look) if len(node.input) > 4 else [1] * len(starts)
    found = list(fields)
    for axis, start, step in zip(_axes(node, 3, len(fields), look), starts, steps, strict=False):
        field, side = fields[axis], _shape(node.input[0], look)[axis]
        if field is None:
            continue
        if side is None or step < 1:
            raise _NotUnderstoodError
        first = min(max(0, start + side if start < 0 else start), side)
        found[axis] = field.through(1, step, -first)
    return tuple(found)


def _axes(node: onnx.NodeProto, place: int, rank: int, look: Lookup) -> list[int]:
    """The axes that an input names; all where there is none."""
    if len(node.input) <= place or not node.input[place]:
        return list(range(rank))
    return [axis % rank for axis in _integers(node.input[place], look)]


def _integers(name: str, look: Lookup) -> list[int]:
    values = look.constant(name)
    if values is None:
        raise _NotUnderstoodError
    return [int(value) for value in values.ravel()]


def _shape(name: str, look: Lookup) -> tuple[int | None, ...]:
    shape = look.shapes.get(name)
    if shape is None:
        raise _NotUnderstoodError
    return shape


def _count(sides: Iterable[int | None]) -> int | None:
    """How many values axes of these lengths hold."""
    known = list(sides)
    return math.prod(side for side in known if side is not None) if None not in known else None
