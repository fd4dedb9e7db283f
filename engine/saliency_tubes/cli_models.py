"""The commands about model files: export, info, doctor, bench."""

import json
import math
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options, texts
from .choices import Against, ChannelOrder, Device, Layout, Norm, Precision
from .console import document_file, progress_line, say
from .errors import DependencyError
from .options import (
    ChannelsOption,
    DebugOption,
    DeviceOption,
    FeaturesOption,
    HeadOption,
    InputLayoutOption,
    JsonOption,
    LogitsOption,
    MeanOption,
    ModelOption,
    OpsetOption,
    PrecisionOption,
    PresetOption,
    ResizeOption,
    StdOption,
)

if TYPE_CHECKING:
    from .spec import ModelSpec

# What the runtime does without, and the extra that brings it.
_EXTRAS = {"torch": "export", "onnx": "export", "onnxscript": "export", "safetensors": "export", "scipy": "bench"}

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "  tubes export MFNet3D_UCF-101_Split-1_96.3.pth --labels ucf101.txt\n\n"
    "  tubes export weights.pth --preset mfnet --output kinetics.onnx\n\n"
    "  tubes export weights.pth --half-weights --layout plain\n\n"
    "  tubes export r3d_18.onnx --preset kinetics-torchvision\n\n"
    "  tubes export keras.onnx --mean 0 --std 1 --frames 16 --size 112"
)
def export(
    network: Annotated[
        Path,
        typer.Argument(
            help="MFNet-3D weights (.pth, .pt, .pth.tar or .safetensors), or a 3-D CNN in ONNX (.onnx).",
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
            min=1, help="Frames the network takes. Without it: 16, or as an ONNX graph has it.", show_default=False
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Height and width of the crop it takes, in pixels. Without it: 224, or as an ONNX graph has it.",
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
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
    input_layout: InputLayoutOption = None,
    channels: ChannelsOption = None,
    features: FeaturesOption = None,
    logits: LogitsOption = None,
    debug: DebugOption = False,
) -> None:
    """Turn a network into a self-sufficient model file, and measure its parity.

    An ONNX graph may come from any framework. It has to end in global average
    pooling and linear layers; docs/models.md lists networks that do.
    """
    both: dict[str, Any] = {"labels": labels, "layout": layout, "half_weights": half_weights}
    graph = {"mean": mean, "std": std, "resize": resize, "input_layout": input_layout}
    graph |= {"channels": channels, "features": features, "logits": logits}
    with progress_line() as progress:
        both["progress"] = progress
        if network.suffix.lower() == ".onnx":
            halves = None if precision is Precision.FP32 else precision
            options.none_given("weights, and this is an ONNX graph", opset=opset, head=head, precision=halves)
            report = _export_graph(network, output, preset, frames, size, graph, both)
        else:
            options.none_given("ONNX graphs", **graph)
            given = {"frames": frames, "size": size, "norm": preset, "opset": opset, "head": head}
            both |= {name: value for name, value in given.items() if value is not None}
            progress("loading PyTorch")
            exporter = exporter_module("exporter", "tubes export")
            report = exporter.export_checkpoint(network, output, precision=precision, **both)
    say(report.table())
    say(f"wrote {output}")


def _export_graph(
    network: Path,
    output: Path,
    preset: Norm | None,
    frames: int | None,
    size: int | None,
    given: dict[str, Any],
    both: dict[str, Any],
) -> Any:
    """What the options say of an ONNX graph, and the export with it; nothing of PyTorch is imported."""
    exporter = exporter_module("foreign", "tubes export", extra="onnx")
    from .presets import Pixels

    mean, std = options.three(given["mean"], "--mean"), options.three(given["std"], "--std")
    pixels = Pixels(preset, mean, std, options.sides(given["resize"], "--resize"))
    hints = exporter.GraphHints(
        layout=given["input_layout"],
        channels=given["channels"] or ChannelOrder.RGB,
        frames=frames,
        size=size,
        features=given["features"],
        logits=given["logits"],
    )
    return exporter.export_onnx(network, output, pixels, hints=hints, **both)


@app.command(epilog="Example:\n\n  tubes info tubes.onnx --json")
def info(
    model: Annotated[Path, typer.Argument(help="The file that `tubes export` wrote.")] = Path("tubes.onnx"),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a model file says of itself."""
    spec = _load_spec(model)
    say(json.dumps(texts.info_document(spec)) if as_json else texts.info_text(model, spec))


@app.command(epilog="Example:\n\n  tubes doctor --model tubes.onnx")
def doctor(
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Also look at this model file.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what models can run on here, what would be faster, and how to get it."""
    spec = None if model is None else _load_spec(model)
    from .doctor import diagnose

    diagnosis = diagnose(spec)
    say(json.dumps(asdict(diagnosis)) if as_json else texts.doctor_text(diagnosis))


def _bar(value: float | None) -> float | None:
    """A bar for a ratio, as `typer` checks options."""
    if value is not None and not 0 < value < math.inf:  # NaN is refused, too
        raise typer.BadParameter("expected a number above 0")
    return value


@app.command(
    epilog="Examples:\n\n"
    "  tubes bench --model tubes.onnx --device cpu\n\n"
    "  tubes bench --against eager --fail-under 1.0 --json bench.json"
)
def bench(
    model: ModelOption = Path("tubes.onnx"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    clip: Annotated[
        Path | None, typer.Option(help="Measure stages and start on this clip, not on a synthetic one.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure; what takes long stops earlier.")] = 20,
    against: Annotated[
        Against | None,
        typer.Option(
            help="Race, in turn: eager, the network in PyTorch with fresh weights, whose speed is the same; "
            "reference, the whole published pipeline. Needs PyTorch.",
        ),
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option(callback=_bar, help="Exit with code 1 where this is less than RATIO times as fast as --against."),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON, too; - for stdout.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Measure a model file on this machine, and race it against PyTorch.

    Latency and throughput of the network, each stage, cold start, peak memory.
    """
    if fail_under is not None and against is None:
        raise typer.BadParameter("needs --against", param_hint="'--fail-under'")
    with document_file(json_file) as write, progress_line() as progress:
        from .bench.measure import measure
        from .bench.report import document, text

        prepare = None if against is None else _opponent(against)
        benchmark = measure(
            model, device, precision=precision, clip=clip, rounds=rounds, prepare=prepare, progress=progress
        )
        write(document(benchmark))
    for note in benchmark.notes:
        say(f"note: {note}", error=True)
    say(text(benchmark), error=json_file == "-")
    if fail_under is not None and benchmark.versus is not None:
        benchmark.versus.require(fail_under)


def _load_spec(path: Path) -> "ModelSpec":
    from .model import load_model

    return load_model(path, Device.CPU).spec


def _opponent(against: Against) -> Any:
    return exporter_module(f"against_{against}", f"tubes bench --against {against}").prepare


def exporter_module(module: str, command: str, extra: str | None = None) -> Any:
    """A module of the exporter package; it needs what the runtime does without. `extra` brings that, if not _EXTRAS."""
    try:
        return import_module(f"saliency_tubes_export.{module}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        brings = extra or _EXTRAS[package]
        raise DependencyError(
            f"`{command}` needs {package}, which is not installed: pip install 'saliency-tubes[{brings}]'"
        ) from error
