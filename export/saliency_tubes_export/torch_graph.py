"""PyTorch's exporter, kept quiet."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
import torch
from saliency_tubes.errors import ExportError, first_line
from torch import Tensor, nn

DEFAULT_OPSET = 18
OPSETS = range(18, 24)


def check_opset(opset: int) -> None:
    """Ask before the work is done whether there is such an operator set.

    Raises:
        ExportError: there is not.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset is {opset}: expected {OPSETS[0]} to {OPSETS[-1]}")


def plain_classifier(
    network: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    opset: int = DEFAULT_OPSET,
    *,
    rows: int = 1,
    outputs: Sequence[str] = ("scores",),
) -> onnx.ModelProto:
    """The network as a plain ONNX classifier, of any number of clips, or of one where PyTorch cannot leave that open.

    With PyTorch's notes on its own machine, and on which module a node is from: see `forget_origin`.

    Args:
        network: in the mode that it is to be exported in.
        example: a clip, or one for each argument of the network; the first axis of each counts clips. The graph's input
            is ``clip``, or ``clip_0``, ``clip_1``, ...
        opset: ONNX operator set, 18 to 23.
        rows: how much of the first axis is one clip: T, where frames come one by one.
        outputs: names for the tensors that the network returns.

    Raises:
        ExportError: the network does not take the example, or PyTorch's exporter fails.
    """
    clips = (example,) if isinstance(example, Tensor) else example
    names = ["clip"] if len(clips) == 1 else [f"clip_{number}" for number in range(len(clips))]
    one = tuple(clip[:rows] for clip in clips)
    two = tuple(torch.cat([clip, clip]) for clip in one)
    batch = torch.export.Dim("N") if rows == 1 else rows * torch.export.Dim("clips")  # SymPy has a function N
    try:
        try:
            return _exported(network, two, opset, names, outputs, tuple({0: batch} for _ in two))
        except Exception:  # the exporter passes on whatever its stages raise
            return _exported(network, one, opset, names, outputs, None)
    except Exception as error:
        sides = " and ".join("x".join(map(str, clip.shape)) for clip in one)
        raise ExportError(
            f"PyTorch {torch.__version__} could not export the network for {sides} with opset {opset}: "
            f"{first_line(error.__cause__ or error)}"
        ) from error


def _exported(
    network: nn.Module,
    clips: tuple[Tensor, ...],
    opset: int,
    names: list[str],
    outputs: Sequence[str],
    dynamic: tuple[dict[int, Any], ...] | None,
) -> onnx.ModelProto:
    with quiet():
        program = torch.onnx.export(
            network,
            clips,
            input_names=names,
            output_names=outputs,
            opset_version=opset,
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"PyTorch {torch.__version__} exported nothing: is another exporter configured?")
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress off stdout, and its notes on its own internals off stderr."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch._guards", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)  # what fails is raised as well
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
