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
from saliency_tubes.errors import ExportError
from saliency_tubes.spec import Preprocessing

from .mfnet3d import MFNet3D

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
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"PyTorch {torch.__version__} could not export the network for {frames} frames of {size}x{size} with opset "
            f"{opset}: {first_line}"
        ) from error
    if program is None:
        raise ExportError(f"PyTorch {torch.__version__} exported nothing: is another exporter configured?")
    model: onnx.ModelProto = program.model_proto
    _forget_origin(model)
    return model


def add_prefix(model: onnx.ModelProto, frames: int, preprocessing: Preprocessing) -> None:
    """Put the preprocessing in front: ``frames`` (N, T, H, W, 3) uint8 RGB becomes the old float32 input.

    ``(x / 255 - mean) / std`` is one multiplication and one addition a channel.
    """
    graph = model.graph
    (old,) = graph.input
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    by_channel = (3, 1, 1, 1)
    constants = {
        "preprocessing_scale": (1 / (255 * std)).reshape(by_channel),
        "preprocessing_shift": (-mean / std).reshape(by_channel),
    }
    nodes = [  # transposed first, while a value is one byte
        helper.make_node("Transpose", ["frames"], ["frames_ncthw"], perm=[0, 4, 1, 2, 3]),
        helper.make_node("Cast", ["frames_ncthw"], ["frames_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["frames_float", "preprocessing_scale"], ["frames_scaled"]),
        helper.make_node("Add", ["frames_scaled", "preprocessing_shift"], [old.name]),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    for name, values in constants.items():
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
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
