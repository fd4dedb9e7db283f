"""From a network to the model file: PyTorch's exporter, the uint8 prefix, and the outputs a tube needs."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from saliency_tubes.errors import ExportError, first_line
from saliency_tubes.spec import Preprocessing

from .convolution import attributes_of
from .layout import TO_FRAMES
from .mfnet3d import MFNet3D

# What a float16 clip counts pixels in. As a power of two it keeps them exact where the mean is whole, which normalised
# values would not be; as one close to 255 * std it leaves the first kernels the size that they were trained to, away
# from the smallest numbers of float16.
HALF_UNIT = 64.0
_CLIP = "clip"


def plain_classifier(network: MFNet3D, frames: int, size: int, opset: int) -> onnx.ModelProto:
    """The network as a plain ONNX classifier: ``clip`` (N, 3, T, H, W) float32 in, logits (N, K) out.

    Raises:
        ExportError: the network does not take clips of this size, or PyTorch's exporter fails.
    """
    example = torch.zeros(2, 3, frames, size, size)
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[_CLIP],
                output_names=["scores"],
                opset_version=opset,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter passes on whatever its stages raise
        raise ExportError(
            f"PyTorch {torch.__version__} could not export the network for {frames} frames of {size}x{size} with opset "
            f"{opset}: {first_line(error)}"
        ) from error
    if program is None:
        raise ExportError(f"PyTorch {torch.__version__} exported nothing: is another exporter configured?")
    model: onnx.ModelProto = program.model_proto
    _forget_origin(model)
    return model


def absorb_scale(
    model: onnx.ModelProto, preprocessing: Preprocessing, unit: float = 1.0, *, in_kernels: bool = True
) -> None:
    """Let the network take ``(x - 255 * mean) / unit`` for ``(x / 255 - mean) / std``.

    The scale goes into its first kernels. Where the input does not go into one convolution alone, or `in_kernels` is
    off, a multiplication is put in front.
    """
    graph = model.graph
    (clip,) = graph.input
    scale = (unit / (255 * np.array(preprocessing.std))).astype(np.float32).reshape(3, 1, 1, 1)
    users = [node for node in graph.node if clip.name in node.input]
    inputs = [name for node in graph.node for name in node.input]
    kernels = {t.name: t for t in graph.initializer if t.dims[1:2] == [3] and inputs.count(t.name) == 1}
    alone = in_kernels and [node.op_type for node in users] == ["Conv"]
    if alone and (kernel := kernels.get(users[0].input[1])) is not None:
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * scale, kernel.name))
        return
    for node in users:
        node.input[:] = ["scaled_clip" if name == clip.name else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(scale, "preprocessing_scale"))
    graph.node.insert(0, helper.make_node("Mul", [clip.name, "preprocessing_scale"], ["scaled_clip"]))


def add_prefix(model: onnx.ModelProto, frames: int, preprocessing: Preprocessing) -> None:
    """Put the preprocessing in front: ``frames`` (N, T, H, W, 3) uint8 RGB become the old input, float32 or float16.

    The mean is subtracted, and for float16 the rest divided by `HALF_UNIT`: `absorb_scale` has made the network ready
    for that.
    """
    graph = model.graph
    (old,) = graph.input
    users = [node for node in graph.node if old.name in node.input]
    name, perm, behind_channels = old.name, [0, 4, 1, 2, 3], 3
    if [node.op_type for node in users] == ["Transpose"] and attributes_of(users[0])["perm"] == TO_FRAMES:
        # The network wants (N, T, 3, H, W): it gets them so, instead of twice transposed.
        name, perm, behind_channels = users[0].output[0], [0, 1, 4, 2, 3], 2
        graph.node.remove(users[0])
    nodes = [  # transposed first, while a value is one byte
        helper.make_node("Transpose", ["frames"], ["frames_by_channel"], perm=perm),
        helper.make_node("Cast", ["frames_by_channel"], ["frames_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["frames_float", "preprocessing_mean"], [name]),
    ]
    if old.type.tensor_type.elem_type == TensorProto.FLOAT16:
        nodes[-1].output[0] = "frames_centred"
        graph.initializer.append(numpy_helper.from_array(np.array(1 / HALF_UNIT, np.float32), "preprocessing_unit"))
        nodes.append(helper.make_node("Mul", ["frames_centred", "preprocessing_unit"], ["frames_scaled"]))
        nodes.append(helper.make_node("Cast", ["frames_scaled"], [name], to=TensorProto.FLOAT16))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    mean = (255 * np.array(preprocessing.mean)).astype(np.float32).reshape(3, *[1] * behind_channels)
    graph.initializer.append(numpy_helper.from_array(mean, "preprocessing_mean"))
    shape: list[str | int | None] = ["N", frames, *preprocessing.crop_hw, 3]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("frames", TensorProto.UINT8, shape))


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of the machine it ran on: source paths and stack traces of every node."""
    model.graph.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.input):
        item.doc_string = ""
        del item.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress off stdout, and its notes on its own internals off stderr."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
