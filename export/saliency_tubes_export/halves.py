"""Graphs of float16 and bfloat16, as graphs of float32: what the exporter reads, and what its files compute in."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError
from saliency_tubes.errors import ExportError, ParityError, first_line
from saliency_tubes.spec import ModelSpec
from saliency_tubes.synthetic import synthetic_clip

from .parity import Original, normalised
from .weights import all_tensors

TOLERANCE = 5e-2  # relative, of logits: what the roundings of every node may come to; see `parity.TOLERANCES`
_HALVES: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
_TYPES = ("to", "dtype")  # attributes that name the type of what a node gives


def halves_in(model: onnx.ModelProto) -> str | None:
    """In which of float16 and bfloat16 a graph keeps or computes anything; None where it does not."""
    kinds = {tensor.data_type for tensor in all_tensors(model.graph)}
    for graph in _graphs(model.graph):
        kinds.update(info.type.tensor_type.elem_type for info in (*graph.input, *graph.output))
        kinds.update(a.i for node in graph.node for a in node.attribute if a.name in _TYPES)
    return " and ".join(name for kind, name in _HALVES.items() if kind in kinds) or None


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that keeps the same numbers in float32, and computes in it.

    Raises:
        ExportError: the graph is not valid then.
    """
    copy = _without_casts(model)
    for tensor in all_tensors(copy.graph):
        if tensor.data_type in _HALVES:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for graph in _graphs(copy.graph):
        for info in (*graph.input, *graph.output, *graph.value_info):
            if info.type.tensor_type.elem_type in _HALVES:
                info.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in _TYPES and attribute.i in _HALVES:
                    attribute.i = TensorProto.FLOAT
    try:
        onnx.checker.check_model(copy, full_check=True)
    except (ValidationError, InferenceError, RuntimeError) as error:
        raise ExportError(
            f"the graph computes in {halves_in(model)}, and is not valid in float32 ({first_line(error)}): export the "
            "float32 network"
        ) from error
    return copy


def compared(halves: Original, converted: Original, spec: ModelSpec) -> str:
    """What becomes of the logits in float32, as a sentence.

    Args:
        halves: the graph as it came; fails where ONNX Runtime cannot run it.
        converted: the same in float32.
        spec: for its clips and their preprocessing.

    Raises:
        ParityError: they differ by more than `TOLERANCE`.
    """
    clips = normalised(synthetic_clip(spec.input_shape, 0)[None], spec.preprocessing)
    try:
        theirs = halves.run(clips)[0].astype(np.float64)
    except ExportError:
        return "ONNX Runtime's CPU does not run the graph as it came, so it was not compared with that"
    ours = converted.run(clips)[0]
    with np.errstate(invalid="ignore"):  # infinite values do not pass
        difference = float(np.abs(ours - theirs).max() / (np.abs(ours).max() or 1))
    if not difference <= TOLERANCE:
        raise ParityError(
            f"in float32 the graph gives other logits than as it came: they differ by {difference:.1e} relative, and "
            f"the tolerance is {TOLERANCE:.0e}. Export the float32 network"
        )
    against = f"{difference:.1e} relative (tolerance {TOLERANCE:.0e})"
    return f"its logits differ from those of the graph as it came by {against}"


def _without_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which what is cast to or from halves, and was or becomes float32, stays what it is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {
        info.name
        for info in (*inferred.value_info, *inferred.input, *inferred.output)
        if info.type.tensor_type.elem_type in (TensorProto.FLOAT, *_HALVES)
    }
    kept = {info.name for info in graph.output}
    sources: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type == "Cast" and floats.issuperset((node.input[0], node.output[0])) and node.output[0] not in kept:
            sources[node.output[0]] = sources.get(node.input[0], node.input[0])
            graph.node.remove(node)
    for inner in _graphs(graph):
        for node in inner.node:
            node.input[:] = [sources.get(name, name) for name in node.input]
    return copy


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)
