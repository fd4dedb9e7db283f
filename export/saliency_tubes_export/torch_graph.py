"""PyTorch's exporter, kept quiet, and what it notes of its own machine dropped."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from saliency_tubes.errors import ExportError, first_line

from .mfnet3d import MFNet3D
from .onnx_file import forget_origin


def plain_classifier(network: MFNet3D, frames: int, size: int, opset: int) -> onnx.ModelProto:
    """The network as a plain ONNX classifier: ``clip`` (N, 3, T, H, W) float32 in, logits (N, K) out.

    Raises:
        ExportError: the network does not take clips of this size, or PyTorch's exporter fails.
    """
    example = torch.zeros(2, 3, frames, size, size)
    try:
        with quiet():
            program = torch.onnx.export(
                network,
                (example,),
                input_names=["clip"],
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
    forget_origin(model)
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
