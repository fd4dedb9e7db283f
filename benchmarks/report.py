"""A measurement as a table for people and as a document for machines."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from saliency_tubes.bench.machine import Machine

from .checkout import Checkout
from .harness import Result, Unit

_WIDTH_OFF_TERMINAL = 150


@dataclass(frozen=True)
class Where:
    """The machine, and the state of the repository."""

    machine: Machine
    checkout: Checkout


def print_table(console: Console, results: list[Result], where: Where, origin: str) -> None:
    """Print the machine, one row for every claim, and what was checked beside the clock."""
    if not console.is_terminal:
        console.width = _WIDTH_OFF_TERMINAL
    for line in (*where.machine.lines(), f"commit    {where.checkout}", f"inputs    {origin}"):
        console.print(line, highlight=False, markup=False)
    table = Table(box=box.SIMPLE)
    table.add_column("claim")
    for heading in ("ours (min)", "reference (min)", "ratio", "paired"):
        table.add_column(heading, justify="right")
    table.add_column("bar")
    table.add_column("")
    for result in results:
        table.add_row(*_row(result), style=None if result.verdict == "met" else "bold red")
    console.print(table)
    for result in results:
        for fact, value in result.facts:
            text = value if isinstance(value, str) else f"{value:.6g}"
            console.print(f"{result.name}: {fact}: {text}", highlight=False, markup=False)
    rounds = len(results[0].ours)
    console.print(f"medians of {rounds} interleaved rounds; ratio: reference / ours; paired: median of the rounds' own")
    if not all(result.race.steady for result in results):
        console.print("UNSTEADY: something else was running, so the medians say nothing; measure on a quiet machine")


def document(results: list[Result], where: Where, origin: str) -> dict[str, Any]:
    """Everything, raw samples included, as JSON types."""
    return {
        "machine": asdict(where.machine) | asdict(where.checkout) | {"torch_threads": torch.get_num_threads()},
        "inputs": origin,
        "claims": [
            {
                "name": result.name,
                "claim": result.claim,
                "unit": result.unit,
                "bar": str(result.bar),
                "verdict": result.verdict,
                "ratio_of_medians": result.race.ratio,
                "median_of_ratios": result.race.paired_ratio,
                "ours": _summary(result.ours),
                "reference": _summary(result.reference),
                "facts": dict(result.facts),
            }
            for result in results
        ],
    }


def _summary(samples: tuple[float, ...]) -> dict[str, Any]:
    return {"median": statistics.median(samples), "min": min(samples), "samples": samples}


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.claim,
        _amounts(result.ours, result.unit),
        _amounts(result.reference, result.unit),
        _times(result.race.ratio),
        _times(result.race.paired_ratio),
        str(result.bar),
        result.verdict,
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def _amounts(samples: tuple[float, ...], unit: Unit) -> str:
    return f"{_amount(statistics.median(samples), unit)} ({_amount(min(samples), unit)})"


def _amount(value: float, unit: Unit) -> str:
    if unit == "MiB":
        return f"{value:.0f} MiB"
    return f"{value:.3f} s" if value >= 1 else f"{1000 * value:.2f} ms"
