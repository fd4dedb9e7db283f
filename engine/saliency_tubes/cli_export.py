"""The command that makes model files, of every kind of network there is."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .choices import ChannelOrder, Layout, Precision
from .cli_models import exporter_module
from .console import progress_line, say
from .options import (
    ApproximateOption,
    ArchKwargsOption,
    ArchOption,
    ChannelsOption,
    DebugOption,
    FeaturesOption,
    HeadOption,
    InputLayoutOption,
    LayerOption,
    LogitsOption,
    MeanOption,
    OpsetOption,
    PresetOption,
    ResizeOption,
    StdOption,
    WeightsOption,
)

_COMMAND = "tubes export"
_OTHERS = "networks other than MFNet-3D"
_KERAS = (".keras", ".h5", ".hdf5", ".json")

Progress = Callable[[str], None]
app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "  tubes export MFNet3D_UCF-101_Split-1_96.3.pth --labels ucf101.txt\n\n"
    "  tubes export weights.pth --preset mfnet --output kinetics.onnx\n\n"
    "  tubes export weights.pth --half-weights --layout plain\n\n"
    "  tubes export r3d_18.onnx --preset kinetics-torchvision\n\n"
    "  tubes export weights.pth --arch nets:r3d --frames 16 --size 112 --preset i3d\n\n"
    "  tubes export model.keras --mean 0 --std 1"
)
def export(
    network: Annotated[
        Path,
        typer.Argument(
            help="Weights (.pth, .pt, .pth.tar or .safetensors) of MFNet-3D, or of what --arch makes; or a 3-D CNN in "
            "ONNX (.onnx) or Keras (.keras, .h5, or .json with --weights).",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model file to write.")] = Path("tubes.onnx"),
    labels: Annotated[
        Path | None, typer.Option(help="Class names: a text file, one a line, or JSON.", show_default=False)
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Frames the network takes. Without it: 16 for MFNet-3D, or as the network has it.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Height and width of the crop it takes, in pixels. Without it: 224 for MFNet-3D, or as the network "
            "has it.",
            show_default=False,
        ),
    ] = None,
    preset: PresetOption = None,
    layout: Annotated[
        Layout,
        typer.Option(
            help="blocked: what can be is rewritten for ONNX Runtime on the CPU. plain: as it is, in a file that may "
            "be half as large."
        ),
    ] = Layout.BLOCKED,
    precision: Annotated[
        Precision, typer.Option(help="What the network computes in: fp32, or fp16 for GPUs, in a file half as large.")
    ] = Precision.FP32,
    half_weights: Annotated[
        bool,
        typer.Option(
            "--half-weights",
            help="Keep weights as float16 in a file half as large, which computes in fp32 as fast as any.",
        ),
    ] = False,
    opset: OpsetOption = None,
    head: HeadOption = None,
    arch: ArchOption = None,
    arch_kwargs: ArchKwargsOption = None,
    weights: WeightsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
    input_layout: InputLayoutOption = None,
    channels: ChannelsOption = None,
    features: FeaturesOption = None,
    layer: LayerOption = None,
    logits: LogitsOption = None,
    approximate: ApproximateOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn a network into a self-sufficient model file, and measure its parity.

    It may come from any framework. It has to end in global average pooling and
    linear layers; docs/models.md lists networks that do.
    """
    given = dict(locals())  # every option by its name, for the way that the network goes
    suffix = network.suffix.lower()
    if suffix == ".onnx":
        way = _graph
    elif suffix in _KERAS:
        way = _keras
    else:
        way = _checkpoint if arch is None else _architecture
    if layer is not None and features is not None:
        raise typer.BadParameter("a layer and a tensor are named: leave one out", param_hint="'--layer'")
    both = {name: given[name] for name in ("labels", "layout", "half_weights")}
    with progress_line() as progress:
        report = way(given, both | {"progress": progress})
    say(report.table())
    say(f"wrote {output}")


def _checkpoint(given: dict[str, Any], both: dict[str, Any]) -> Any:
    """Weights of MFNet-3D."""
    _none_given(_OTHERS, given, "mean", "std", "resize", "input_layout", "channels", "features", "logits")
    _none_given("Keras architectures (.json)", given, "weights")
    _none_given("--arch", given, "arch_kwargs")
    known = {"frames": given["frames"], "size": given["size"], "norm": given["preset"]}
    both |= {name: value for name, value in known.items() if value is not None}
    return _exporter("exporter", both).export_checkpoint(
        given["network"],
        given["output"],
        precision=given["precision"],
        approximate=given["approximate"],
        **both,
        **_some(given, "opset", "head", "layer"),
    )


def _architecture(given: dict[str, Any], both: dict[str, Any]) -> Any:
    """Weights of a network that a function makes."""
    _none_given("MFNet-3D, which is what weights are without --arch", given, "head", "precision")
    _none_given("Keras architectures (.json)", given, "weights")
    exporter = _exporter("architecture", both)
    return exporter.export_architecture(
        given["network"],
        given["arch"],
        given["output"],
        _pixels(given),
        arguments=given["arch_kwargs"],
        hints=_hints(given),
        **both,
        **_some(given, "opset"),
    )


def _keras(given: dict[str, Any], both: dict[str, Any]) -> Any:
    """A model of Keras."""
    _none_given("weights of PyTorch, and this is a Keras model", given, "head", "precision", "arch", "arch_kwargs")
    exporter = _exporter("keras_model", both, "keras")
    return exporter.export_keras(
        given["network"],
        given["output"],
        _pixels(given),
        weights=given["weights"],
        hints=_hints(given),
        **both,
        **_some(given, "opset"),
    )


def _graph(given: dict[str, Any], both: dict[str, Any]) -> Any:
    """An ONNX graph; nothing of PyTorch is imported."""
    others = "weights, and this is an ONNX graph"
    _none_given(others, given, "opset", "head", "precision", "arch", "arch_kwargs", "weights")
    exporter = exporter_module("foreign", _COMMAND, extra="onnx")
    return exporter.export_onnx(given["network"], given["output"], _pixels(given), hints=_hints(given), **both)


def _exporter(module: str, both: dict[str, Any], extra: str | None = None) -> Any:
    both["progress"]("loading PyTorch")
    return exporter_module(module, _COMMAND, extra)


def _pixels(given: dict[str, Any]) -> Any:
    from .presets import Pixels

    mean, std = (options.three(given[name], f"--{name}") for name in ("mean", "std"))
    return Pixels(given["preset"], mean, std, options.sides(given["resize"], "--resize"))


def _hints(given: dict[str, Any]) -> Any:
    """What the options say of a network that it does not say itself."""
    from saliency_tubes_export.foreign import GraphHints

    return GraphHints(
        layout=given["input_layout"],
        channels=given["channels"] or ChannelOrder.RGB,
        frames=given["frames"],
        size=given["size"],
        features=given["features"],
        layer=given["layer"],
        logits=given["logits"],
        approximate=given["approximate"],
    )


def _some(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """The options that have a value: the rest is left to defaults."""
    return {name: given[name] for name in names if given[name] is not None}


def _none_given(others: str, given: dict[str, Any], *names: str) -> None:
    """Refuse options that belong to something else; fp32 is no choice of a precision."""
    values = given | {"precision": None if given["precision"] is Precision.FP32 else given["precision"]}
    options.none_given(others, **{name: values[name] for name in names})
