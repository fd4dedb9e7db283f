"""`export_graph`: somebody else's graph -> clip input -> tail -> prefix -> parity -> file, in that order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from saliency_tubes.choices import ChannelOrder, InputLayout, Layout, Precision
from saliency_tubes.errors import ExportError
from saliency_tubes.metadata import printable
from saliency_tubes.presets import Pixels
from saliency_tubes.spec import ModelSpec

from .clip_input import ClipInput, find_clip_input
from .eager import Eager
from .expose import expose
from .graph import absorb_scale, take_rgb
from .halves import compared, halves_in, in_float32
from .labels import Labels, class_names
from .layers import layer_output
from .linearised import exactness, tail_or_expansion
from .lookup import Lookup
from .one_input import free_batch, set_input, take_clip, to_channels_first
from .onnx_file import NEW_OPSET, OLDEST_OPSET, modernised, opset_of, read_classifier
from .original import VERSIONS, Graph, Origin, original_of
from .parity import ParityReport
from .precision import storage_of
from .proven import copy_of, write_proven
from .tail import Tail
from .writing import check_output, replacing_model

_THEIRS = "network/"  # before every name of theirs, so that none is one of ours


@dataclass(frozen=True)
class GraphHints:
    """What somebody says of a graph that it does not say itself.

    Attributes:
        layout: the order of the input's axes.
        channels: the order of its colours.
        frames: T.
        size: H and W.
        features: the tensor that is averaged.
        layer: the layer whose output is averaged, by name; see `layer_output`.
        logits: the tensor before any softmax.
        approximate: whether maps that do not add up to the logits will do; see `linearised`.
    """

    layout: InputLayout | None = None
    channels: ChannelOrder = ChannelOrder.RGB
    frames: int | None = None
    size: int | None = None
    features: str | None = None
    layer: str | None = None
    logits: str | None = None
    approximate: bool = False


def export_onnx(
    network: Path,
    output: Path,
    pixels: Pixels,
    *,
    labels: Labels | None = None,
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
        labels: class names; see `class_names`.
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
    check_output(output, network)
    if progress is not None:
        progress(f"reading {network.name}")
    graph, sha256 = read_classifier(network)
    origin = Origin(network.name, network.stem, sha256)
    return export_graph(
        graph, origin, output, pixels,
        labels=labels, hints=hints, layout=layout, half_weights=half_weights, progress=progress,
    )  # fmt: skip


def export_graph(
    network: onnx.ModelProto,
    origin: Origin,
    output: Path,
    pixels: Pixels,
    *,
    labels: Labels | None = None,
    hints: GraphHints | None = None,
    layout: Layout = Layout.BLOCKED,
    half_weights: bool = False,
    eager: Eager | None = None,
    progress: Callable[[str], None] | None = None,
) -> ParityReport:
    """The same as `export_onnx`, of a graph in memory (see `checked`), whose origin is known.

    Where the network itself is at hand, `eager`, the graph's outputs have to be its outputs, and the exported logits
    are compared with its logits.
    """
    say, hints = progress or (lambda _: None), hints or GraphHints()
    halves, as_it_came = halves_in(network), network
    if halves is not None:
        network = in_float32(network)
    clip = find_clip_input(network, hints.layout, hints.channels, hints.frames, hints.size)
    preprocessing = pixels.preprocessing(clip.size_hw)
    model = modernised(origin.name, network)
    take_clip(model, clip)
    set_input(model, clip, 1)
    say("looking for pooling and classifier")
    graph = Graph(origin, network, clip)
    features = hints.features if hints.layer is None else layer_output(_of_one_clip(network, clip), hints.layer)
    tail, why = tail_or_expansion(model, graph, preprocessing, hints.logits, features, hints.approximate, say)
    names = None if labels is None else class_names(labels, tail.head.num_classes)
    original = original_of(graph, tail, eager, "" if halves is None else ", converted to float32,")
    _take_apart(model, clip, tail)
    absorb_scale(model, preprocessing)
    spec = ModelSpec(
        architecture=printable(origin.architecture),
        frames=clip.frames,
        sampling="uniform",
        preprocessing=preprocessing,
        features_shape=tail.features_shape,
        layout=layout,
        precision=Precision.FP32,
        head=tail.head,
        labels=names,
        checkpoint_name=printable(origin.name),
        checkpoint_sha256=origin.sha256,
        versions=(*VERSIONS, *origin.versions),
        parity=None,
        storage=storage_of(Precision.FP32, half_weights),
        approximate=why,
    )
    found = [*_findings(network, clip, tail), *exactness(hints.approximate, why)]
    if halves is not None:
        change = compared(original_of(Graph(origin, as_it_came, clip), tail, None), original, spec)
        found.append(f"the graph is in {halves}, and the file computes in float32; {change}")
    with replacing_model(output) as staging:
        say("measuring parity: the original against the exported file")
        report = write_proven(staging, model, spec, original)
    return replace(report, notes=(*found, *report.notes))


def _of_one_clip(network: onnx.ModelProto, clip: ClipInput) -> onnx.ModelProto:
    """The graph as it came, with its notes, its shapes static."""
    copy = copy_of(network)
    take_clip(copy, clip)
    set_input(copy, clip, 1)
    return copy


def _take_apart(model: onnx.ModelProto, clip: ClipInput, tail: Tail) -> None:
    """A graph for one clip becomes one from ``clip`` (N, 3, T, H, W) RGB, any N, to ``logits`` and ``features``."""
    look = Lookup(model)
    set_input(model, clip, "N")
    if clip.fixed_batch:
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


def _findings(model: onnx.ModelProto, clip: ClipInput, tail: Tail) -> list[str]:
    """What was made of the graph, as sentences."""
    found = [f"input {clip.name} in {clip.layout} {clip.channels}, {_features(tail)}, logits {printable(tail.logits)}"]
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
    return printable(f"features {' and '.join(said)}")
