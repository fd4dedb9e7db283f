"""A classifier's graph with what a saliency tube needs for outputs: ``logits`` and ``features``."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.errors import TailError

from .lookup import inner_nodes
from .tail import Pathway, Tail


def expose(model: onnx.ModelProto, tail: Tail) -> None:
    """Make ``logits`` (N, K) and ``features`` (N, C, t, h, w) the graph's outputs, in that order, and nothing else.

    The tail's tensors are renamed, or, where they have another form, brought into this one.

    Raises:
        TailError: other tensors have these names.
    """
    graph = model.graph
    moved = []
    if tail.logits_rank != 2:
        moved.append(helper.make_node("Flatten", [tail.logits], ["logits"], axis=1))
    parts = [_brought(graph, one, tail, moved, number) for number, one in enumerate(tail.pathways)]
    if len(parts) > 1:
        moved.append(helper.make_node("Concat", parts, ["features"], axis=1))
    elif parts[0] != tail.pathways[0].tensor:
        moved[-1].output[0] = "features"
    tensors = {"logits": tail.logits, "features": parts[0]}
    names = {tensor: name for name, tensor in tensors.items() if all(name not in node.output for node in moved)}
    taken = {name for node in graph.node for name in node.output} - names.keys()
    if taken & tensors.keys():
        raise TailError(f"the graph already calls other tensors {sorted(taken & tensors.keys())}: rename them first")
    graph.node.extend(moved)
    for node in graph.node:
        for tensors_of_node in (node.input, node.output):
            tensors_of_node[:] = [names.get(name, name) for name in tensors_of_node]
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
            wanted = wanted.union(node.input, *(one.input for one in inner_nodes(node))) - {""}
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in wanted:
            del graph.initializer[index]


def _brought(graph: onnx.GraphProto, one: Pathway, tail: Tail, moved: list[onnx.NodeProto], number: int) -> str:
    """The name of a pathway's tensor as (N, C, t, h, w) on the grid of all; the nodes that make it are added."""
    name = one.tensor

    def then(kind: str, *inputs: np.ndarray, **attributes: Any) -> str:
        made = f"pathway_{number}_{len(moved)}"
        constants: list[str] = []
        for values in inputs:
            constants.append(f"{made}_{len(constants)}")
            graph.initializer.append(numpy_helper.from_array(values, constants[-1]))
        moved.append(helper.make_node(kind, [name, *constants], [made], **attributes))
        return made

    if one.by_frame:
        name = then("Reshape", np.array([-1, *one.sides], np.int64))
    if one.channel_axis:
        name = then("Transpose", perm=one.perm)
    for axis, (side, length) in enumerate(zip(tail.features_shape[1:], one.shape[1:], strict=True), start=2):
        if side != length:
            name = then("Gather", np.repeat(np.arange(length), side // length), axis=axis)
    return name
