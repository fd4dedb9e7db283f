"""What tubes find where it is known what there is to be found: ``python -m benchmarks.planted.findings MODEL``.

Scenes that the network was not trained on, its tubes, and volumes that know nothing of its weights, measured as
`tubes evaluate` measures any clips. Prints tables in Markdown.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from saliency_tubes import Sampling, load_model
from saliency_tubes.bench.machine import describe
from saliency_tubes.cells import Cells
from saliency_tubes.choices import Align, Fill, Fit
from saliency_tubes.faithfulness import (
    Case,
    Evaluation,
    Evidence,
    Method,
    Options,
    energy_ratio,
    evaluate,
    pointing_game,
    temporal_pointing_game,
    top_iou,
)
from saliency_tubes.faithfulness.options import LOCALISATION
from saliency_tubes.faithfulness.summary import Summary, bootstrap
from saliency_tubes.faithfulness.volumes import normalised
from saliency_tubes.model import TubeModel
from saliency_tubes.upsample import upsample

from ..checkout import checkout
from ..inputs import ROOT
from .scenes import FRAMES, SEED, Split, make_pair, make_scene

LONG_CLIP = 3 * FRAMES
_LOCALISATION = Options(fills=(), fit=Fit.WHOLE, align=Align.CENTERS)
_ALONE = replace(_LOCALISATION, methods=(Method.TUBE,))
_PERTURBATION = Options(methods=(Method.TUBE, Method.RANDOM), steps=4, fit=Fit.WHOLE, align=Align.CENTERS)
# Where the receptive fields of MFNet-3D's cells have their middles: all kernels are odd and padded alike on both sides.
_BY_ARITHMETIC = Cells(offset=(0, 0, 0), stride=(2, 32, 32))
_WINDOWS = {  # of a long clip
    "16 frames evenly over the clip": Sampling.uniform(),
    "windows of 16 frames, 3 apart": Sampling.dense(stride=3),
    "windows of 16 frames, 2 apart": Sampling.dense(stride=2),
}


@dataclass(frozen=True)
class Interval:
    """A mean over scenes and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        form = ".3f" if abs(self.mean) >= 0.0005 or self.mean == 0 else ".1e"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What is measured: the network, the same with shuffled weights and in other precisions, and on how much."""

    model: TubeModel
    randomised: Sequence[TubeModel]
    others: Sequence[TubeModel]
    scenes: int
    perturbed: int
    fills: Sequence[Fill]


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, and what was measured by name."""

    name: str
    cells: tuple[tuple[str, Interval], ...]


def cases(count: int, frames: int = FRAMES) -> Iterator[Case]:
    """Held-out scenes, one after another."""
    for number in range(count):
        scene = make_scene((SEED, Split.HELD_OUT, number), frames=frames)
        when = scene.moving if scene.partial else None
        yield Case(f"scene {number}", scene.frames, scene.label, Evidence(mask=scene.mask, moving=when))


