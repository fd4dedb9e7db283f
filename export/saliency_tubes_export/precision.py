"""The same network in half precision: what it computes in, or only what its weights are kept in.

`to_half` computes in float16 between a float16 clip and the features, and in float32 behind. `store_half` computes in
float32, of weights that were rounded to float16 to halve the file.

Pooling and classifier stay float32: they cost nothing, a float16 mean of a map has fewer digits than the map, and the
maps of a tube add up to the logits only where both come from the same sum.

Well-kept packages convert, too (`onnxruntime.transformers.float16`, `onnxconverter-common`). They clamp a weight that
float16 cannot hold, silently, and leave nodes out of order; where the borders are two, and known by name, this module
is shorter than what it would take to call them safely.
"""

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.choices import Precision
from saliency_tubes.errors import ExportError, OptionError

from .weights import values

_FEATURES = "features"
_HALF = "_half"
_LARGEST = float(np.finfo(np.float16).max)
_SMALL = 4096  # values; all that are fewer, such as batch norms and MFNet-3D's first kernels, are 1 % of its weights


def to_half(model: onnx.ModelProto) -> None:
    """Let a float32 classifier with exposed features take a float16 clip and compute in float16 up to these.

    Raises:
        ExportError: a weight is too large for float16.
    """
    graph = model.graph
    inside = _above(graph, _FEATURES)
    behind = {name for node in graph.node if node.output[0] not in inside for name in node.input}
    halves = {_FEATURES: _FEATURES + _HALF}
    for tensor in [t for t in graph.initializer if t.data_type == TensorProto.FLOAT and t.name in inside]:
        if tensor.name in behind:  # the classifier goes on with its own
            halves[tensor.name] = tensor.name + _HALF
        half = numpy_helper.from_array(_rounded(tensor), halves.get(tensor.name, tensor.name))
        graph.initializer.append(half) if tensor.name in halves else tensor.CopyFrom(half)
    cast = helper.make_node("Cast", [halves[_FEATURES]], [_FEATURES], to=TensorProto.FLOAT)
    at = next(index for index, node in enumerate(graph.node) if _FEATURES in node.output)
    for node in graph.node:
        if node.output[0] in inside:
            for names in (node.input, node.output):
                names[:] = [halves.get(name, name) for name in names]
    graph.node.insert(at + 1, cast)
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    del graph.value_info[:]  # they speak of float32


def storage_of(precision: Precision, half_weights: bool) -> Precision:
    """What weights are kept in by a file that computes in `precision`.

    Raises:
        OptionError: half weights were asked for where all is float16.
    """
    if half_weights and precision is Precision.FP16:
        raise OptionError(
            "--half-weights is for files that compute in fp32: with --precision fp16 all weights are float16, leave it "
            "out"
        )
    return Precision.FP16 if half_weights else precision


def store_half(model: onnx.ModelProto) -> None:
    """Keep a float32 classifier's large weights as float16, each behind a cast to float32.

    The runtimes carry out casts of constants when they load a file: what runs is the same graph, as fast, of rounded
    weights. The classifier behind the features keeps its own, which stand in the metadata, too, and have to be the same
    there for maps to add up to logits.

    Raises:
        ExportError: a weight is too large for float16.
    """
    graph = model.graph
    inside = _above(graph, _FEATURES)
    behind = {name for node in graph.node if node.output[0] not in inside for name in node.input}
    casts = []
    for tensor in graph.initializer:
        large = tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) >= _SMALL
        if large and tensor.name in inside - behind:
            name, half = tensor.name, tensor.name + _HALF
            tensor.CopyFrom(numpy_helper.from_array(_rounded(tensor), half))
            casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):  # in front: a node follows what it is computed from
        graph.node.insert(0, cast)


def with_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float16 value is a float32 one that two casts round to float16.

    This is what a graph of float16 comes to where it is computed in float16, on a GPU, whose products and sums are
    float32 within a node. ONNX Runtime has no such kernels for x86 processors: it takes those for float32 and drops the
    casts between, so that nothing is rounded but the weights, and nothing overflows. Casts written down like these, it
    carries out.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    halves = {
        info.name
        for info in onnx.shape_inference.infer_shapes(model).graph.value_info
        if info.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if (name := node.output[0]) in halves:
            node.output[0], narrow = f"{name}_exact", f"{name}_narrow"
            nodes.append(helper.make_node("Cast", [node.output[0]], [narrow], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [narrow], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    return twin


def _above(graph: onnx.GraphProto, name: str) -> set[str]:
    """Names of all that `name` is computed from, and its own."""
    names = {name}
    for node in reversed(graph.node):  # in order, as ONNX has them
        if names & set(node.output):
            names.update(node.input)
    return names


def _rounded(tensor: onnx.TensorProto) -> NDArray[np.float16]:
    array = values(tensor)
    with np.errstate(over="ignore"):  # asked for next
        half: NDArray[np.float16] = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(
            f"{tensor.name} holds {array[~np.isfinite(half)][0]:.4g}, and the largest number of float16 is "
            f"{_LARGEST:.0f}: export it in float32, without --half-weights and with --precision fp32"
        )
    return half
