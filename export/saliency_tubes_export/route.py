"""The way back from a graph's logits to what is averaged, node by node."""

import math
from dataclasses import dataclass, replace

import onnx
from saliency_tubes.errors import TailError

from .convolution import attributes_of
from .linear import KEEPS, LINEAR, MOVES, WEIGHTS, data_inputs
from .lookup import Lookup
from .pooling import averages, mean_axes

_SOFTMAX = {"Softmax", "LogSoftmax"}


@dataclass(frozen=True, eq=False)
class Route:
    """What stands between features and logits.

    Attributes:
        logits: name of the tensor of logits.
        softmax: the operator behind them that is left out, Softmax or LogSoftmax; None where there is none.
        features: names of the tensors that are averaged: one, or one for each pathway that is concatenated.
        nodes: between these and the logits, in the graph's order.
        relu: the one of these nodes that is a ReLU; None where all are linear.
    """

    logits: str
    softmax: str | None
    features: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]
    relu: onnx.NodeProto | None

    @property
    def before_relu(self) -> tuple[onnx.NodeProto, ...]:
        """The nodes up to the ReLU, or all."""
        return self.nodes if self.relu is None else self.nodes[: self.nodes.index(self.relu)]

    @property
    def behind_relu(self) -> tuple[onnx.NodeProto, ...]:
        """The nodes behind the ReLU; none where there is none."""
        return () if self.relu is None else self.nodes[self.nodes.index(self.relu) + 1 :]


def find_route(look: Lookup, end: str, asked: str | None = None) -> Route:
    """Go back from one end of the graph to what is averaged before the classifier, or with it.

    Behind the nearest average and the nearest layer with weights, whichever comes first, only further averages are
    passed: the rest is the network's own. A ReLU between two layers, nearer to the logits than any average, is passed
    once.

    Args:
        look: of the graph.
        end: the tensor to begin at.
        asked: the tensor that is to be the features, whatever is linear behind it; None to choose.

    Raises:
        TailError: something else stands in the way; the message lists the last nodes.
    """
    logits, softmax = before_softmax(look, end)
    walk = _Walk(look, end, asked)
    features = walk.back(logits, _Seen())
    passed = {node.output[0] for node in walk.passed}
    nodes = tuple(node for node in look.graph.node if node.output and node.output[0] in passed)
    return Route(logits, softmax, tuple(dict.fromkeys(features)), nodes, walk.relu)


def before_softmax(look: Lookup, end: str) -> tuple[str, str | None]:
    """The logits, and the operator that makes the end of them, where that is a softmax; a mean of one is no mean.

    Raises:
        TailError: the softmax is over something else than the classes.
    """
    name, softmax = end, None
    while (node := look.producers.get(name)) is not None:
        if node.op_type in _SOFTMAX and softmax is None:
            sides = look.static(node.input[0])
            axis = attributes_of(node).get("axis", -1) % (len(sides) + 1)
            if axis == 0 or sides[axis - 1] != math.prod(sides):
                raise look.error(f"{node.op_type} {name} is not over the classes alone", node, end)
            softmax = node.op_type
        elif node.op_type not in KEEPS and not _keeps_all(node, look):
            break
        name = str(node.input[0])
    return (end, None) if softmax is None else (name, softmax)


def _keeps_all(node: onnx.NodeProto, look: Lookup) -> bool:
    """Whether a node that averages, or moves axes, has one value for each value, in the same order."""
    sides = look.shapes.get(node.input[0], ()) if node.input else ()
    if node.op_type == "Transpose":
        perm = attributes_of(node).get("perm", [])
        long = [axis for axis in perm if axis == 0 or sides[axis] != 1]
        return bool(perm) and len(sides) == len(perm) and long == sorted(long)
    if node.op_type == "ReduceMean":
        return bool(sides) and all(axis and sides[axis] == 1 for axis in mean_axes(node, look))
    return node.op_type in ("GlobalAveragePool", "AveragePool") and all(side == 1 for side in sides[2:])


@dataclass(frozen=True)
class _Seen:
    """What stands between a tensor and the logits."""

    weights: bool = False
    average: bool = False
    relu: bool = False
    joined: bool = False  # a Concat

    @property
    def enough(self) -> bool:
        return self.weights and self.average