def rivals(count: int) -> Iterator[Case]:
    """Clips with two actors, each asked for both of their classes."""
    for number in range(count // 2):
        for scene in make_pair((SEED, Split.PAIRS, number)):
            yield Case(f"pair {number}, {scene.label}", scene.frames, scene.label, Evidence(mask=scene.mask))


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted.findings", description=__doc__)
    parser.add_argument("model", type=Path, help="the network, exported")
    parser.add_argument("--scenes", type=int, default=400, help="how many (default %(default)s)")
    parser.add_argument("--perturbed", type=int, default=400, help="how many of them to perturb (default %(default)s)")
    parser.add_argument("--fill", type=Fill, action="append", help="with what (default: all)")
    parser.add_argument("--randomised", type=Path, action="append", default=[], help="the same with shuffled weights")
    parser.add_argument("--other", type=Path, action="append", default=[], help="the same in another precision")
    parser.add_argument("--only", choices=list(_SECTIONS), action="append", help="this section, and others so named")
    parser.add_argument("--device", default="auto", help="where to run (default %(default)s)")
    arguments = parser.parse_args()
    model, *rest = (
        load_model(path, arguments.device) for path in (arguments.model, *arguments.randomised, *arguments.other)
    )
    shuffled = len(arguments.randomised)
    fills = tuple(arguments.fill or Fill)
    inputs = _Inputs(model, rest[:shuffled], rest[shuffled:], arguments.scenes, arguments.perturbed, fills)
    for line in (*describe().lines(), f"commit    {checkout(ROOT)}", f"device    {model.device}"):
        print(line)
    started = time.perf_counter()
    with _progress() as say:
        run = _Runs(say)
        chosen = [section for name, section in _SECTIONS.items() if not arguments.only or name in arguments.only]
        for title, rows in chain.from_iterable(section(run, inputs) for section in chosen):
            print(f"\n{title}\n\n{_table(rows)}", flush=True)
    print(f"\n{(time.perf_counter() - started) / 60:.0f} minutes")
    return 0


Section = tuple[str, list[Row]]


def _localisation(run: "_Runs", inputs: _Inputs) -> Iterator[Section]:
    model, count = inputs.model, inputs.scenes
    centers = run(model, _LOCALISATION, cases(count), count)
    yield f"Where and when, {count} scenes", _by_method(centers)
    corners = run(model, replace(_ALONE, align=Align.CORNERS), cases(count), count)
    rows = [_row("centers", centers), _row("corners", corners), _by_arithmetic(model, count)]
    yield f"Alignment, {count} scenes", [*rows, _difference("centers - corners, by scene", centers, corners)]
    pairs = run(model, _LOCALISATION, rivals(count), count)
    yield f"Where, {count // 2} clips with two actors, asked for the class of each", _by_pair(pairs)


def _precision(run: "_Runs", inputs: _Inputs) -> Iterator[Section]:
    count = inputs.scenes
    rows = [_row(one.path.name, run(one, _ALONE, cases(count), count)) for one in inputs.others]
    if rows:
        yield f"Precision, {count} scenes", rows


def _by_arithmetic(model: TubeModel, count: int) -> Row:
    """Cells in the middle of their receptive fields, as the graph has them."""
    found = []
    for number in range(count):
        scene = make_scene((SEED, Split.HELD_OUT, number))
        features = model.activations(scene.frames[None]).features[0]
        raw = model.spec.head.maps(features, np.array([scene.label])).maps[0]
        volume = normalised(upsample(raw, scene.mask.shape, cells=_BY_ARITHMETIC))
        when = temporal_pointing_game(volume, scene.moving, 1) if scene.partial else np.nan
        where = pointing_game(volume, scene.mask, 16), energy_ratio(volume, scene.mask), top_iou(volume, scene.mask)
        found.append((*where, when))
    columns = np.array(found, dtype=np.float64).T
    return Row(
        "receptive fields",
        tuple((m.words, _mean(column[np.isfinite(column)])) for m, column in zip(LOCALISATION, columns, strict=True)),
    )


def _shuffled(run: "_Runs", inputs: _Inputs) -> Iterator[Section]:
    """The rank correlation between maps, and what the maps of shuffled weights find."""
    count = inputs.scenes
    rows = [_row(one.path.name, run(inputs.model, _ALONE, cases(count), count, one)) for one in inputs.randomised]
    if rows:
        yield f"Shuffled weights, {count} scenes", rows


def _long_clips(run: "_Runs", inputs: _Inputs) -> Iterator[Section]:
    count = inputs.scenes
    rows = [
        _row(name, run(inputs.model, replace(_ALONE, sampling=how), cases(count, LONG_CLIP), count))
        for name, how in _WINDOWS.items()
    ]
    yield f"Clips of {LONG_CLIP} frames, {count} scenes (half a cell in time is 3, 3 and 2 frames)", rows


def _perturbation(run: "_Runs", inputs: _Inputs) -> Iterator[Section]:
    count = inputs.perturbed
    for fill in inputs.fills:
        found = run(inputs.model, replace(_PERTURBATION, fills=(fill,)), cases(count), count)
        yield f"Deletion and insertion, {fill}, {count} scenes, {_PERTURBATION.steps} steps", _by_method(found)


_SECTIONS: dict[str, Callable[["_Runs", _Inputs], Iterator[Section]]] = {
    "localisation": _localisation,
    "shuffled": _shuffled,
    "precision": _precision,
    "long-clips": _long_clips,
    "perturbation": _perturbation,
}


def _by_method(evaluation: Evaluation) -> list[Row]:
    """A row for each method."""
    summary = evaluation.summary()
    methods = dict.fromkeys(one.method for one in summary)
    return [Row(method, _cells(one for one in summary if one.method == method)) for method in methods]


def _by_pair(evaluation: Evaluation) -> list[Row]:
    """The same where every two cases are one clip: what is drawn again for the interval is clips."""
    rows = []
    for method in evaluation.options.methods:
        values = [(m.words, [one.value(method, m) for one in evaluation.results]) for m in LOCALISATION]
        known = [(name, np.array(column, dtype=np.float64)) for name, column in values if None not in column]
        rows.append(Row(method, tuple((name, _mean(column.reshape(-1, 2).mean(axis=1))) for name, column in known)))
    return rows


def _difference(name: str, one: Evaluation, other: Evaluation) -> Row:
    """What a scene gains from one of two ways, on average."""
    cells = []
    for metric in LOCALISATION:
        pairs = [
            (a.value(Method.TUBE, metric), b.value(Method.TUBE, metric))
            for a, b in zip(one.results, other.results, strict=True)
        ]
        gains = [a - b for a, b in pairs if a is not None and b is not None]
        cells.append((metric.words, _mean(np.array(gains))))
    return Row(name, tuple(cells))


def _row(name: str, evaluation: Evaluation) -> Row:
    """A row for the tube alone, with how often the network was right."""
    right = np.array([one.predicted.index == one.label.index for one in evaluation.results], dtype=np.float64)
    tube = _cells(one for one in evaluation.summary() if one.method == Method.TUBE)
    return Row(name, (("accuracy", _mean(right)), *tube))


def _cells(summaries: Iterable[Summary]) -> tuple[tuple[str, Interval], ...]:
    return tuple((one.metric.words, _interval(one.mean, one.low, one.high)) for one in summaries)


def _mean(values: NDArray[np.float64]) -> Interval:
    ends = bootstrap(values, _ALONE.seed)
    low, high = (None, None) if ends is None else map(float, ends)
    return _interval(float(values.mean()), low, high)


def _interval(mean: float, low: float | None, high: float | None) -> Interval:
    return Interval(mean, mean if low is None else low, mean if high is None else high)


def _table(rows: Sequence[Row]) -> str:
    """Markdown."""
    columns = list(dict.fromkeys(name for row in rows for name, _ in row.cells))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for row in rows:
        known = dict(row.cells)
        lines.append([row.name, *(str(known[name]) if name in known else "" for name in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class _Runs:
    """Runs evaluations, and shows how far they are."""

    def __init__(self, say: Progress) -> None:
        self._say = say

    def __call__(
        self, model: TubeModel, options: Options, scenes: Iterable[Case], count: int, other: TubeModel | None = None
    ) -> Evaluation:
        """Every scene has to be measured.

        Raises:
            RuntimeError: one of them was not.
        """
        task = self._say.add_task(f"{model.path.name}", total=count)
        found = evaluate(model, scenes, options, other, on_case=lambda _: self._say.advance(task))
        self._say.remove_task(task)
        if found.errors:
            raise RuntimeError(f"{found.errors[0].source}: {found.errors[0].error}")
        return found


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


if __name__ == "__main__":
    sys.exit(main())
