"""A measurement as a table for people and as a document for machines."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .harness import Result, Row, Unit
from .machine import Machine

_WIDTH_OFF_TERMINAL = 150
_STYLES = {"met": None, "not measured": "dim"}


def print_table(console: Console, rows: Sequence[Row], machine: Machine, origin: str) -> None:
    """Print the machine, the rows of every claim, and what was checked beside the clock."""
    if not console.is_terminal:
        console.width = _WIDTH_OFF_TERMINAL
    for line in (*machine.lines(), f"inputs    {origin}"):
        console.print(line, highlight=False, markup=False)
    table = Table(box=box.SIMPLE)
    table.add_column("claim")
    for heading in ("ours (min)", "theirs (min)", "ratio", "paired"):
        table.add_column(heading, justify="right")
    table.add_column("bar")
    table.add_column("")
    for row in rows:
        table.add_row(*_cells(row), style=_STYLES.get(row.verdict, "bold red"))
    console.print(table)
    results = [row for row in rows if isinstance(row, Result)]
    for result in results:
        for fact, value in result.facts:
            text = value if isinstance(value, str) else f"{value:.6g}"
            console.print(f"{result.name}: {fact}: {text}", highlight=False, markup=False)
    for row in rows:
        if not isinstance(row, Result):
            console.print(f"{row.name}: {row.claim}: {row.why}", highlight=False, markup=False, soft_wrap=True)
    if results:
        rounds = len(results[0].ours)
        console.print(
            f"medians of {rounds} interleaved rounds; ratio: theirs / ours; paired: median of the rounds' own"
        )
    if not all(result.steady for result in results):
        console.print("UNSTEADY: something else was running, so the medians say nothing; measure on a quiet machine")


def document(rows: Sequence[Row], machine: Machine, origin: str) -> dict[str, Any]:
    """Everything, raw samples included, as JSON types."""
    return {"machine": asdict(machine), "inputs": origin, "claims": [_entry(row) for row in rows]}


def _entry(row: Row) -> dict[str, Any]:
    entry = {"name": row.name, "claim": row.claim, "verdict": row.verdict}
    if not isinstance(row, Result):
        return entry | {"why": row.why}
    return entry | {
        "unit": row.unit,
        "bar": str(row.bar),
        "ratio_of_medians": row.ratio,
        "median_of_ratios": row.paired_ratio,
        "ours": _summary(row.ours),
        "reference": _summary(row.reference),
        "facts": dict(row.facts),
    }


def _summary(samples: tuple[float, ...]) -> dict[str, Any]:
    return {"median": statistics.median(samples), "min": min(samples), "samples": samples}


def _cells(row: Row) -> tuple[str, ...]:
    if not isinstance(row, Result):
        return (row.claim, "", "", "", "", "", row.verdict)
    return (
        row.claim,
        _amounts(row.ours, row.unit),
        _amounts(row.reference, row.unit),
        f"{row.ratio:.2f}" if row.ratio < 100 else f"{row.ratio:.0f}",
        f"{row.paired_ratio:.2f}" if row.paired_ratio < 100 else f"{row.paired_ratio:.0f}",
        str(row.bar),
        row.verdict,
    )


def _amounts(samples: tuple[float, ...], unit: Unit) -> str:
    return f"{_amount(statistics.median(samples), unit)} ({_amount(min(samples), unit)})"


def _amount(value: float, unit: Unit) -> str:
    if unit == "MiB":
        return f"{value:.0f} MiB"
    return f"{value:.3f} s" if value >= 1 else f"{1000 * value:.2f} ms"
