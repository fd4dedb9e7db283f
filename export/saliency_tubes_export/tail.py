"""In any ONNX classifier: the global average pool and the linear layer behind it.

A saliency tube needs what the network averages (`features`) and how it weighs the average (W, b). Both are read off the
graph, by walking back from its logits, so that it does not matter which framework or network the graph came from.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.errors import TailError

from .convolution import attributes_of

_Array = NDArray[np.float32]
# What changes neither the values nor their order once every place is pooled away.
_PASS_THROUGH = {"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}
_LINEAR = {"Gemm", "MatMul", "Add", "Conv"}
_LISTED_NODES = 8


@dataclass(frozen=True, eq=False)
class Tail:
    """Where a classifier ends.

    Attributes:
        logits: name of the graph's output tensor, (N, K).
        features: name of the tensor that is averaged, (N, C, t, h, w).
        features_shape: (C, t, h, w).
        weight: W, (K, C) float32.
        bias: b, (K,) float32; zeros where the classifier has none.
    """

    logits: str
    features: str
    features_shape: tuple[int, int, int, int]
    weight: _Array
    bias: _Array


def find_tail(model: onnx.ModelProto) -> Tail:
    """Find global average pooling followed by one linear layer at the end of a graph.

    Args:
        model: an ONNX classifier with one output, of static shapes but for N.

    Raises:
        TailError: the graph ends in something else; the message lists its last nodes.
    """
    return _Walk(model).tail()


def expose(model: onnx.ModelProto, tail: Tail) -> None:
    """Rename the tail's tensors to ``logits`` and ``features`` and make them the graph's outputs, in that order."""
    names = {tail.logits: "logits", tail.features: "features"}
    taken = {name for node in model.graph.node for name in node.output} - names.keys()
    if taken & set(names.values()):
        raise TailError(
            f"the graph already calls other tensors {sorted(taken & set(names.values()))}: rename them first"
        )
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
    del model.graph.value_info[:]
    del model.graph.output[:]
    shapes = {"logits": (len(tail.bias),), "features": tail.features_shape}
    for name, shape in shapes.items():
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]))


class _Walk:
    """Goes back from the logits, node by node, and collects the linear map on the way."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = onnx.shape_inference.infer_shapes(model).graph
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        infos = [*self.graph.value_info, *self.graph.output, *self.graph.input]
        self.shapes = {info.name: _shape(info) for info in infos}

    def tail(self) -> Tail:
        if len(self.graph.output) != 1:
            raise TailError(f"expected a graph with one output, the logits; it has {len(self.graph.output)}")
        logits = name = self.graph.output[0].name
        weight: _Array | None = None
        bias: _Array | None = None
        while (node := self.producers.get(name)) is not None:
            if (pooled := self._pooled(node)) is not None:
                if weight is None:
                    raise self._error("no linear layer stands behind the pooling")
                return self._checked(
                    logits, pooled, weight, np.zeros(len(weight), np.float32) if bias is None else bias
                )
            if node.op_type in _LINEAR:
                name, w, b = self._linear(node)
                if weight is not None:
                    raise self._error(f"{node.op_type} {node.output[0]} stands before the linear layer")
                weight = weight if w is None else w
                bias = b if bias is None else bias if b is None else bias + b
            elif node.op_type in _PASS_THROUGH:
                name = node.input[0]
            else:
                raise self._error(f"{node.op_type} {node.output[0]} stands between the pooling and the logits")
        raise self._error("no global average pooling was found")

    def _linear(self, node: onnx.NodeProto) -> tuple[str, _Array | None, _Array | None]:
        """The input tensor of a linear node, and what the node adds to W and b."""
        attributes = attributes_of(node)
        if node.op_type == "Add":
            data, constant = sorted(node.input, key=lambda name: self._constant(name) is not None)
            return data, None, self._needed(constant).reshape(-1)
        matrix = self._needed(node.input[1])
        if node.op_type == "MatMul":
            return node.input[0], matrix.T, None
        offset = self._needed(node.input[2]).reshape(-1) if len(node.input) > 2 else None
        if node.op_type == "Conv":
            if math.prod(matrix.shape[2:]) != 1 or attributes.get("group", 1) != 1:
                raise self._error(f"Conv {node.output[0]} behind the pooling is not a 1x1x1 convolution")
            return node.input[0], matrix.reshape(matrix.shape[:2]), offset
        if attributes.get("transA", 0):
            raise self._error(f"Gemm {node.output[0]} transposes its input")
        matrix = matrix if attributes.get("transB", 0) else matrix.T
        scaled = np.float32(attributes.get("alpha", 1.0)) * matrix
        return node.input[0], scaled, None if offset is None else np.float32(attributes.get("beta", 1.0)) * offset

    def _pooled(self, node: onnx.NodeProto) -> str | None:
        """The tensor that `node` averages over all of t, h and w; None where it is not such a pooling."""
        shape = self.shapes.get(node.input[0]) if node.input else None
        if shape is None or len(shape) != 5:
            return None
        attributes = attributes_of(node)
        if node.op_type == "GlobalAveragePool":
            return str(node.input[0])
        if node.op_type == "ReduceMean":
            axes = attributes.get("axes")
            if axes is None and len(node.input) > 1:
                axes = self._needed(node.input[1]).astype(int).tolist()
            return str(node.input[0]) if sorted(int(axis) % 5 for axis in axes or ()) == [2, 3, 4] else None
        if node.op_type == "AveragePool":
            whole = list(attributes["kernel_shape"]) == list(shape[2:]) and not any(attributes.get("pads", [0]))
            return str(node.input[0]) if whole else None
        return None

    def _checked(self, logits: str, features: str, weight: _Array, bias: _Array) -> Tail:
        shape = self.shapes[features]
        if shape is None or not all(isinstance(side, int) for side in shape[1:]):
            raise self._error(f"the shape of {features} is not static: {shape}")
        channels, t, h, w = (int(side) for side in shape[1:] if side is not None)
        if weight.shape[1] != channels or bias.shape not in ((len(weight),), (1,)):
            raise self._error(f"W {weight.shape} and b {bias.shape} do not fit {channels} channels")
        full_bias = np.ascontiguousarray(np.broadcast_to(bias, len(weight)), dtype=np.float32)
        return Tail(logits, features, (channels, t, h, w), np.ascontiguousarray(weight, np.float32), full_bias)

    def _constant(self, name: str) -> NDArray[np.float32] | None:
        if name in self.constants:
            return np.asarray(numpy_helper.to_array(self.constants[name]), dtype=np.float32)
        node = self.producers.get(name)
        if node is None:
            return None
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            return np.asarray(numpy_helper.to_array(node.attribute[0].t), dtype=np.float32)
        if node.op_type in ("Identity", "Transpose"):
            array = self._constant(node.input[0])
            perm = attributes_of(node).get("perm")
            return array if array is None or node.op_type == "Identity" else array.transpose(perm)
        return None

    def _needed(self, name: str) -> _Array:
        array = self._constant(name)
        if array is None:
            raise self._error(f"{name} is computed, not a constant")
        return array

    def _error(self, problem: str) -> TailError:
        """An error with the graph's last nodes drawn, the last at the bottom."""
        lines = []
        for node in self.graph.node[-_LISTED_NODES:]:
            shape = self.shapes.get(node.output[0])
            sides = "?" if shape is None else "x".join("N" if side is None else str(side) for side in shape)
            lines.append(f"  {node.op_type:<18} {node.output[0]}  {sides}")
        drawing = "\n".join(lines)
        return TailError(
            "a saliency tube needs a network that ends in global average pooling over (t, h, w) and one linear layer; "
            f"{problem}. The graph ends in:\n{drawing}"
        )


def _shape(info: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    if not info.type.tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim)
