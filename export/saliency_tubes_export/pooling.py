"""Average pooling as matrices, one for each axis: over everything, over windows, and over windows that overlap."""

import numpy as np
import onnx
from numpy.typing import NDArray

from .convolution import attributes_of
from .lookup import Lookup

_PADDED = {b"SAME_UPPER", b"SAME_LOWER"}
_Values = NDArray[np.float64]


def averages(node: onnx.NodeProto, look: Lookup) -> bool:
    """Whether a node averages over axes of a clip, or over windows along them."""
    if node.op_type == "ReduceMean":
        return 0 not in mean_axes(node, look)
    return node.op_type in ("GlobalAveragePool", "AveragePool")


def averaged(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    """What such a node makes of values, (B, ...).

    Raises:
        TailError: it averages in a way that is not known here.
    """
    if node.op_type != "AveragePool":
        axes = mean_axes(node, look) if node.op_type == "ReduceMean" else tuple(range(2, x.ndim))
        keep = node.op_type != "ReduceMean" or attributes_of(node).get("keepdims", 1)
        return np.asarray(x.mean(axis=axes, keepdims=bool(keep)))
    for axis, matrix in enumerate(_windows(node, x.shape[2:], look), start=2):
        x = np.moveaxis(np.tensordot(x, matrix, axes=(axis, 1)), -1, axis)
    return x


def mean_axes(node: onnx.NodeProto, look: Lookup) -> tuple[int, ...]:
    """The axes that a ReduceMean averages over; all of them where it names none."""
    rank = len(look.shapes.get(node.input[0], ()))
    given = attributes_of(node).get("axes")
    if given is None and len(node.input) > 1 and node.input[1]:
        given = look.needed(node.input[1]).astype(int).tolist()
    return tuple(sorted(int(axis) % rank for axis in given)) if given and rank else tuple(range(rank))


def _windows(node: onnx.NodeProto, sides: tuple[int, ...], look: Lookup) -> list[_Values]:
    """For each axis (windows, length): how much of each place goes into each window's average.

    A window's average is a product over axes also where padding is not counted: how many places count is one.
    """
    attributes = attributes_of(node)
    kernel = attributes["kernel_shape"]
    count = len(kernel)
    strides = attributes.get("strides", [1] * count)
    pads = attributes.get("pads", [0] * (2 * count))
    made = look.static(node.output[0])[1:]
    if any(step != 1 for step in attributes.get("dilations", [1] * count)):
        raise look.error(f"AveragePool {node.output[0]} averages over places that are not neighbours", node)
    matrices = []
    for axis, (side, length, stride, windows) in enumerate(zip(kernel, sides, strides, made, strict=True)):
        before, after = pads[axis], pads[axis + count]
        if (auto := attributes.get("auto_pad", b"NOTSET")) in _PADDED:
            total = max((windows - 1) * stride + side - length, 0)
            before = total // 2 if auto == b"SAME_UPPER" else total - total // 2
            after = total - before
        included = attributes.get("count_include_pad", 0)
        if included and (windows - 1) * stride + side > before + length + after:
            raise look.error(f"AveragePool {node.output[0]} counts what lies beyond its padding (ceil_mode)", node)
        start = stride * np.arange(windows)[:, None] - before
        inside = (np.arange(length) >= start) & (np.arange(length) < start + side)
        counted = side if included else inside.sum(axis=1, keepdims=True)
        matrices.append(inside / np.maximum(counted, 1))
    return matrices
