"""What stands between the pooling and the logits, as one linear map: the basis is pushed through it, node by node.

Double precision keeps the composition of two layers, or of a layer and its bias, exact to float32.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from .convolution import attributes_of
from .lookup import Lookup, averaged_axes

# What changes neither the values nor their order within a clip.
KEEPS = {"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast"}
_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
LINEAR = {"Gemm", "MatMul", "Conv", *_ARITHMETIC}

_Values = NDArray[np.float64]


def data_input(node: onnx.NodeProto, look: Lookup) -> str:
    """The one computed tensor that a node of `KEEPS`, `LINEAR` or an average works on.

    Raises:
        TailError: it combines two.
    """
    if node.op_type not in _ARITHMETIC:
        return str(node.input[0])
    computed = [str(name) for name in node.input if look.constant(name) is None]
    if len(computed) != 1:
        raise look.error(f"{node.op_type} {node.output[0]} combines two computed tensors", node)
    return computed[0]


def push(nodes: Sequence[onnx.NodeProto], values: _Values, look: Lookup) -> _Values:
    """What a chain of nodes makes of values.

    Args:
        nodes: in the graph's order, each working on the output of the one before.
        values: (B, ...), B of what the first works on.
        look: of the graph.

    Returns:
        (B, ...), the output of the last.

    Raises:
        TailError: a node is not linear.
    """
    for node in nodes:
        values = _step(node, values, look)
    return values


def affine(nodes: Sequence[onnx.NodeProto], shape: Sequence[int], look: Lookup) -> tuple[_Values, _Values]:
    """W (K, C) and b (K,) of the chain from a pooled tensor of C values, in `shape`, to K logits.

    Raises:
        TailError: a node is not linear.
    """
    channels = int(np.prod(shape))
    basis = np.concatenate([np.zeros((1, channels)), np.eye(channels)]).reshape(channels + 1, *shape)
    images = push(nodes, basis, look).reshape(channels + 1, -1)
    return (images[1:] - images[0]).T, images[0]


def _step(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    if (axes := averaged_axes(node, look)) is not None:
        keep = node.op_type != "ReduceMean" or attributes_of(node).get("keepdims", 1)
        return np.asarray(x.mean(axis=axes, keepdims=bool(keep)))
    if node.op_type in KEEPS:
        return _reshaped(node, x, look)
    if node.op_type == "Transpose":
        perm = attributes_of(node).get("perm", list(range(x.ndim))[::-1])
        if perm[0] != 0:
            raise look.error(f"Transpose {node.output[0]} moves the batch axis", node)
        return x.transpose(perm)
    if node.op_type in _ARITHMETIC:
        return _arithmetic(node, x, look)
    if node.op_type in LINEAR:
        return _matrix(node, x, look)
    raise look.error(f"{node.op_type} {node.output[0]} stands between the pooling and the logits", node)


def _reshaped(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    shape = look.static(node.output[0])
    if look.shapes[node.output[0]][0] not in (1, None) or x[0].size != np.prod(shape, dtype=int):
        raise look.error(f"{node.op_type} {node.output[0]} mixes the batch with other axes", node)
    return x.reshape(len(x), *shape)


def _arithmetic(node: onnx.NodeProto, x: _Values, look: Lookup) -> _Values:
    name = data_input(node, look)
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
        if spread or attributes.get("group", 1) != 1:
            raise look.error(f"Conv {node.output[0]} behind the pooling is not a 1x1x1 convolution", node)
        made = np.moveaxis(np.tensordot(x, matrix.reshape(matrix.shape[:2]), axes=(1, 1)), -1, 1)
        return made if offset is None else made + offset.reshape(-1, *[1] * (x.ndim - 2))
    if attributes.get("transA", 0):
        raise look.error(f"Gemm {node.output[0]} transposes its input", node)
    made = attributes.get("alpha", 1.0) * (x @ (matrix.T if attributes.get("transB", 0) else matrix))
    return np.asarray(made if offset is None else made + attributes.get("beta", 1.0) * offset)
