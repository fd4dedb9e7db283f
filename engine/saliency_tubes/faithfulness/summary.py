"""Means over cases, and how sure they are."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .options import Better, Method, Metric
from .results import CaseResult

RESAMPLES = 2000
CONFIDENCE = 0.95
_BLOCK = 1 << 20  # values that are drawn at once
_WIDTH = 100  # columns of the table, at most


@dataclass(frozen=True)
class Summary:
    """A metric of a method, over cases.

    Attributes:
        method: whose volumes.
        metric: what was measured.
        mean: over the cases in which it was.
        low, high: the ends of its 95 % interval; None with fewer than two cases.
        n: how many cases.
    """

    method: Method
    metric: Metric
    mean: float
    low: float | None
    high: float | None
    n: int


def summarise(results: Iterable[CaseResult], seed: int) -> tuple[Summary, ...]:
    """The mean of each metric and method over the cases where it was measured, with its interval.

    Args:
        results: the cases.
        seed: of the bootstrap.
    """
    values = defaultdict[tuple[Metric, Method], list[float]](list)
    for result in results:
        for one in result.values:
            values[one.metric, one.method].append(one.value)
    summaries = []
    for metric, method in ((metric, method) for metric in Metric for method in Method):
        if several := values.get((metric, method)):
            interval = bootstrap(np.array(several), seed)
            low, high = (None, None) if interval is None else map(float, interval)
            summaries.append(Summary(method, metric, float(np.mean(several)), low, high, len(several)))
    return tuple(summaries)


def bootstrap(values: NDArray[np.float64], seed: int) -> NDArray[np.float64] | None:
    """The 95 % interval of a mean by the percentile bootstrap (Efron, "Bootstrap Methods", Annals of Statistics 1979).

    Cases are drawn with replacement, as many as there are, `RESAMPLES` times; of the means of these draws 2.5 % lie
    below the interval, and 2.5 % above. Equal seeds and numbers of cases draw the same cases. Where all cases have one
    value it has no width, which only says that nothing else was seen.

    Args:
        values: (n, ...) float64, one for each case.
        seed: of the draws.

    Returns:
        (2, ...) float64, its lower and its upper end; None for fewer than two cases.
    """
    n = len(values)
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // values.size)
    counts = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    means = np.concatenate([values[rng.integers(n, size=(count, n))].mean(axis=1) for count in counts])
    outside = (1 - CONFIDENCE) / 2
    return np.asarray(np.quantile(means, [outside, 1 - outside], axis=0))


def table(summaries: Iterable[Summary]) -> str:
    """A row for each metric, a column for each method, at most 100 columns wide."""
    cells = {(one.metric, one.method): one for one in summaries}
    methods = [method for method in Method if any(column is method for _, column in cells)]
    if not methods:
        return "nothing was measured"
    lines: list[tuple[str, str, list[str]]] = [("", "n", list(methods))]
    for better in Better:
        metrics = [m for m in Metric if m.better is better and any(row is m for row, _ in cells)]
        lines += [(f"{better}:", "", [])] if metrics else []
        for metric in metrics:
            row = [cells.get((metric, method)) for method in methods]
            lines.append((f"  {metric.words}", str(max(one.n for one in row if one)), [_cell(one) for one in row]))
    one_line = _aligned(lines)
    return one_line if max(map(len, one_line.split("\n"))) <= _WIDTH else _aligned(_in_two(lines))


def _cell(one: Summary | None) -> str:
    if one is None:
        return ""
    number = _power if one.metric is Metric.COMPLETENESS_ERROR else _number
    if one.low is None or one.high is None:
        return number(one.mean)
    return f"{number(one.mean)} [{number(one.low)}, {number(one.high)}]"


def _number(value: float) -> str:
    """Three digits, so that columns stay narrow."""
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"


def _power(value: float) -> str:
    """As in ``2e-6``."""
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")


def _in_two(lines: list[tuple[str, str, list[str]]]) -> list[tuple[str, str, list[str]]]:
    """Intervals below the means that they belong to."""
    split = []
    for name, n, cells in lines:
        parts = [cell.partition(" [") for cell in cells]
        split.append((name, n, [mean for mean, _, _ in parts]))
        if any(interval for _, _, interval in parts):
            split.append(("", "", [f"[{interval}" if interval else "" for _, _, interval in parts]))
    return split


def _aligned(lines: list[tuple[str, str, list[str]]]) -> str:
    columns = max(len(cells) for _, _, cells in lines)
    widths = [max(len(cells[i]) for _, _, cells in lines if cells) for i in range(columns)]
    first = max(len(name) for name, _, cells in lines if cells)
    most = max(len(n) for _, n, _ in lines)
    return "\n".join(
        f"{name:<{first}}  {n:>{most}}  {'  '.join(f'{c:<{w}}' for c, w in zip(cells, widths, strict=False))}".rstrip()
        for name, n, cells in lines
    )
