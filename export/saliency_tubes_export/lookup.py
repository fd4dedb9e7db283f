"""What a graph holds, by name: who makes a tensor, of what shape it is, and its values where it is a constant."""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from saliency_tubes.errors import TailError

from .convolution import attributes_of
from .shapes import shape_of, shaped
from .weights import values

_LISTED_NODES = 8


class Lookup:
    """A graph, by name.

    Attributes:
        graph: with what shape inference finds.
        producers: the node that makes a tensor.
        shapes: a tensor's sides, None where one is not static.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = shaped(model).graph
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self._initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self._constants: dict[str, NDArray[np.float64] | None] = {}
        infos = [*self.graph.value_info, *self.graph.output, *self.graph.input]
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        for info in infos:
            if info.type.tensor_type.HasField("shape"):
                self.shapes[info.name] = shape_of(info)

    def constant(self, name: str) -> NDArray[np.float64] | None:
        """The values of a constant, in double precision; None where the tensor is computed."""
        if name not in self._constants:
            self._constants[name] = self._constant(name)
        return self._constants[name]

    def _constant(self, name: str) -> NDArray[np.float64] | None:
        if name in self._initializers:
            return np.asarray(values(self._initializers[name]), dtype=np.float64)
        node = self.producers.get(name)
        if node is None:
            return None
        if node.op_type == "Constant":
            return _constant_value(node)
        if node.op_type in ("Identity", "Transpose"):
            array = self.constant(node.input[0])
            perm = attributes_of(node).get("perm")
            return array if array is None or node.op_type == "Identity" else array.transpose(perm)
        return None

    def needed(self, name: str) -> NDArray[np.float64]:
        """The values of what has to be a constant.

        Raises:
            TailError: it is computed.
        """
        array = self.constant(name)
        if array is None:
            raise self.error(f"{name} is computed, not a constant")
        return array

    def static(self, name: str) -> tuple[int, ...]:
        """The sides of a tensor but for the first, N.

        Raises:
            TailError: they are not static.
        """
        sides = [side for side in self.shapes.get(name, (None, None))[1:] if side is not None]
        if len(sides) != len(self.shapes.get(name, (None, None))) - 1:
            raise self.error(f"the shape of {name} is not static: {self.sides(name)}")
        return tuple(sides)

    def of_one_clip(self, name: str) -> tuple[int, ...]:
        """The sides of a tensor for one clip: the first is 1, or the number of frames where those are one by one.

        Raises:
            TailError: they are not static.
        """
        shape = self.shapes.get(name, (None,))
        if not shape:
            raise self.error(f"{name} is a single number, and not one for each clip", self.producers.get(name))
        return (shape[0] or 1, *self.static(name))

    def sides(self, name: str) -> str:
        """A tensor's shape as text, such as ``Nx512x2x7x7``."""
        shape = self.shapes.get(name)
        if shape is None:
            return "?"
        return "x".join(["N", *("?" if side is None else str(side) for side in shape[1:])])

    def error(self, problem: str, culprit: onnx.NodeProto | None = None, end: str | None = None) -> TailError:
        """An error with the nodes before `end`, or before the graph's outputs, drawn; the last at the bottom."""
        lines = []
        for node in self._before([end] if end else [info.name for info in self.graph.output])[-_LISTED_NODES:]:
            mark = "  <- here" if culprit is not None and node.output[0] == culprit.output[0] else ""
            lines.append(f"  {node.op_type:<18} {node.output[0]}  {self.sides(node.output[0])}{mark}")
        drawing = "\n".join(lines)
        return TailError(
            "a saliency tube needs a network that averages its features over (t, h, w), and weighs each channel alike "
            f"at all places, with one hidden layer of ReLUs at most; {problem}. If other tensors are meant, name them "
            f"with --features and --logits. The graph ends in:\n{drawing}"
        )

    def _before(self, ends: list[str]) -> list[onnx.NodeProto]:
        """The nodes that `ends` are computed by, in order, without constants."""
        wanted, nodes = set(ends), []
        for node in reversed(self.graph.node):
            if node.op_type != "Constant" and wanted & set(node.output):
                wanted.update(node.input)
                nodes.append(node)
        return nodes[::-1]


def _constant_value(node: onnx.NodeProto) -> NDArray[np.float64] | None:
    (name, value), *_ = attributes_of(node).items()
    if name == "value":
        value = numpy_helper.to_array(value)
    elif name not in ("value_float", "value_floats", "value_int", "value_ints"):
        return None
    return np.asarray(value, dtype=np.float64)


def inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graphs inside a node, such as the branches of an If, at any depth."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield inner
                yield from inner_nodes(inner)
