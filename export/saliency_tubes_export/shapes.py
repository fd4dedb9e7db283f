"""The shapes of a graph's tensors, also where the graph computes them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .running import cpu_session

# Operators whose further inputs say what shape they make, or which values, and which of their inputs do.
_TARGETS = {"Reshape": (1,), "Expand": (1,), "Slice": (1, 2, 3, 4), "Squeeze": (1,), "Unsqueeze": (1,), "Gather": (1,)}


def shaped(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the shapes that ONNX infers.

    Exporters compute the targets of a Reshape, and the places that a Gather picks, from shapes, in ways that ONNX does
    not follow. Where that leaves something open although the input's shape is known, the graph is run once, and what
    it computes for them is written into the copy.
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    infos = {info.name: info for info in (*inferred.graph.value_info, *inferred.graph.output)}
    constants = {tensor.name for tensor in model.graph.initializer}
    is_open = any(
        node.op_type in _TARGETS
        and (not _is_static(infos.get(node.output[0])) or (node.op_type == "Gather" and node.input[1] not in constants))
        for node in inferred.graph.node
    )
    if not is_open or not all(_is_static(info) for info in inputs_of(model.graph)):
        return inferred
    pinned = _pinned(model)
    return inferred if pinned is None else onnx.shape_inference.infer_shapes(pinned, data_prop=True)


def shape_of(info: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """A tensor's sides, None where one is not static."""
    sides = (dim.dim_value if dim.HasField("dim_value") else None for dim in info.type.tensor_type.shape.dim)
    return tuple(side if side is None or side > 0 else None for side in sides)


def _is_static(info: onnx.ValueInfoProto | None) -> bool:
    if info is None or not info.type.tensor_type.HasField("shape"):
        return False
    return None not in shape_of(info)


def inputs_of(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """What a graph is given; the oldest files list their weights among it."""
    weights = {tensor.name for tensor in graph.initializer}
    return [info for info in graph.input if info.name not in weights]


def _pinned(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy in which computed targets are constants; None where it cannot be run."""
    constants = {tensor.name for tensor in model.graph.initializer}
    targets = [
        str(node.input[index])
        for node in model.graph.node
        for index in _TARGETS.get(node.op_type, ())
        if index < len(node.input) and node.input[index] and node.input[index] not in constants
    ]
    names = list(dict.fromkeys(targets))
    if not names:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in names)
    zeros = {info.name: np.zeros([side or 1 for side in shape_of(info)], np.float32) for info in inputs_of(model.graph)}
    try:
        values = dict(zip(names, cpu_session(copy).run(None, zeros), strict=True))
    except Exception:  # ONNX Runtime's exceptions share no public base class; what is wrong is said where it matters
        return None
    copy.CopyFrom(model)
    for node in copy.graph.node:
        for index in _TARGETS.get(node.op_type, ()):
            if index < len(node.input) and node.input[index] in values:
                node.input[index] = f"{node.input[index]}_of_one_clip"
    copy.graph.initializer.extend(
        numpy_helper.from_array(value, f"{name}_of_one_clip") for name, value in values.items()
    )
    return copy
