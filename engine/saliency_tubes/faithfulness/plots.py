"""An evaluation in pictures. Imported only where they are drawn: it needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..choices import Fill
from ..plot import TubeFigure
from ..replacing import replacing_file
from .evaluation import Evaluation
from .folder import LOCALISATION_PICTURE, PERTURBATION_PICTURE
from .options import LOCALISATION, Method, Metric
from .results import CaseResult
from .summary import Summary, bootstrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150
# Okabe and Ito's colours, which are told apart with any colour vision.
_COLOURS = {
    Method.TUBE: "#0072b2",
    Method.RANDOM: "#777777",
    Method.CENTRE: "#e69f00",
    Method.FRAME_DIFFERENCE: "#009e73",
    Method.FEATURES: "#cc79a7",
}
_TICKS: dict[str, Any] = {"ticks": (0, 0.5, 1), "labels": ("0", "0.5", "1")}  # so that neighbours' do not touch
_NOTES = {Metric.ENERGY_RATIO: "1: an even volume"}


def write_plots(evaluation: Evaluation, folder: Path) -> tuple[Path, ...]:
    """Write ``evaluation-localisation.png`` and ``evaluation-perturbation.png`` of what was measured of each.

    Raises:
        OutputError: they cannot be written.
    """
    figures = {
        LOCALISATION_PICTURE: localisation_figure(evaluation),
        PERTURBATION_PICTURE: perturbation_figure(evaluation),
    }
    written = []
    for name, figure in figures.items():
        if figure is not None:
            with replacing_file(folder / name, "--out") as staging:
                figure.savefig(staging, format="png", dpi=_DPI)
            written.append(folder / name)
    return tuple(written)


def localisation_figure(evaluation: Evaluation) -> TubeFigure | None:
    """A panel for each metric with a point and an interval for each method; None where nothing was localised."""
    rows = [one for one in evaluation.summary() if one.metric in LOCALISATION]
    metrics = [metric for metric in LOCALISATION if any(one.metric is metric for one in rows)]
    if not metrics:
        return None
    methods = _methods(evaluation.results)
    figure = TubeFigure(figsize=(2.6 * len(metrics) + 1.4, 0.36 * len(methods) + 1.5), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _points(axes, [one for one in rows if one.metric is metric], methods)
    panels[0].set_yticks(range(len(methods)), labels=methods)
    panels[0].invert_yaxis()
    _title(figure, "Where and when the evidence is", evaluation)
    return figure


def perturbation_figure(evaluation: Evaluation) -> TubeFigure | None:
    """Deletion and insertion curves, a row of panels for each fill; None where nothing was perturbed."""
    measured = {curves.fill for result in evaluation.results for curves in result.curves}
    fills = [fill for fill in Fill if fill in measured]
    if not fills:
        return None
    figure = TubeFigure(figsize=(8.4, 2.9 * len(fills) + 1.0), layout="constrained")
    grid = figure.subplots(len(fills), 2, sharex=True, sharey=True, squeeze=False)
    for row, fill in zip(grid, fills, strict=True):
        for axes, what in zip(row, ("deletion", "insertion"), strict=True):
            for method in reversed(_methods(evaluation.results)):  # the tube last, above the others
                _curve(axes, evaluation, method, fill, what)
            axes.set_title(
                f"{what}, {fill}: {'lower' if what == 'deletion' else 'higher'} is better", fontsize="medium"
            )
        row[0].set_ylabel("probability of the class")
    for axes, what in zip(grid[-1], ("deleted", "inserted"), strict=True):
        axes.set_xlabel(f"share of the clip that is {what}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=len(labels), frameon=False)
    _title(figure, "What the network says of parts of the clip", evaluation)
    return figure


def _methods(results: Sequence[CaseResult]) -> list[Method]:
    measured = {one.method for result in results for one in result.values}
    return [method for method in Method if method in measured]


def _points(axes: "Axes", rows: Sequence[Summary], methods: Sequence[Method]) -> None:
    for one in rows:
        place = methods.index(one.method)
        if one.low is not None and one.high is not None:
            axes.plot(
                [one.low, one.high],
                [place, place],
                color=_COLOURS[one.method],
                linewidth=2.5,
                alpha=0.5,
                solid_capstyle="butt",
            )
        axes.plot(one.mean, place, "o", color=_COLOURS[one.method], markersize=7)
    metric, most = rows[0].metric, max(one.n for one in rows)
    if metric is Metric.ENERGY_RATIO:
        axes.axvline(1, color="#bbbbbb", linewidth=1, zorder=0)
        axes.set_xlim(left=0)
    else:
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks(**_TICKS)
    axes.set_title(metric.words, fontsize="medium")
    axes.set_xlabel(f"{_NOTES[metric]}; n = {most}" if metric in _NOTES else f"n = {most}", fontsize="small")
    axes.set_ylim(-0.6, len(methods) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)


def _curve(axes: "Axes", evaluation: Evaluation, method: Method, fill: Fill, what: str) -> None:
    curves = [
        getattr(one, what)
        for result in evaluation.results
        for one in result.curves
        if (one.method, one.fill) == (method, fill)
    ]
    if not curves:
        return
    scores = np.stack([curve.scores for curve in curves])
    fractions = np.mean([curve.fractions for curve in curves], axis=0)
    is_tube = method is Method.TUBE
    axes.plot(fractions, scores.mean(axis=0), color=_COLOURS[method], linewidth=2.4 if is_tube else 1.4, label=method)
    band = bootstrap(scores, evaluation.options.seed)
    if band is not None:
        axes.fill_between(fractions, *band, color=_COLOURS[method], alpha=0.15, linewidth=0)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, 1)
    axes.set_xticks(**_TICKS)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def _title(figure: "Figure", title: str, evaluation: Evaluation) -> None:
    count = len(evaluation.results)
    cases = "1 case" if count == 1 else f"{count} cases: means, and their 95 % intervals"
    unfinished = "" if evaluation.complete else " (stopped before the end)"
    figure.suptitle(f"{title}\n", fontsize="large", parse_math=False)
    approximate = "" if evaluation.approximate is None else "; the tubes are approximate"
    figure.text(
        0.5, 1.0, f"\n\n{cases}{unfinished}{approximate}", ha="center", va="top", fontsize="small", color="#555555"
    )
