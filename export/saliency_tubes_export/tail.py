"""In any ONNX classifier: the global average pool and the linear layers behind it.

A saliency tube needs what the network averages (`features`) and how it weighs the average (W, b). Both are read off the
graph, by walking back from its logits, so that it does not matter which framework or network the graph came from.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper
from saliency_tubes.errors import TailError
from saliency_tubes.head import Head

from .convolution import attributes_of
from .linear import KEEPS, LINEAR, affine, data_input, push
from .lookup import Lookup, averaged_axes, inner_nodes

TO_CHANNELS_FIRST = [0, 4, 1, 2, 3]
_SOFTMAX = {"Softmax", "LogSoftmax"}
_CLOSE = 1e-9  # in double precision, of random features around 1


@dataclass(frozen=True, eq=False)
class Tail:
    """Where a classifier ends.

    Attributes:
        logits: name of the tensor of logits, (N, K), or (N, K, 1, ...).
        features: name of the tensor that is averaged, (N, C, t, h, w), or (N, t, h, w, C).
        features_shape: (C, t, h, w).
        channels_last: whether it is the latter.
        logits_rank: how many axes the logits have.
        softmax: the operator behind the logits that is left out, Softmax or LogSoftmax; None where there is none.
        head: how what is averaged becomes the logits.
    """

    logits: str
    features: str
    features_shape: tuple[int, int, int, int]
    channels_last: bool
    logits_rank: int
    softmax: str | None
    head: Head


def find_tail(model: onnx.ModelProto, logits: str | None = None, features: str | None = None) -> Tail:
    """Find global average pooling followed by linear layers at the end of a graph.

    Args:
        model: an ONNX classifier, of static shapes but for N.
        logits: which tensor to take for the logits; None for the output that ends in such a tail.
        features: which tensor to take for what is averaged; None for what the pooling is applied to.

    Raises:
        TailError: the graph ends in something else, or in several such tails; the message lists its last nodes.
    """
    look = Lookup(model)
    for option, name in (("--logits", logits), ("--features", features)):
        if name is not None and name not in look.producers:
            raise look.error(f"the graph computes no tensor called {name!r}, which {option} names")
    ends = [logits] if logits is not None else [info.name for info in look.graph.output]
    found: dict[str, Tail] = {}
    refused: list[TailError] = []
    for end in ends:
        try:
            tail = _Walk(look, end, features).tail()
            found.setdefault(tail.logits, tail)
        except TailError as error:
            refused.append(error)
    if len(found) > 1:
        raise look.error(f"{' and '.join(found)} do both: choose one with --logits")
    if not found:
        raise refused[0]
    return next(iter(found.values()))


def expose(model: onnx.ModelProto, tail: Tail) -> None:
    """Make ``logits`` (N, K) and ``features`` (N, C, t, h, w) the graph's outputs, in that order, and nothing else.

    The tail's tensors are renamed, or, where they have another form, brought into this one.

    Raises:
        TailError: other tensors have these names.
    """
    graph = model.graph
    tensors = {"logits": tail.logits, "features": tail.features}
    moved = []
    if tail.channels_last:
        moved.append(helper.make_node("Transpose", [tail.features], ["features"], perm=TO_CHANNELS_FIRST))
    if tail.logits_rank != 2:
        moved.append(helper.make_node("Flatten", [tail.logits], ["logits"], axis=1))
    names = {tensor: name for name, tensor in tensors.items() if all(name not in node.output for node in moved)}
    taken = {name for node in graph.node for name in node.output} - names.keys()
    if taken & tensors.keys():
        raise TailError(f"the graph already calls other tensors {sorted(taken & tensors.keys())}: rename them first")
    for node in graph.node:
        for tensors_of_node in (node.input, node.output):
            tensors_of_node[:] = [names.get(name, name) for name in tensors_of_node]
    graph.node.extend(moved)
    drop_unused(graph, {"logits", "features"})
    del graph.value_info[:]
    del graph.output[:]
    for name, shape in (("logits", (tail.head.num_classes,)), ("features", tail.features_shape)):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]))


def drop_unused(graph: onnx.GraphProto, wanted: set[str]) -> None:
    """Drop nodes and weights that nothing wanted is computed from."""
    kept = []
    for node in reversed(graph.node):  # in order, as ONNX has them
        if wanted & set(node.output):
            wanted = wanted.union(node.input, *(one.input for one in inner_nodes(node)))
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in wanted:
            del graph.initializer[index]


class _Walk:
    """Goes back from one end of the graph, node by node, to what is averaged."""

    def __init__(self, look: Lookup, end: str, features: str | None) -> None:
        self.look = look
        self.end = end
        self.asked = features

    def tail(self) -> Tail:
        logits, softmax = self._before_softmax()
        nodes = self._back_to_features(logits)
        last_pool = max(i for i, node in enumerate(nodes) if averaged_axes(node, self.look) is not None)
        pooling, linear = nodes[: last_pool + 1], nodes[last_pool + 1 :]
        features = data_input(nodes[0], self.look)
        sides = self.look.static(features)
        if len(sides) != 4:
            raise self._error(
                f"{nodes[0].op_type} {nodes[0].output[0]} averages {features} of {self.look.sides(features)}, and not "
                "one volume (t, h, w) a clip: images, and frames one by one, are not supported",
                nodes[0],
            )
        if not any(node.op_type in LINEAR for node in linear):
            problem = "no linear layer stands behind the pooling; one before it is not supported yet"
            raise self._error(problem, nodes[last_pool])
        pooled, channels_last = self._pooled(pooling, sides)
        weight, bias = affine(linear, pooled, self.look)
        shape = (sides[3], *sides[:3]) if channels_last else sides
        maker = self.look.producers.get(features)
        if channels_last and maker is not None and attributes_of(maker).get("perm") == [0, 2, 3, 4, 1]:
            features, channels_last = str(maker.input[0]), False  # channels were first before that Transpose
        C, t, h, w = shape
        return Tail(
            logits,
            features,
            (C, t, h, w),
            channels_last,
            len(self.look.shapes[logits]),
            softmax,
            Head(np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32)),
        )

    def _before_softmax(self) -> tuple[str, str | None]:
        """The logits, and the operator that makes the end of them, where that is a softmax."""
        name, softmax = self.end, None
        while (node := self.look.producers.get(name)) is not None:
            if node.op_type in _SOFTMAX and softmax is None:
                sides = self.look.static(node.input[0])
                axis = attributes_of(node).get("axis", -1) % (len(sides) + 1)
                if axis == 0 or sides[axis - 1] != math.prod(sides):
                    raise self._error(f"{node.op_type} {name} is not over the classes", node)
                softmax = node.op_type
            elif node.op_type not in KEEPS:
                break
            name = str(node.input[0])
        return (self.end, None) if softmax is None else (name, softmax)

    def _back_to_features(self, logits: str) -> list[onnx.NodeProto]:
        """The nodes from what is averaged to the logits, in the graph's order."""
        nodes: list[onnx.NodeProto] = []
        top = 0  # how many nodes there are behind, and including, the first that averages
        name = logits
        while name != self.asked:
            node = self.look.producers.get(name)
            averages = node is not None and averaged_axes(node, self.look) is not None
            moves = node is not None and node.op_type in KEEPS | {"Transpose"}
            passable = averages or moves or (node is not None and node.op_type in LINEAR and not top)
            if node is None or not passable or self.look.constant(name) is not None:
                if top and self.asked is None:
                    return nodes[:top][::-1]
                raise self._stopped(node)
            nodes.append(node)
            top = len(nodes) if averages else top
            name = data_input(node, self.look)
        if not top:
            raise self._error(f"no average pooling stands between {self.asked} and {logits}")
        return nodes[::-1]

    def _stopped(self, node: onnx.NodeProto | None) -> TailError:
        if node is None:
            return self._error("no global average pooling was found")
        where = "the pooling" if self.asked is None else self.asked
        hint = ""
        if node.op_type in ("Sigmoid", "HardSigmoid"):
            hint = ": name the tensor before it with --logits to explain that"
        elif node.op_type == "AveragePool":
            hint = ", and averages over windows, not over everything"
        return self._error(f"{node.op_type} {node.output[0]} stands between {where} and the logits{hint}", node)

    def _pooled(self, pooling: list[onnx.NodeProto], sides: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
        """The shape of the average of each channel, and whether channels come last; tried with random features."""
        x = np.random.default_rng(0).standard_normal((2, *sides))
        average = push(pooling, x, self.look)
        for axes, channels_last in (((2, 3, 4), False), ((1, 2, 3), True)):
            expected = x.mean(axis=axes)
            if average.size == expected.size and np.allclose(average.reshape(2, -1), expected, rtol=0, atol=_CLOSE):
                return average.shape[1:], channels_last
        raise self._error(
            f"what is pooled, {self.look.sides(data_input(pooling[0], self.look))}, is not averaged evenly over "
            "(t, h, w), each channel by itself",
            pooling[-1],
        )

    def _error(self, problem: str, culprit: onnx.NodeProto | None = None) -> TailError:
        return self.look.error(problem, culprit, self.end)
