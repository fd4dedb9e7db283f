"""The `tubes` command: parse, call, report. Here what it does with clips; the other `cli_` modules have the rest.

Results go to stdout, progress and notes to stderr. Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted.
"""

import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import cli_demo, cli_evaluate, cli_export, cli_models, options, texts
from ._version import __version__
from .choices import Device, Fit, ImageFormat, Precision
from .console import progress_line, say
from .errors import OptionError, SaliencyTubesError
from .graph_cache import PUBLISHER, GraphCache
from .options import (
    AlignOption,
    ColormapOption,
    CompareOption,
    DebugOption,
    DeviceOption,
    FitOption,
    JsonOption,
    LabelOption,
    MaxFramesOption,
    ModelOption,
    OpacityOption,
    OverlapOption,
    PrecisionOption,
    SamplingOption,
    SaveOption,
    StepOption,
    StrideOption,
    StyleOption,
    ThresholdOption,
    TopOption,
)

if TYPE_CHECKING:
    from .model import TubeModel
    from .video import Clip

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
        say(f"error: {reason}", error=True)
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
        say(f"saliency-tubes {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Examples:\n\n"
    "  tubes demo\n\n"
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
    align: AlignOption = None,
    style: StyleOption = None,
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
    align = options.alignment(align, style)
    notes: list[str] = []
    with progress_line() as progress:
        progress(f"loading {model}")
        loaded, opened = _load(model, device, precision, GraphCache.of_user(), clip)
        explanation = loaded.explain(opened, label, top_k=top_k, sampling=how, fit=fit, align=align, progress=progress)
        folders = explanation.save(out, progress, artifacts=artifacts, style=look, on_note=notes.append)
    for note in (*explanation.notes, *notes):
        say(f"note: {note}", error=True)
    say(
        json.dumps(texts.run_document(explanation, folders, notes)) if as_json else texts.run_text(explanation, folders)
    )


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
    align: AlignOption = None,
    style: StyleOption = None,
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

    order = Order(tuple(label or ()), top_k, how, fit, options.alignment(align, style), artifacts, look)
    summary = run_command(sources, out, model, device, precision, order, partial(say, error=True))
    say(json.dumps(texts.batch_document(summary)) if as_json else texts.batch_text(summary))
    if summary.failed:
        raise typer.Exit(1)


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
        say(f"note: {note}", error=True)
    say(texts.frames_text(taken))


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


app.add_typer(cli_evaluate.app)
app.add_typer(cli_export.app)
app.add_typer(cli_models.app)
app.add_typer(cli_demo.app)
