"""What `Explanation.save` does: folders of whole files, drawn in one more pass over the clip."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import render, writers
from .choices import MOST_COMPARED, Artifact, parse_artifacts
from .explanation import Explanation, folder_name
from .painter import Painter
from .style import Style
from .tube import Tube

if TYPE_CHECKING:
    from .products import Product

_ONCE = frozenset({Artifact.HTML, Artifact.COMPARISON})  # what is written once a run, with all its labels
_TOGETHER = _ONCE | {Artifact.TIMELINE}
_LONGEST_NAME = 100
_AT_ONCE = 8  # folders that are drawn in one pass over the clip: each has an encoder with threads and buffers
Job = Callable[[], Path]


@dataclass(frozen=True)
class _Folder:
    """A folder that is being filled.

    Attributes:
        target: where it will stand.
        staging: where it is now.
        position: which of the tubes it is for; None for all of them together.
        artifacts: what belongs into it.
    """

    target: Path
    staging: Path
    position: int | None
    artifacts: frozenset[Artifact]


def save(
    explanation: Explanation,
    out: Path,
    progress: Callable[[str], None],
    artifacts: Iterable[Artifact | str],
    style: Style,
    on_note: Callable[[str], None],
) -> tuple[Path, ...]:
    """Write the chosen artifacts of every label; see `Explanation.save`."""
    started = time.perf_counter()
    chosen = parse_artifacts(artifacts)
    if Artifact.COMPARISON in chosen and not 2 <= len(explanation.tubes) <= MOST_COMPARED:
        chosen -= {Artifact.COMPARISON}
        on_note(f"comparison.mp4 is left out: it takes 2 to {MOST_COMPARED} labels, here are {len(explanation.tubes)}")
    painter = Painter(explanation, style)
    with ExitStack() as stack:
        folders = [
            replace(folder, staging=stack.enter_context(writers.replacing_folder(folder.target)))
            for folder in _folders(explanation, out / folder_name(explanation.clip.name), chosen)
        ]
        progress(f"writing {folders[0].target}")
        jobs = [(folder, job) for folder in folders for job in _jobs(folder, painter)]
        files: dict[Path, list[Path]] = {folder.staging: [] for folder in folders}
        for (folder, _), file in zip(jobs, writers.write_all(job for _, job in jobs), strict=True):
            files[folder.staging].append(file)
        drawn, notes = _draw(folders, painter, progress)
        for staging, paths in drawn:
            files[staging] += paths
        for folder in folders:
            _write_info(folder, explanation, style, files[folder.staging], time.perf_counter() - started, notes)
    for note in notes:
        on_note(note)
    return tuple(folder.target for folder in folders)


def _folders(explanation: Explanation, parent: Path, chosen: frozenset[Artifact]) -> Iterator[_Folder]:
    """A folder for each label and, where several are shown together, one for all: with one label, that label's."""
    labels = [tube.label for tube in explanation.tubes]
    alone = len(labels) == 1
    for position, label in enumerate(labels):
        yield _Folder(parent / str(label), parent, position, chosen if alone else chosen - _ONCE)
    if not alone and chosen & _TOGETHER:
        yield _Folder(parent / _together_name(labels), parent, None, chosen & _TOGETHER)


def _together_name(labels: list[int]) -> str:
    """``5+70``; of very many labels the first ones, and a digest of all."""
    name = "+".join(map(str, labels))
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME // 2].rpartition('+')[0]}+{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _jobs(folder: _Folder, painter: Painter) -> Iterator[Job]:
    """What is written from what is in hand, without another look at the clip."""
    explanation, position = painter.explanation, folder.position
    if Artifact.TIMELINE in folder.artifacts:
        yield partial(_write_timeline, folder.staging / "timeline.png", painter, position)
    if Artifact.NPZ in folder.artifacts and position is not None:
        yield partial(_write_npz, folder.staging / "tube.npz", explanation, position)
    if explanation.frames is None or position is None:
        return
    if Artifact.FOCUSMAP in folder.artifacts:
        pictures = render.focusmap(painter.volume(position), explanation.frames)
        yield from writers.png_jobs(folder.staging / "focusmap", pictures)
    if Artifact.HEATMAP in folder.artifacts:
        pictures = render.blend(explanation.frames, painter.volume(position), painter.style)
        yield from writers.png_jobs(folder.staging / "heatmap", pictures)


def _draw(
    folders: list[_Folder], painter: Painter, progress: Callable[[str], None]
) -> tuple[list[tuple[Path, list[Path]]], list[str]]:
    """Draw what needs the clip's own frames: each folder's files, all of them closed, and what there is to note."""
    if not any(folder.artifacts - {Artifact.TIMELINE, Artifact.NPZ} for folder in folders):
        return [], []
    from .products import draw  # late: who wants crops and numbers needs no encoder

    drawn, notes = [], []
    for start in range(0, len(folders), _AT_ONCE):
        some = folders[start : start + _AT_ONCE]
        with ExitStack() as open_files:
            products = [(folder.staging, one) for folder in some for one in _products(folder, painter, open_files)]
            if products:
                draw(painter, [product for _, product in products], progress)
            drawn += [(staging, list(product.finish())) for staging, product in products]
        notes += [note for _, product in products for note in product.notes]
    return drawn, list(dict.fromkeys(notes))


