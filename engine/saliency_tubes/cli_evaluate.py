"""The command `evaluate`: are the tubes of a model right?"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .choices import Device, Fill, Fit
from .cli_models import exporter_module
from .console import document_file, say
from .errors import OptionError
from .options import (
    AlignOption,
    DebugOption,
    DeviceOption,
    FitOption,
    MaxFramesOption,
    ModelOption,
    OverlapOption,
    PrecisionOption,
    SamplingOption,
    StepOption,
    StrideOption,
)

_MEASURED = "What is measured"

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "  tubes evaluate cases.csv --out evaluation\n\n"
    "  tubes evaluate cases.csv --no-perturbation --limit 20 --json -\n\n"
    "  tubes evaluate cases.csv --fill blur --steps 20 --sanity --model kinetics.onnx"
)
def evaluate(
    cases: Annotated[
        Path,
        typer.Argument(
            metavar="CASES.csv",
            help="A table with the column path and, where it is known, label, mask or boxes, first and last.",
            show_default=False,
        ),
    ],
    model: ModelOption = Path("tubes.onnx"),
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for evaluation.json and pictures.", show_default=False)
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON, too; - for stdout.")
    ] = None,
    fill: Annotated[
        list[Fill] | None,
        typer.Option(
            rich_help_panel=_MEASURED,
            help="What takes the place of deleted parts; repeat it for several. Without it: all of them.",
            show_default=False,
        ),
    ] = None,
    no_perturbation: Annotated[
        bool,
        typer.Option(
            "--no-perturbation",
            rich_help_panel=_MEASURED,
            help="No deletion, insertion, drop and increase, which take most of the time.",
        ),
    ] = False,
    steps: Annotated[
        int, typer.Option(min=1, rich_help_panel=_MEASURED, help="Parts in which a clip is deleted and inserted.")
    ] = 10,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines",
            rich_help_panel=_MEASURED,
            help="Measure volumes, too, that know nothing of the class.",
        ),
    ] = True,
    sanity: Annotated[
        bool,
        typer.Option(
            "--sanity", rich_help_panel=_MEASURED, help="Compare with the network's weights shuffled. Needs onnx."
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N cases.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    sampling: SamplingOption = None,
    stride: StrideOption = None,
    overlap: OverlapOption = None,
    step: StepOption = None,
    max_frames: MaxFramesOption = None,
    fit: FitOption = Fit.SQUASH_CROP,
    align: AlignOption = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    debug: DebugOption = False,
) -> None:
    """Measure whether tubes show what the network's decision rests on.

    Needs clips, and for some metrics masks or boxes of the evidence, and the
    frames between which it happens. docs/evaluate.md says what each number
    means. Exit code 1: some cases failed.
    """
    if no_perturbation and fill:
        raise typer.BadParameter("without perturbation nothing is filled", param_hint="'--fill'")
    how = options.sampling(sampling, stride=stride, overlap=overlap, step=step, max_frames=max_frames)
    randomise = exporter_module("randomised", "tubes evaluate --sanity", extra="onnx").randomise if sanity else None
    from .faithfulness.command import run_command
    from .faithfulness.document import document
    from .faithfulness.options import Method, Options

    wanted = Options(
        methods=tuple(Method) if baselines else (Method.TUBE,),
        fills=() if no_perturbation else tuple(fill or Fill),
        steps=steps,
        sampling=how,
        fit=fit,
        align=options.alignment(align, None),
        seed=seed,
    )
    _refuse_inputs(json_file, {"list of cases": cases, "model": model})
    with document_file(json_file) as write:
        ending = run_command(cases, model, device, precision, wanted, randomise, limit, out, partial(say, error=True))
        write(document(ending.evaluation))
    say(ending.text(), error=json_file == "-")
    if ending.code:
        raise typer.Exit(ending.code)


def _refuse_inputs(json_file: str | None, inputs: Mapping[str, Path]) -> None:
    """What is read must not be replaced by what is written."""
    for what, path in inputs.items():
        if json_file not in (None, "-") and Path(json_file).exists() and path.exists() and path.samefile(json_file):
            raise OptionError(f"--json {json_file} is the {what}, which it would replace: name another file")