class _Walk:
    def __init__(self, look: Lookup, end: str, asked: str | None) -> None:
        self.look, self.end, self.asked = look, end, asked
        self.passed: list[onnx.NodeProto] = []
        self.relu: onnx.NodeProto | None = None

    def back(self, name: str, seen: _Seen) -> list[str]:
        """The features that a tensor is computed from; what is passed is noted."""
        found: str | None = None  # the features, unless averages stand behind
        kept = len(self.passed)
        while name != self.asked:
            node = self.look.producers.get(name)
            if node is None or self.look.constant(name) is not None or not self._passable(node, seen):
                if found is None or self.asked is not None:
                    raise self._stopped(node, seen)
                del self.passed[kept:]
                return [found]
            self.passed.append(node)
            inputs = data_inputs(node, self.look)
            if node.op_type == "Concat":
                joined = replace(seen, joined=True)
                return [one for branch in inputs for one in self.back(branch, joined)]
            (name,) = inputs
            averages_here = averages(node, self.look)
            seen = replace(
                seen,
                weights=seen.weights or node.op_type in WEIGHTS,
                average=seen.average or averages_here,
                relu=seen.relu or node.op_type == "Relu",
            )
            if node.op_type == "Relu":
                self.relu = node
            if seen.enough and (averages_here or found is None or self._selects(node)):
                found, kept = name, len(self.passed)
        if not seen.average:
            raise self._error(f"no average pooling stands between {self.asked} and {self.end}")
        return [name]

    def _selects(self, node: onnx.NodeProto) -> bool:
        """Whether a node picks some of its values, so that the others count for nothing."""
        if node.op_type not in ("Gather", "Slice"):
            return False
        before, after = (self.look.of_one_clip(name) for name in (node.input[0], node.output[0]))
        return len(before) in (4, 5) and math.prod(before) != math.prod(after)

    def _passable(self, node: onnx.NodeProto, seen: _Seen) -> bool:
        if averages(node, self.look) or node.op_type in MOVES:
            return True
        if node.op_type in LINEAR:
            return not seen.enough or self.asked is not None
        if node.op_type == "Relu":
            return seen.weights and not (seen.average or seen.relu or seen.joined)
        if node.op_type != "Concat" or not seen.weights:
            return False
        return not seen.average or all(self._is_averaged(str(name)) for name in node.input)

    def _is_averaged(self, name: str) -> bool:
        """Whether a tensor is an average, moved about at most."""
        while (node := self.look.producers.get(name)) is not None and not averages(node, self.look):
            if node.op_type not in MOVES:
                return False
            name = str(node.input[0])
        return node is not None

    def _stopped(self, node: onnx.NodeProto | None, seen: _Seen) -> TailError:
        if self.asked is None and seen.average:
            here = "" if node is None else f", and {node.op_type} {node.output[0]} is in front of it"
            return self._error(f"no linear layer stands behind the pooling{here}", node)
        if node is None or (self.asked is None and self._has_places(node.output[0])):
            problem = "no average pooling was found between the last places and the logits: places have weights of "
            return self._error(f"{problem}their own", node or self.relu)
        where = "the pooling" if self.asked is None else self.asked
        return self._error(
            f"{node.op_type} {node.output[0]} stands between {where} and the logits{self._hint(node)}", node
        )

    def _hint(self, node: onnx.NodeProto) -> str:
        if node.op_type in ("Sigmoid", "HardSigmoid"):
            return ": name the tensor before it with --logits to explain that"
        if node.op_type == "Relu" and self.relu is not None and self.relu is not node:
            return f", and so does {self.relu.output[0]}: one hidden layer is supported"
        if "Max" in str(node.op_type):
            return ", and takes the largest, not the average"
        if node.op_type in ("LayerNormalization", "Sqrt", "InstanceNormalization"):
            return ", and divides by what it finds in the clip"
        return ""

    def _has_places(self, name: str) -> bool:
        sides = self.look.shapes.get(name, ())
        return len(sides) == 5 and math.prod(side or 1 for side in sides[2:]) > 1

    def _error(self, problem: str, culprit: onnx.NodeProto | None = None) -> TailError:
        return self.look.error(problem, culprit, self.end)