def _products(folder: _Folder, painter: Painter, open_files: ExitStack) -> Iterator["Product"]:
    from .products import CropPictures, Gif, Overlay, Sheet, SideBySide
    from .report_page import ReportPage

    staging, position = folder.staging, folder.position
    if Artifact.HTML in folder.artifacts:
        yield ReportPage(staging / "report.html", painter, open_files)
    if Artifact.COMPARISON in folder.artifacts:
        yield SideBySide(staging / "comparison.mp4", painter, open_files)
    if position is None:
        return
    if Artifact.OVERLAY in folder.artifacts:
        yield Overlay(staging / "overlay.mp4", painter, position, open_files)
    if Artifact.GIF in folder.artifacts:
        yield Gif(staging / "overlay.gif", painter, position)
    if Artifact.SHEET in folder.artifacts:
        yield Sheet(staging / "sheet.png", painter, position)
    if painter.explanation.frames is None:
        for artifact in sorted({Artifact.HEATMAP, Artifact.FOCUSMAP} & folder.artifacts):
            yield CropPictures(staging / artifact, painter, position, focus=artifact is Artifact.FOCUSMAP)


def _write_timeline(path: Path, painter: Painter, position: int | None) -> Path:
    """The timeline of one label, or of all."""
    from .timeline import Timeline, draw_timeline

    explanation = painter.explanation
    tubes = explanation.tubes if position is None else (explanation.tubes[position],)
    labels = tuple(explanation.score(tube.label).title for tube in tubes)
    several = len(tubes) > 1  # then only a common scale lets them be compared
    scale = painter.common_scale if several else (tubes[0].low, tubes[0].high)
    timeline = Timeline(
        labels=labels,
        times=explanation.timestamps,
        frame_indices=explanation.frame_indices,
        energy=np.stack([tube.energy_on(*scale) for tube in tubes]),
        windows=np.array([(window.first, window.last) for window in explanation.windows]),
        probabilities=np.stack([explanation.window_probabilities(tube.label) for tube in tubes]),
        remarks=tuple(_remarks(explanation)),
    )
    title = explanation.clip.name if several else f"{labels[0]}, {explanation.clip.name}"
    return writers.write_png(path, draw_timeline(timeline, title))


def _remarks(explanation: Explanation) -> Iterator[str]:
    """What is to be said of the energy over time."""
    if explanation.approximation is not None:
        yield explanation.approximation.mark
    if explanation.time_steps.is_flat:
        yield "flat: one step of time"


def _write_npz(path: Path, explanation: Explanation, position: int) -> Path:
    tube = explanation.tubes[position]
    score = explanation.score(tube.label)
    # A whole video's tube would take gigabytes; its map and the two ends of its scale are all it is made of.
    volume = {"tube": tube.values} if explanation.frames is not None else {}
    return writers.write_npz(
        path,
        map=tube.map,
        **volume,
        **_cells(tube),
        low=np.float32(tube.low),
        high=np.float32(tube.high),
        frame_indices=explanation.frame_indices,
        timestamps=explanation.timestamps,
        windows=np.array([window.indices for window in explanation.windows]),
        window_logits=explanation.window_logits,
        label=np.int64(tube.label),
        logit=np.float32(score.logit),
        probability=np.float64(score.probability),
        **({} if explanation.spec.approximate is None else {"approximate": np.str_(explanation.spec.approximate)}),
    )


def _cells(tube: Tube) -> dict[str, NDArray[np.float64]]:
    """Where the map's cells lie; nothing where it is corner-aligned."""
    cells = tube.cells
    return {} if cells is None else {"cells_offset": np.array(cells.offset), "cells_stride": np.array(cells.stride)}


def _write_info(
    folder: _Folder, explanation: Explanation, style: Style, files: list[Path], seconds: float, notes: list[str]
) -> None:
    if folder.position is None:
        labels = [asdict(explanation.score(tube.label)) for tube in explanation.tubes]
        info: dict[str, Any] = {"labels": labels, **explanation.describe_run()}
    else:
        info = explanation.describe(explanation.tubes[folder.position])
    info["style"] = asdict(style)
    info["notes"] = [*explanation.notes, *notes]
    info["timings_s"] |= {"save": seconds}
    path = folder.staging / writers.INFO_FILE
    info["files"] = sorted(file.relative_to(folder.staging).as_posix() for file in [*files, path])
    writers.write_json(path, info)
