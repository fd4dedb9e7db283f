"""`export_onnx`: somebody else's graph -> clip input -> tail -> prefix -> parity -> file, in that order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from saliency_tubes import __version__
from saliency_tubes.choices import ChannelOrder, InputLayout, Layout, Precision
from saliency_tubes.errors import ExportError, ModelFileError, OutputError, ParityError, first_line
from saliency_tubes.presets import Pixels
from saliency_tubes.spec import ModelSpec

from .clip_input import ClipInput, find_clip_input
from .convolution import attributes_of
from .expose import expose
from .graph import absorb_scale, add_prefix, take_rgb
from .labels import read_labels
from .layout import relayout
from .lookup import Lookup
from .one_input import free_batch, set_input, take_clip, to_channels_first
from .onnx_file import NEW_OPSET, OLDEST_OPSET, modernised, opset_of, read_classifier
from .parity import Original, ParityReport, measure
from .precision import storage_of, store_half
from .tail import Tail, find_tail
from .weights import holds, named_plainly
from .writing import check_output, replacing_model, write_model

_THEIRS = "network/"  # before every name of theirs, so that none is one of ours
_LOG_NOTHING = 4
_INVALID = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ParityError, ModelFileError)


@dataclass(frozen=True)
class GraphHints:
    """What somebody says of a graph that it does not say itself.

    Attributes:
        layout: the order of the input's axes.
        channels: the order of its colours.
        frames: T.
        size: H and W.
        features: the tensor that is averaged.
        logits: the tensor before any softmax.
    """

    layout: InputLayout | None = None
    channels: ChannelOrder = ChannelOrder.RGB
    frames: int | None = None
    size: int | None = None
    features: str | None = None
    logits: str | None = None


def export_onnx(
    network: Path,
    output: Path,
    pixels: Pixels,
    *,
    labels: Path | None = None,
    hints: GraphHints | None = None,
    layout: Layout = Layout.BLOCKED,
    half_weights: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ParityReport:
    """Write a self-sufficient model file of an ONNX classifier from any framework, if it computes what that computes.

    Args:
        network: an ONNX file of a 3-D CNN whose features are averaged and weighed; see `find_tail`.
        output: the ONNX file to write. What stood there is replaced only once the new file has passed.
        pixels: how the network's frames were prepared.
        labels: class names; see `read_labels`.
        hints: what the graph does not say.
        layout: whether convolutions are rewritten for CPU kernels, where some can be; see `relayout`.
        half_weights: whether the file keeps its weights as float16; see `store_half`.
        progress: called with a few words before each stage.

    Returns:
        What was measured, and what was found.

    Raises:
        ExportError: the file is not a network that this can read; `TailError` where it ends in something else,
            `ParityError` where the numbers differ.
        OptionError: the preprocessing does not fit the network's input.
        CheckpointError: the labels cannot be used.
        OutputError: the file cannot be written.
    """
    say, hints = progress or (lambda _: None), hints or GraphHints()
    check_output(output)
    if output.exists() and network.exists() and output.samefile(network):
        raise OutputError(f"{output} is the network itself: choose another --output")
    say(f"reading {network.name}")
    theirs, sha256 = read_classifier(network)
    clip = find_clip_input(theirs, hints.layout, hints.channels, hints.frames, hints.size)
    preprocessing = pixels.preprocessing(clip.size_hw)
    model = modernised(network, theirs)
    take_clip(model, clip)
    set_input(model, clip, 1)
    say("looking for pooling and classifier")
    tail = find_tail(model, hints.logits, hints.features)
    names = None if labels is None else read_labels(labels, tail.head.num_classes)
    original = _original(network, theirs, clip, tail)
    _take_apart(model, clip, tail)
    absorb_scale(model, preprocessing)
    spec = ModelSpec(
        architecture=_printable(network.stem),
        frames=clip.frames,
        sampling="uniform",
        preprocessing=preprocessing,
        features_shape=tail.features_shape,
        layout=layout,
        precision=Precision.FP32,
        head=tail.head,
        labels=names,
        checkpoint_name=_printable(network.name),
        checkpoint_sha256=sha256,
        versions=(("saliency-tubes", __version__), ("onnx", onnx.__version__), ("onnxruntime", ort.__version__)),
        parity=None,
        storage=storage_of(Precision.FP32, half_weights),
    )
    with replacing_model(output) as staging:
        say("measuring parity: the original graph against the exported one")
        report = _write(staging, model, spec, original)
    return replace(report, notes=(*_findings(theirs, clip, tail), *report.notes))


def _take_apart(model: onnx.ModelProto, clip: ClipInput, tail: Tail) -> None:
    """A graph for one clip becomes one from ``clip`` (N, 3, T, H, W) RGB, any N, to ``logits`` and ``features``."""
    look = Lookup(model)
    set_input(model, clip, "N")
    if clip.fixed_batch or clip.layout.folded:
        free_batch(model, look)
    if (batch := Lookup(model).shapes.get(tail.logits, (None,))[0]) is not None:
        raise ExportError(
            f"the graph gives {tail.logits} for {batch} clip, however many go in: export the network with a batch axis "
            "of any length"
        )
    onnx.compose.add_prefix(model, _THEIRS, inplace=True)
    pathways = tuple(replace(one, tensor=_THEIRS + one.tensor) for one in tail.pathways)
    expose(model, replace(tail, logits=_THEIRS + tail.logits, pathways=pathways))
    to_channels_first(model, clip, "clip")
    if clip.channels is ChannelOrder.BGR:
        take_rgb(model)


def _write(path: Path, plain: onnx.ModelProto, spec: ModelSpec, original: Original) -> ParityReport:
    """Write the graph in the layout that was asked for, or, where that is not proven equal, as it is."""
    note: tuple[str, ...] = ()
    if spec.layout is Layout.BLOCKED:
        if holds(plain):
            note = ("layout plain: weights that are too large for one ONNX file are not rewritten",)
        elif not _gains(plain):
            note = ("layout plain: only convolutions in groups of several channels gain from being rewritten",)
        else:
            rewritten = _copy(plain)
            relayout(rewritten)
            try:
                return _measured(path, rewritten, spec, original)
            except _INVALID as error:
                note = (f"layout plain: the network rewritten is not equal ({first_line(error)})",)
    try:
        report = _measured(path, _copy(plain), replace(spec, layout=Layout.PLAIN), original)
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
    if not report.passed:
        raise ParityError(
            f"the exported file differs from the original graph by more than the tolerance, so it was not kept:\n"
            f"{report.table()}"
        )
    write_model(path, model, replace(spec, parity=report.parity))
    return report


def _original(path: Path, model: onnx.ModelProto, clip: ClipInput, tail: Tail) -> Original:
    """The graph as it came, with its logits and what it pools for outputs, clip by clip in ONNX Runtime."""
    twin, folder = named_plainly(model)
    computed = {name for node in twin.graph.node for name in node.output}
    outputs = (tail.logits, *(one.tensor for one in tail.pathways))
    if missing := set(outputs) - computed:
        raise ExportError(
            f"{path}: upgrading the opset has renamed {missing.pop()}: export it again with a newer opset"
        )
    del twin.graph.output[:]
    for name in outputs:
        twin.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_NOTHING
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        session = ort.InferenceSession(twin.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ExportError(f"ONNX Runtime cannot load {path}: {first_line(error)}") from error

    def run(clips: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        try:
            pairs = [session.run(None, clip.feeds(clips[i : i + 1])) for i in range(len(clips))]
        except Exception as error:
            raise ExportError(
                f"ONNX Runtime cannot run {path} on a clip of {'x'.join(map(str, clip.shape))}: {first_line(error)}"
            ) from error
        logits, *tensors = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        return logits.reshape(len(clips), -1), tail.features(tensors)

    return Original(f"the original graph in ONNX Runtime {ort.__version__}", run)


def _findings(model: onnx.ModelProto, clip: ClipInput, tail: Tail) -> list[str]:
    """What was made of the graph, as sentences."""
    found = [f"input {clip.name} in {clip.layout} {clip.channels}, {_features(tail)}, logits {tail.logits}"]
    if tail.head.kind != "mean-linear":
        found.append(f"head {tail.head.kind}")
    if clip.slow is not None:
        places = ", ".join(map(str, clip.slow.frames))
        found.append(f"the input {clip.slow.name} gets the frames {places} of the {clip.frames}")
    if clip.layout.folded:
        found.append(f"frames go in one by one, {clip.frames} a clip")
    if tail.softmax is not None:
        found.append(f"{tail.softmax} at the end is left out: a tube explains logits")
    if clip.fixed_batch:
        found.append("the graph was written for one clip at a time; the file takes any number")
    if (opset := opset_of(model)) < OLDEST_OPSET:
        found.append(f"opset {opset} was upgraded to {NEW_OPSET}")
    return found


def _features(tail: Tail) -> str:
    """What is averaged, in words."""
    said = []
    for one in tail.pathways:
        last = ", channels last" if one.channel_axis == len(one.shape) - 1 else ""
        said.append(f"{one.tensor} ({one.shape[1]} steps of time)" if len(tail.pathways) > 1 else f"{one.tensor}{last}")
    return f"features {' and '.join(said)}"


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _printable(name: str) -> str:
    """A file name as text that can be shown: metadata reaches terminals and pages."""
    return "".join(character if character.isprintable() else "?" for character in name)
