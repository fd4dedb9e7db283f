"""A measurement as a table for people and as a document for machines."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from saliency_tubes.bench.machine import Machine

from .checkout import Checkout
from .harness import Result, Row, Unit

_WIDTH_OFF_TERMINAL = 150
_STYLES = {"met": None, "not measured": "dim"}


@dataclass(frozen=True)
class Where:
    """The machine, and the state of the repository."""

    machine: Machine
    checkout: Checkout


def print_table(console: Console, rows: Sequence[Row], where: Where, origin: str) -> None:
    """Print the machine, the rows of every claim, and what was checked beside the clock."""
    if not console.is_terminal:
        console.width = _WIDTH_OFF_TERMINAL
    for line in (*where.machine.lines(), f"commit    {where.checkout}", f"inputs    {origin}"):
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
    if not all(result.race.steady for result in results):
        console.print("UNSTEADY: something else was running, so the medians say nothing; measure on a quiet machine")


def document(rows: Sequence[Row], where: Where, origin: str) -> dict[str, Any]:
    """Everything, raw samples included, as JSON types."""
    machine = asdict(where.machine) | asdict(where.checkout) | {"torch_threads": torch.get_num_threads()}
    return {"machine": machine, "inputs": origin, "claims": [_entry(row) for row in rows]}


def _entry(row: Row) -> dict[str, Any]:
    entry = {"name": row.name, "claim": row.claim, "verdict": row.verdict}
    if not isinstance(row, Result):
        return entry | {"why": row.why}
    return entry | {
        "unit": row.unit,
        "bar": str(row.bar),
        "ratio_of_medians": row.race.ratio,
        "median_of_ratios": row.race.paired_ratio,
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
        _times(row.race.ratio),
        _times(row.race.paired_ratio),
        str(row.bar),
        row.verdict,
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def _amounts(samples: tuple[float, ...], unit: Unit) -> str:
    return f"{_amount(statistics.median(samples), unit)} ({_amount(min(samples), unit)})"


def _amount(value: float, unit: Unit) -> str:
    if unit == "MiB":
        return f"{value:.0f} MiB"
    return f"{value:.3f} s" if value >= 1 else f"{1000 * value:.2f} ms"
