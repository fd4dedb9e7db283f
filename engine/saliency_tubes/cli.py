"""The `tubes` command: parse, call, report.

Results go to stdout, progress and notes to stderr. Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted.
"""

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options, texts
from ._version import __version__
from .choices import Against, ChannelOrder, Device, Fit, ImageFormat, Layout, Norm, Precision, StyleName
from .errors import DependencyError, OptionError, SaliencyTubesError
from .graph_cache import PUBLISHER, GraphCache
from .options import (
    ChannelsOption,
    ColormapOption,
    CompareOption,
    FeaturesOption,
    FitOption,
    HeadOption,
    InputLayoutOption,
    LabelOption,
    LogitsOption,
    MaxFramesOption,
    MeanOption,
    OpacityOption,
    OpsetOption,
    OverlapOption,
    PresetOption,
    ResizeOption,
    SamplingOption,
    SaveOption,
    StdOption,
    StepOption,
    StrideOption,
    StyleOption,
    ThresholdOption,
    TopOption,
)

if TYPE_CHECKING:
    from .model import TubeModel
    from .spec import ModelSpec
    from .video import Clip

# What the runtime does without, and the extra that brings it.
_EXTRAS = {"torch": "export", "onnx": "export", "onnxscript": "export", "safetensors": "export", "scipy": "bench"}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def main() -> None:
    """Entry point of the `tubes` command: every deliberate error becomes one message and exit code 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that clean-up code runs
    try:
        app()
    except (SaliencyTubesError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        # An OSError that got here is the system's answer to a path, such as one in a folder that may not be entered.
        path = getattr(error, "filename", None)
        reason = error if path is None else f"{path}: {getattr(error, 'strerror', error)}"
        _say(f"error: {reason}", error=True)
        sys.exit(2 if isinstance(error, OptionError) else 1)


def entry() -> None:
    """`main` for a process of its own: when all is written, it ends without taking down what it has built up.

    The interpreter would free the network, its threads and every module first, which takes as long as drawing a clip.
    """
    # NumPy's products here are too small for more than one thread; it has to be told before it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        main()
        code: object = None
    except SystemExit as stopped:
        code = stopped.code
    for thread in threading.enumerate():
        if thread.name == PUBLISHER:  # it keeps a graph for the next start
            thread.join()
    if code is not None and not isinstance(code, int):
        sys.exit(code)  # type: ignore[arg-type]  # a sentence, which Python prints
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _version(wanted: bool) -> None:
    if wanted:
        _say(f"saliency-tubes {__version__}")
        raise typer.Exit


DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
ModelOption = Annotated[Path, typer.Option("--model", "-m", help="The file that `tubes export` wrote.")]
DeviceOption = Annotated[
    Device, typer.Option(help="Where to run. auto: the first that loads of cuda, openvino and cpu; see `tubes doctor`.")
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(help="Compute in bf16 (with openvino) or tf32 (on NVIDIA GPUs). Without it: as exported."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.callback(
    epilog="Examples:\n\n"
    "  tubes export weights.pth --labels kinetics.txt\n\n"
    "  tubes run clip.mp4 --label bowling\n\n"
    "  tubes info tubes.onnx\n\n"
    "  tubes bench --against eager"
)
def tubes(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """See where in the frame, and when in the clip, a 3-D CNN found its evidence."""


@app.command(
    epilog="Examples:\n\n"
    "  tubes run clip.mp4\n\n"
    "  tubes run clip.mp4 --sampling dense --fit whole --label bowling\n\n"
    "  tubes run frames/ --top-k 2 --compare --save overlay,sheet --out figures\n\n"
    "  tubes run clip.mp4 --style keras --colormap turbo --device cpu --json"
)
def run(
    clip: Annotated[Path, typer.Argument(help="A video, a GIF, or a folder of frames.", show_default=False)],
    label: LabelOption = None,
    top_k: TopOption = 0,
    model: ModelOption = Path("tubes.onnx"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("visualisations"),
    save: SaveOption = None,
    compare: CompareOption = False,
    sampling: SamplingOption = None,
    stride: StrideOption = None,
    overlap: OverlapOption = None,
    step: StepOption = None,
    max_frames: MaxFramesOption = None,
    fit: FitOption = Fit.SQUASH_CROP,
    style: StyleOption = StyleName.REFERENCE,
    colormap: ColormapOption = None,
    opacity: OpacityOption = None,
    threshold: ThresholdOption = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Explain a clip: write its saliency tube for one or more classes.

    Results go to OUT/<clip name>/<label index>/; what shows several labels
    together, to OUT/<clip name>/<label>+<label>/. `--save` says what is written.
    """
    if options.compares(save, compare) and len(label or ()) + top_k < 2:
        raise typer.BadParameter("a comparison takes two labels or more: --label twice, or --top-k 2")
    look = options.style(style, colormap, opacity, threshold)
    artifacts = options.artifacts(save, compare)
    how = options.sampling(sampling, stride=stride, overlap=overlap, step=step, max_frames=max_frames)
    notes: list[str] = []
    with _progress() as progress:
        progress(f"loading {model}")
        loaded, opened = _load(model, device, precision, GraphCache.of_user(), clip)
        explanation = loaded.explain(opened, label, top_k=top_k, sampling=how, fit=fit, progress=progress)
        folders = explanation.save(out, progress, artifacts=artifacts, style=look, on_note=notes.append)
    for note in (*explanation.notes, *notes):
        _say(f"note: {note}", error=True)
    _say(
        json.dumps(texts.run_document(explanation, folders, notes)) if as_json else texts.run_text(explanation, folders)
    )


