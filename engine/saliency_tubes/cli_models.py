"""The commands about model files: info, doctor, bench. `cli_export` has the one that makes them."""

import json
import math
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import texts
from .choices import Against, Device
from .console import document_file, progress_line, say
from .errors import DependencyError
from .options import DebugOption, DeviceOption, JsonOption, ModelOption, PrecisionOption

if TYPE_CHECKING:
    from .spec import ModelSpec

# What the runtime does without, and the extra that brings it.
_EXTRAS = dict.fromkeys(("torch", "onnx", "onnxscript", "safetensors"), "export")
_EXTRAS |= {"keras": "keras", "h5py": "keras", "scipy": "bench"}

app = typer.Typer()


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
