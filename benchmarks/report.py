"""A measurement as a table for people and as a document for machines."""

import statistics
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .harness import Result, Unit
from .machine import Machine

_WIDTH_OFF_TERMINAL = 150


def print_table(console: Console, results: list[Result], machine: Machine, origin: str) -> None:
    """Print the machine, one row for every claim, and what was checked beside the clock."""
    if not console.is_terminal:
        console.width = _WIDTH_OFF_TERMINAL
    for line in (*machine.lines(), f"inputs    {origin}"):
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
    if not all(result.steady for result in results):
        console.print("UNSTEADY: something else was running, so the medians say nothing; measure on a quiet machine")


def document(results: list[Result], machine: Machine, origin: str) -> dict[str, Any]:
    """Everything, raw samples included, as JSON types."""
    return {
        "machine": asdict(machine),
        "inputs": origin,
        "claims": [
            {
                "name": result.name,
                "claim": result.claim,
                "unit": result.unit,
                "bar": str(result.bar),
                "verdict": result.verdict,
                "ratio_of_medians": result.ratio,
                "median_of_ratios": result.paired_ratio,
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
        f"{result.ratio:.2f}" if result.ratio < 100 else f"{result.ratio:.0f}",
        f"{result.paired_ratio:.2f}" if result.paired_ratio < 100 else f"{result.paired_ratio:.0f}",
        str(result.bar),
        result.verdict,
    )


def _amounts(samples: tuple[float, ...], unit: Unit) -> str:
    return f"{_amount(statistics.median(samples), unit)} ({_amount(min(samples), unit)})"


def _amount(value: float, unit: Unit) -> str:
    if unit == "MiB":
        return f"{value:.0f} MiB"
    return f"{value:.3f} s" if value >= 1 else f"{1000 * value:.2f} ms"
