"""A model file of a taken-apart graph: rewritten or as it is, and kept only if it computes what the original does."""

from dataclasses import replace
from pathlib import Path

import onnx
from saliency_tubes.choices import Layout, Precision
from saliency_tubes.errors import ExportError, ModelFileError, ParityError, first_line
from saliency_tubes.spec import ModelSpec

from .convolution import attributes_of
from .graph import add_prefix
from .layout import relayout
from .parity import Original, ParityReport, measure
from .precision import store_half
from .weights import holds
from .writing import write_model

_INVALID = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ParityError, ModelFileError)


def write_proven(path: Path, plain: onnx.ModelProto, spec: ModelSpec, original: Original) -> ParityReport:
    """Write a graph in the layout that was asked for, or, where that is not proven equal, as it is.

    Args:
        path: the file to write.
        plain: from ``clip`` (N, 3, T, H, W) to ``logits`` and ``features``, its scale absorbed.
        spec: what the file is to say of itself, but for its parity.
        original: what it is measured against.

    Raises:
        ExportError: the graph is not valid, or takes no two clips; `ParityError` where the numbers differ.
    """
    note: tuple[str, ...] = ()
    if spec.layout is Layout.BLOCKED:
        if holds(plain):
            note = ("layout plain: weights that are too large for one ONNX file are not rewritten",)
        elif not _gains(plain):
            note = ("layout plain: only convolutions in groups of several channels gain from being rewritten",)
        else:
            rewritten = copy_of(plain)
            relayout(rewritten)
            try:
                return _measured(path, rewritten, spec, original)
            except _INVALID as error:
                note = (f"layout plain: the network rewritten is not equal ({first_line(error)})",)
    try:
        report = _measured(path, copy_of(plain), replace(spec, layout=Layout.PLAIN), original)
    except ModelFileError as error:
        raise ExportError(
            f"the graph does not run on two clips at once: export the network with a batch axis of any length ({error})"
        ) from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph with a new input and new outputs is not valid: {first_line(error)}") from error
    return replace(report, notes=note)


def _gains(model: onnx.ModelProto) -> bool:
    """Whether rewriting pays: for groups as MFNet-3D's it does; shapes as R3D's hardly gain, others lost."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return any(
        attributes_of(node).get("group", 1) > 1 and node.input[1] in weights and weights[node.input[1]].dims[1] > 1
        for node in model.graph.node
        if node.op_type == "Conv"
    )


def _measured(path: Path, model: onnx.ModelProto, spec: ModelSpec, original: Original) -> ParityReport:
    """Put the prefix in front, write the file, and keep it if it computes what the original computes."""
    if spec.storage is Precision.FP16:
        store_half(model)
    add_prefix(model, spec.frames, spec.preprocessing)
    write_model(path, model, spec)
    report = measure(original, path, spec)
    report.require("original graph")
    write_model(path, model, replace(spec, parity=report.parity), again=True)
    return report


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, to be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
