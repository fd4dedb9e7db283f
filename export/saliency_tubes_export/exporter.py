"""`export_checkpoint`: checkpoint -> graph -> tail -> prefix -> parity -> file, in that order, nothing else."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from saliency_tubes import __version__
from saliency_tubes.choices import Layout, Norm, Precision
from saliency_tubes.errors import ExportError, OptionError
from saliency_tubes.presets import preset
from saliency_tubes.spec import FILE_PRECISIONS, ModelSpec

from .checkpoint import Checkpoint, load_checkpoint
from .expose import expose
from .foreign import GraphHints
from .graph import HALF_UNIT, absorb_scale, add_prefix
from .labels import read_labels
from .layout import relayout
from .mfnet3d import ARCHITECTURE, MFNet3D
from .modules import export_model
from .onnx_file import forget_origin
from .original import Origin
from .parity import Original, ParityReport, measure
from .precision import storage_of, store_half, to_half, with_rounding
from .tail import Tail, find_tail
from .torch_graph import DEFAULT_OPSET, check_opset, plain_classifier
from .writing import check_output, replacing_model, write_model

SMALLEST_SIZE = 32  # MFNet-3D halves height and width five times


def export_checkpoint(
    weights: Path,
    output: Path,
    *,
    labels: Path | None = None,
    frames: int = 16,
    size: int = 224,
    norm: Norm = Norm.SALIENCY_TUBES,
    opset: int = DEFAULT_OPSET,
    head: str | None = None,
    layout: Layout = Layout.BLOCKED,
    precision: Precision = Precision.FP32,
    half_weights: bool = False,
    layer: str | None = None,
    approximate: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ParityReport:
    """Write a self-sufficient model file, if it computes what the checkpoint's network computes.

    Args:
        weights: an MFNet-3D checkpoint; see `load_checkpoint`.
        output: the ONNX file to write. What stood there is replaced only once the new file has passed.
        labels: class names; see `read_labels`.
        frames: T, how many frames the network takes.
        size: height and width of the crop that it takes, in pixels.
        norm: how the weights' training normalised frames.
        opset: ONNX operator set, 18 to 23.
        head: which classifier of a multi-task checkpoint.
        layout: whether convolutions are rewritten for CPU kernels; see `relayout`.
        precision: what the network computes in, fp32 or fp16; see `to_half`.
        half_weights: whether a file that computes in fp32 keeps its weights as float16; see `store_half`.
        layer: an earlier layer to explain than the last, such as ``"conv4"``; only in fp32.
        approximate: whether maps that do not add up to the logits will do, as those of an earlier layer do not.
        progress: called with a few words before each stage.

    Returns:
        What was measured.

    Raises:
        CheckpointError: the weights or the labels cannot be used.
        ExportError: an argument is out of range, or the export failed; `ParityError` where the numbers differ.
        OptionError: half weights or an earlier layer were asked for where all is float16.
        OutputError: the file cannot be written.
    """
    say = progress or (lambda _: None)
    _check_arguments(output, frames, size, opset, precision)
    storage = storage_of(precision, half_weights)
    say(f"reading {weights.name}")
    checkpoint = load_checkpoint(weights, head)
    names = None if labels is None else read_labels(labels, checkpoint.network.classifier.out_features)
    if layer is not None:
        if precision is Precision.FP16:
            raise OptionError("an earlier layer is explained in fp32 alone: leave --precision out")
        return export_model(
            checkpoint.network,
            example=torch.zeros(1, 3, frames, size, size),
            preprocess=norm,
            path=output,
            labels=names,
            hints=GraphHints(size=size, layer=layer, approximate=approximate),
            origin=Origin(checkpoint.name, ARCHITECTURE, checkpoint.sha256),
            layout=layout,
            half_weights=half_weights,
            opset=opset,
            progress=say,
        )
    say("exporting the network with PyTorch")
    model = plain_classifier(checkpoint.network, torch.zeros(1, 3, frames, size, size), opset)
    forget_origin(model)
    tail = find_tail(model)
    expose(model, tail)
    spec = _spec(checkpoint, tail, names, frames, size, norm, layout, precision, storage)
    half = precision == Precision.FP16
    absorb_scale(model, spec.preprocessing, HALF_UNIT if half else 1.0)
    if layout is Layout.BLOCKED:
        relayout(model)
    if half:
        to_half(model)
    elif storage is Precision.FP16:
        store_half(model)
    add_prefix(model, frames, spec.preprocessing)
    original = _eager(checkpoint.network)
    with replacing_model(output) as staging:
        say("measuring parity: PyTorch against ONNX Runtime")
        # The file as this CPU runs it, and then, if that is not what a GPU does, the harder case, which goes on record.
        for candidate in (model, *([with_rounding(model)] if half else [])):
            write_model(staging, candidate, spec)
            report = measure(original, staging, spec)
            report.require("network")
        write_model(staging, model, replace(spec, parity=report.parity), again=True)
    return report


def _check_arguments(output: Path, frames: int, size: int, opset: int, precision: Precision) -> None:
    if frames < 1:
        raise ExportError(f"frames is {frames}: expected at least 1")
    if size < SMALLEST_SIZE:
        raise ExportError(f"size is {size}: MFNet-3D needs crops of at least {SMALLEST_SIZE} pixels")
    check_opset(opset)
    if precision not in FILE_PRECISIONS:
        raise ExportError(
            f"a file is exported in {' or '.join(FILE_PRECISIONS)}, and {precision} is for the time when it runs: "
            f"`tubes run --precision {precision}`"
        )
    check_output(output)


def _spec(
    checkpoint: Checkpoint,
    tail: Tail,
    labels: tuple[str, ...] | None,
    frames: int,
    size: int,
    norm: Norm,
    layout: Layout,
    precision: Precision,
    storage: Precision,
) -> ModelSpec:
    return ModelSpec(
        architecture=ARCHITECTURE,
        frames=frames,
        sampling="uniform",
        preprocessing=preset(norm, size),
        features_shape=tail.features_shape,
        layout=layout,
        precision=precision,
        head=tail.head,
        labels=labels,
        checkpoint_name=checkpoint.name,
        checkpoint_sha256=checkpoint.sha256,
        versions=(("saliency-tubes", __version__), ("torch", torch.__version__), ("onnx", onnx.__version__)),
        parity=None,
        storage=storage,
    )


def _eager(network: MFNet3D) -> Original:
    def run(clips: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            features = network.features(torch.from_numpy(clips))
            logits = network.classifier(features.mean(dim=(2, 3, 4)))
        return logits.numpy(), features.numpy()

    return Original(f"PyTorch {torch.__version__} eager", run)