@app.command(epilog="Example:\n\n  tubes info tubes.onnx --json")
def info(
    model: Annotated[Path, typer.Argument(help="The file that `tubes export` wrote.")] = Path("tubes.onnx"),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a model file says of itself."""
    spec = _load_spec(model)
    _say(json.dumps(spec.describe()) if as_json else texts.info_text(model, spec))


@app.command(
    epilog="Examples:\n\n"
    "  tubes frames clip.mp4 --out frames\n\n"
    "  tubes frames clip.mp4 --step 1 --max-frames 100 --crop 224 --format png --out frames"
)
def frames(
    clip: Annotated[Path, typer.Argument(help="A video, a GIF, or a folder of frames.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the frames.", show_default=False)],
    step: Annotated[int, typer.Option(min=1, help="Take every STEP-th frame.")] = 6,
    max_frames: Annotated[int, typer.Option(min=1, help="Take at most so many.")] = 24,
    crop: Annotated[
        int | None, typer.Option(min=1, help="Cut a square of CROP pixels out of the centre.", show_default=False)
    ] = None,
    image_format: Annotated[ImageFormat, typer.Option("--format", help="What to write.")] = ImageFormat.JPG,
    debug: DebugOption = False,
) -> None:
    """Take frames out of a clip, as the published extractor does: every 6th, at most 24."""
    from .frames import extract_frames

    taken = extract_frames(clip, out, step=step, max_frames=max_frames, crop=crop, image_format=image_format)
    for note in taken.notes:
        _say(f"note: {note}", error=True)
    _say(texts.frames_text(taken))


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
    _say(json.dumps(asdict(diagnosis)) if as_json else texts.doctor_text(diagnosis))


@app.command(
    epilog="Examples:\n\n"
    "  tubes export MFNet3D_UCF-101_Split-1_96.3.pth --labels ucf101.txt\n\n"
    "  tubes export weights.pth --preset mfnet --output kinetics.onnx\n\n"
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
    both: dict[str, Any] = {"labels": labels, "layout": layout}
    graph = {"mean": mean, "std": std, "resize": resize, "input_layout": input_layout}
    graph |= {"channels": channels, "features": features, "logits": logits}
    with _progress() as progress:
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
            exporter = _exporter("exporter", "tubes export")
            report = exporter.export_checkpoint(network, output, precision=precision, **both)
    _say(report.table())
    _say(f"wrote {output}")


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
    exporter = _exporter("foreign", "tubes export", extra="onnx")
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


@app.command(
    epilog="Examples:\n\n"
    "  tubes batch videos/ --out results\n\n"
    "  tubes batch 'videos/**/*.mp4' --label bowling --out results\n\n"
    "  tubes batch clips.csv --model kinetics.onnx --out results"
)
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Videos, folders of them, folders of frames, globs, and lists: .txt with a path a line, or .csv with "
            "the columns path and, if wanted, label.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", show_default=False)],
    label: LabelOption = None,
    top_k: TopOption = 0,
    model: ModelOption = Path("tubes.onnx"),
    save: SaveOption = None,
    sampling: SamplingOption = None,
    stride: StrideOption = None,
    overlap: OverlapOption = None,
    step: StepOption = None,
    max_frames: MaxFramesOption = None,
    fit: FitOption = Fit.SQUASH_CROP,
    style: StyleOption = StyleName.REFERENCE,
    colormap: ColormapOption = None,
    opacity: OpacityOption = None,
    threshold: ThresholdOption = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Explain many clips, and go on from there when called again.

    Results go to OUT/<clip name>/<label index>/, a line for each clip to
    OUT/results.jsonl, and a gallery of them to OUT/index.html. What is done
    is not done again. Labels from a list come before `--label`. Exit code 1:
    some clips failed.
    """
    look = options.style(style, colormap, opacity, threshold)
    how = options.sampling(sampling, stride=stride, overlap=overlap, step=step, max_frames=max_frames)
    artifacts = options.artifacts(save)
    from .batch.command import Order, run_command

    order = Order(tuple(label or ()), top_k, how, fit, artifacts, look)
    summary = run_command(sources, out, model, device, precision, order, partial(_say, error=True))
    _say(json.dumps(texts.batch_document(summary)) if as_json else texts.batch_text(summary))
    if summary.failed:
        raise typer.Exit(1)


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
    with _document_file(json_file) as write, _progress() as progress:
        from .bench.measure import measure
        from .bench.report import document, text

        prepare = None if against is None else _opponent(against)
        benchmark = measure(
            model, device, precision=precision, clip=clip, rounds=rounds, prepare=prepare, progress=progress
        )
        write(document(benchmark))
    for note in benchmark.notes:
        _say(f"note: {note}", error=True)
    _say(text(benchmark), error=json_file == "-")
    if fail_under is not None and benchmark.versus is not None:
        benchmark.versus.require(fail_under)


def _load(
    path: Path, device: Device, precision: Precision | None, cache: GraphCache | None, clip: Path
) -> "tuple[TubeModel, Clip]":
    """A model and a clip at the start of a process: while the session is made, the rest is imported and opened."""
    from .session import import_backend, open_session

    import_backend(device)
    with ThreadPoolExecutor(1) as pool:
        session = pool.submit(open_session, path, device, precision, cache)
        from .model import TubeModel
        from .video import open_clip

        opened = open_clip(clip)
        return TubeModel.of(path, session.result()), opened


def _load_spec(path: Path) -> "ModelSpec":
    from .model import load_model

    return load_model(path, Device.CPU).spec


def _opponent(against: Against) -> Any:
    return _exporter(f"against_{against}", f"tubes bench --against {against}").prepare


def _exporter(module: str, command: str, extra: str | None = None) -> Any:
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


@contextmanager
def _document_file(target: str | None) -> Iterator[Callable[[dict[str, Any]], object]]:
    """What writes a document to a file, whole or not at all; to stdout for ``-``; nowhere for None."""
    if target is None:
        yield lambda _: None
    elif target == "-":
        yield lambda document: _say(json.dumps(document, allow_nan=False))
    else:
        from .replacing import replacing_file
        from .writers import write_json

        with replacing_file(Path(target), "--json") as staging:
            yield lambda document: write_json(staging, document)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A spinner on stderr with the present stage; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda stage: status.update(escape(stage))


def _say(text: str, error: bool = False) -> None:
    """Print text that may hold file and class names from elsewhere: nothing in it may steer the terminal."""
    typer.echo("".join(c if c.isprintable() or c == "\n" else "?" for c in text), err=error)
