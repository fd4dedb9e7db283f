"""What the end of a graph computes, in double precision, node by node: linear layers, averages, and what moves values.

Double precision keeps the composition of two layers, or of a layer and its bias, exact to float32.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from saliency_tubes.errors import first_line

from .convolution import attributes_of
from .lookup import Lookup
from .pooling import averaged, averages

# What changes neither the values nor their order within a clip.
KEEPS = {"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast"}
MOVES = KEEPS | {"Transpose", "Gather", "Slice"}
WEIGHTS = {"Gemm", "MatMul", "Conv"}
_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
LINEAR = {*WEIGHTS, *_ARITHMETIC, "BatchNormalization"}

_Values = NDArray[np.float64]


def data_inputs(node: onnx.NodeProto, look: Lookup) -> list[str]:
    """The computed tensors that a node works on: one, or more for a Concat.

    Raises:
        TailError: it combines two in another way.
    """
    if node.op_type == "Concat":
        return [str(name) for name in node.input]
    if node.op_type == "MatMul" and look.constant(node.input[0]) is not None:
        raise look.error(f"MatMul {node.output[0]} has its weights on the left", node)
    if node.op_type not in _ARITHMETIC:
        return [str(node.input[0])]
    computed = [str(name) for name in node.input if look.constant(name) is None]
    if len(computed) != 1:
        raise look.error(f"{node.op_type} {node.output[0]} combines two computed tensors", node)
    return computed


def evaluate(nodes: Iterable[onnx.NodeProto], values: dict[str, _Values], look: Lookup) -> dict[str, _Values]:
    """What nodes make of values.

    Args:
        nodes: in the graph's order.
        values: for B clips, by name: what the nodes begin with. A tensor's first axis is B, or B times what it is for
            one clip.
        look: of the graph.

    Returns:
        The values of all tensors, the given ones among them.

    Raises:
        TailError: a node is not linear.
    """
    values = dict(values)
    for node in nodes:
        try:
            values[node.output[0]] = _step(node, [values[name] for name in data_inputs(node, look)], look)
        except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:  # whatever the graph says
            raise look.error(
                f"{node.op_type} {node.output[0]} cannot be followed: {first_line(error)}", node
            ) from error
    return values


def _step(node: onnx.NodeProto, inputs: list[_Values], look: Lookup) -> _Values:
    if node.op_type == "Concat":
        return _joined(node, inputs, look)
    (x,) = inputs
    if averages(node, look):
        return averaged(node, x, look)
    if node.op_type in KEEPS:
        return _reshaped(node, x, look)
    if node.op_type == "Transpose":
        perm = attributes_of(node).get("perm", list(range(x.ndim))[::-1])
        if perm[0] != 0:
            raise look.error(f"Transpose {node.output[0]} moves the batch axis", node)
        return x.transpose(perm)
    if node.op_type == "Gather":
        return _gathered(node, x, look)
    if node.op_type == "Slice":
        return _sliced(node, x, look)
    if node.op_type == "BatchNormalization":
        return _batch_norm(node, x, look)
    if node.op_type in _ARITHMETIC:
        return _arithmetic(node, x, look)
    if node.op_type in WEIGHTS:
        return _matrix(node, x, look)
    raise look.error(f"{node.op_type} {node.output[0]} stands between the pooling and the logits", node)


def _joined(node: onnx.NodeProto, inputs: list[_Values], look: Lookup) -> _Values:
    axis = attributes_of(node)["axis"] % inputs[0].ndim
    if axis == 0:
        raise look.error(f"Concat {node.output[0]} mixes the batch with other axes", node)
    return np.concatenate(inputs, axis=axis)


def _reshaped(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    before, after = look.of_one_clip(node.input[0]), look.of_one_clip(node.output[0])
    if np.prod(before, dtype=int) != np.prod(after, dtype=int) or len(x) % before[0]:
        raise look.error(f"{node.op_type} {node.output[0]} mixes the batch with other axes", node)
    return x.reshape(len(x) // before[0] * after[0], *after[1:])


def _gathered(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    axis = attributes_of(node).get("axis", 0) % x.ndim
    if axis == 0:
        picked = look.constant(node.input[1])
        if picked is None or not np.array_equal(picked.ravel(), np.arange(look.of_one_clip(node.input[0])[0])):
            raise look.error(f"Gather {node.output[0]} picks some of the clips", node)
        return _reshaped(node, x, look)  # as PyTorch writes down other strides
    return np.asarray(np.take(x, look.needed(node.input[1]).astype(int), axis=axis))


def _sliced(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    given = [look.needed(name).astype(int).tolist() if name else None for name in [*list(node.input)[1:], "", ""]]
    starts, ends, axes, steps, *_ = given
    if starts is None or ends is None:
        raise look.error(f"Slice {node.output[0]} does not say where it begins and ends", node)
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    cuts = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % x.ndim == 0 and (start, step, end < len(x)) != (0, 1, False):
            raise look.error(f"Slice {node.output[0]} picks some of the clips", node)
        if axis % x.ndim:
            cuts[axis % x.ndim] = slice(start, end if end >= -x.shape[axis] else None, step)
    return x[tuple(cuts)]


def _batch_norm(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    scale, shift, mean, variance = (
        look.needed(name).reshape(-1, *[1] * (x.ndim - 2)) for name in list(node.input)[1:5]
    )
    return np.asarray((x - mean) / np.sqrt(variance + attributes_of(node).get("epsilon", 1e-5)) * scale + shift)


def _arithmetic(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    (name,) = data_inputs(node, look)
    (other,) = (look.needed(one) for one in node.input if one != name)
    if other.ndim >= x.ndim and other.shape[0] != 1:
        raise look.error(f"{node.op_type} {node.output[0]} mixes the clips of a batch", node)
    if node.op_type == "Div" and node.input[0] != name:
        raise look.error(f"Div {node.output[0]} divides by what is computed", node)
    pair = (x, other) if node.input[0] == name else (other, x)
    return np.asarray(_ARITHMETIC[node.op_type](*pair))


def _matrix(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    attributes = attributes_of(node)
    matrix = look.needed(node.input[1])
    offset = look.needed(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if node.op_type == "MatMul":
        if matrix.ndim != 2:
            raise look.error(f"MatMul {node.output[0]} multiplies by an array of {matrix.ndim} axes", node)
        return np.asarray(x @ matrix)
    if node.op_type == "Conv":
        spread = np.prod(matrix.shape[2:]) != 1 or any(attributes.get("pads", [0]))
        strided = any(step != 1 for step in attributes.get("strides", [1]))
        if spread or strided or attributes.get("group", 1) != 1:
            raise look.error(f"Conv {node.output[0]} is not a 1x1x1 convolution of all channels", node)
        made = np.moveaxis(np.tensordot(x, matrix.reshape(matrix.shape[:2]), axes=(1, 1)), -1, 1)
        return made if offset is None else made + offset.reshape(-1, *[1] * (x.ndim - 2))
    if attributes.get("transA", 0):
        raise look.error(f"Gemm {node.output[0]} transposes its input", node)
    made = attributes.get("alpha", 1.0) * (x @ (matrix.T if attributes.get("transB", 0) else matrix))
    return np.asarray(made if offset is None else made + attributes.get("beta", 1.0) * offset)
