"""Measure every claim: ``python -m benchmarks`` from the repository root, with the package and its [test] extra.

Exit codes: 0 every bar that can be measured here is met, 1 a bar is missed, the machine was not quiet, or two pipelines
disagree, 2 used wrongly.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from saliency_tubes import SaliencyTubesError
from saliency_tubes.bench.machine import describe
from saliency_tubes.bench.race import Clock

from . import (
    batch,
    cam_libraries,
    cold_process,
    compiled,
    foreign_export,
    foreign_run,
    gpu,
    import_time,
    long_video,
    model_cpu,
    openvino_cpu,
    peak_memory,
    rewrites,
    throughput,
    tube_stage,
    warm_clip,
    whole_video,
)
from .checkout import checkout
from .inputs import ROOT, prepared
from .report import Where, document, print_table

_USUAL = {
    module.NAME: module.measure
    for module in (
        tube_stage,
        model_cpu,
        openvino_cpu,
        cam_libraries,
        warm_clip,
        whole_video,
        cold_process,
        import_time,
        peak_memory,
    )
}
_LONG = {
    module.NAME: module.measure for module in (rewrites, throughput, batch, compiled, foreign_export, foreign_run, gpu)
}  # these take minutes
_HOURS = {module.NAME: module.measure for module in (long_video,)}  # half an hour and more: only by name
_CLAIMS = _USUAL | _LONG | _HOURS
_FEWEST_ROUNDS = 9


def main() -> int:
    """Parse, measure, report."""
    arguments = _arguments()
    notes = Console(stderr=True)
    where = Where(describe(), checkout(ROOT))
    try:
        with _progress(notes) as say, prepared(say) as inputs:
            origin = inputs.origin
            clock = Clock(arguments.rounds, say)
            rows = [row for name in arguments.only for row in _CLAIMS[name](inputs, clock)]
    except (RuntimeError, SaliencyTubesError) as error:
        notes.print(f"error: {error}", markup=False)
        return 1
    # One of the two goes to stdout alone, so that a program can read it.
    print_table(notes if arguments.json == "-" else Console(), rows, where, origin)
    if arguments.json is not None:
        text = json.dumps(document(rows, where, origin), indent=2)
        print(text) if arguments.json == "-" else Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    if arguments.rounds < _FEWEST_ROUNDS:
        notes.print(f"fewer than {_FEWEST_ROUNDS} rounds: a look, no measurement")
    return 0 if all(row.verdict in ("met", "not measured") for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure every claim on this machine.")
    parser.add_argument(
        "--rounds", type=_positive, default=_FEWEST_ROUNDS, help="measured rounds (default %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write everything as JSON; - for stdout")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--only",
        action="append",
        choices=_CLAIMS,
        metavar="NAME",
        help=f"one claim; repeat for several: {', '.join(_USUAL)}; only by name or --all: {', '.join(_LONG)}; "
        f"only by name: {', '.join(_HOURS)}",
    )
    which.add_argument("--all", action="store_true", help="every claim, those that take minutes to prepare, too")
    arguments = parser.parse_args()
    arguments.only = arguments.only or list(_USUAL | _LONG if arguments.all else _USUAL)
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected at least 1")
    return number


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], None]]:
    """One line that changes, or, where stderr is no terminal, one line for each message."""
    if not console.is_terminal:
        yield lambda text: console.print(text, highlight=False, markup=False)
        return
    with console.status("") as status:
        yield lambda text: status.update(text)


if __name__ == "__main__":
    sys.exit(main())
