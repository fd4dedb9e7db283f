"""The batch: what is not done yet is explained, saved and recorded, clip by clip."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import render
from .._opencv import cv2
from ..errors import SaliencyTubesError, SourceError
from ..explanation import Explanation
from ..model import Job, Label
from ..painter import Painter
from ..spec import ModelSpec
from ..statistics import tube_statistics
from ..style import Style
from ..writers import sweep
from .folder import PAGE, RESERVED, RESULTS
from .gallery import write_page, write_thumbnail
from .lists import Refused
from .plan import PlannedClip, plan
from .results import LabelRecord, Record, Results, Written, open_results
from .sources import Found

# The page is written this often while the batch runs, or so seldom that it takes two per cent of the time.
_PAGE_SECONDS, _PAGE_SHARE = 30.0, 50
Outcome = Record | SaliencyTubesError
Seen = Callable[[Record], None]


class Explain(Protocol):
    """What explains clips: `TubeModel.explain_jobs` with its options."""

    def __call__(
        self, jobs: Iterable[Job], *, finish: Callable[[Job, Explanation], Record]
    ) -> Generator[tuple[Job, Outcome]]:
        """Every job with what `finish` made of it, or with why there is nothing."""


@dataclass(frozen=True)
class Procedure:
    """How every clip is explained.

    Attributes:
        explain: jobs to explanations; `finish` may be called on other threads, and for several clips at once.
        save: an explanation to the folders of its labels, ``out/name/<label>/``, and at most one more for all of them
            together, last; each with an ``info.json``. Its last argument is called with what there is to note.
        settings: all that the results depend on besides the clip and its labels, as JSON types: the model's SHA-256,
            and every option that changes what is written.
        notes: what is true of all clips; it is not repeated for each.
    """

    explain: Explain
    save: Callable[[Explanation, Path, str, Callable[[str], None]], tuple[Path, ...]]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchSummary:
    """How a batch ended: how many clips were explained, were done before, and failed; and where that is written."""

    explained: int
    before: int
    failed: int
    results: Path
    gallery: Path


def run_batch(
    found: Found,
    out: Path,
    spec: ModelSpec,
    procedure: Procedure,
    labels: Iterable[Label] = (),
    watch: Callable[[int], AbstractContextManager[Seen]] = lambda _: nullcontext(lambda _: None),
) -> BatchSummary:
    """Explain clips into a folder, and go on where an earlier batch stopped.

    A clip is done when its line is in ``results.jsonl``. It is not done again, unless it, its labels or the procedure's
    settings have changed, something of its results is missing, or it failed.

    Args:
        found: the clips.
        out: the folder for the results; made where it is missing.
        spec: the model.
        procedure: how they are explained.
        labels: classes for the clips that were named without one.
        watch: called with the number of clips to explain; what it gives is entered while they are, and called with each
            record.

    Raises:
        LabelError: one of `labels` is out of range, or a name that the model does not know.
        OutputError: the folder is in use or cannot be written, or a file in it is in the way.
    """
    with open_results(out) as results:
        known = {record.source: record.name for record in results.records if record.name is not None}
        clips, refused = plan(found.clips, spec, procedure.settings, labels=labels, known=known, reserved=RESERVED)
        waiting = _waiting(clips, results, out)
        for clip in waiting:  # the output folder is locked, so whatever is half-written there is left over
            sweep(out / clip.name)
        failed = 0
        try:
            with watch(len(waiting)) as seen:
                for row in (*found.refused, *refused):
                    refusal = _refusal(row)
                    results.append(refusal)
                    seen(refusal)
                for record in _explained(waiting, out, procedure, results):
                    seen(record)
                    failed += record.failed
        finally:
            write_page(out, results.records)
    return BatchSummary(
        explained=len(waiting) - failed,
        before=len(clips) - len(waiting),
        failed=failed + len(found.refused) + len(refused),
        results=out / RESULTS,
        gallery=out / PAGE,
    )


def _waiting(clips: Sequence[PlannedClip], results: Results, out: Path) -> list[PlannedClip]:
    """The clips that are not done; the records that no longer hold are taken out."""
    wanted = {str(clip.source): clip.fingerprint for clip in clips}
    kept = [
        record
        for record in results.records
        if (record.failed and record.fingerprint is not None and record.source not in wanted)
        or (wanted.get(record.source, record.fingerprint) == record.fingerprint and record.is_complete(out))
    ]
    results.replace(kept)
    done = {record.source for record in kept}
    return [clip for clip in clips if str(clip.source) not in done]


def _explained(clips: Sequence[PlannedClip], out: Path, procedure: Procedure, results: Results) -> Iterator[Record]:
    """Explain clips; each is recorded as soon as its files are there, by the thread that wrote them."""
    planned = {Job(clip.source, clip.labels or None): clip for clip in clips}

    def finish(job: Job, explanation: Explanation) -> Record:
        record = _record(planned[job], explanation, out, procedure)
        results.append(record)
        return record

    page_due = time.monotonic() + _PAGE_SECONDS
    explained = procedure.explain(planned, finish=finish)
    with closing(explained):
        for job, outcome in explained:
            if isinstance(outcome, SaliencyTubesError):
                outcome = _failure(planned[job], outcome)
                results.append(outcome)
            yield outcome
            started = time.monotonic()
            if started > page_due:
                write_page(out, results.records)
                page_due = time.monotonic() + max(_PAGE_SECONDS, _PAGE_SHARE * (time.monotonic() - started))


def _record(clip: PlannedClip, explanation: Explanation, out: Path, procedure: Procedure) -> Record:
    started = time.perf_counter()
    notes: list[str] = []
    folders = procedure.save(explanation, out, clip.name, notes.append)
    labels = tuple(
        _label_record(clip, explanation, position, folder, out)
        for position, folder in enumerate(folders[: len(explanation.tubes)])
    )
    return Record(
        source=str(clip.source),
        name=clip.name,
        predicted=explanation.predicted,
        labels=labels,
        together=_written(folders[-1], out) if len(folders) > len(labels) else None,
        notes=tuple(note for note in (*explanation.notes, *notes) if note not in procedure.notes),
        error=None,
        seconds=round(sum(astuple(explanation.timings)) + time.perf_counter() - started, 3),
        fingerprint=clip.fingerprint,
        align=explanation.align,
        approximate=explanation.spec.approximate,
    )


def _label_record(clip: PlannedClip, explanation: Explanation, position: int, folder: Path, out: Path) -> LabelRecord:
    tube = explanation.tubes[position]
    statistics = tube_statistics(tube, explanation.frame_indices, explanation.timestamps)
    picture = _peak_picture(explanation, position, statistics.peak_frame)
    return LabelRecord(
        explanation.score(tube.label),
        statistics,
        _written(folder, out),
        write_thumbnail(out, f"{clip.name}/{tube.label}", picture),
    )


def _written(folder: Path, out: Path) -> Written:
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    return Written(folder.relative_to(out).as_posix(), tuple(names))


def _peak_picture(explanation: Explanation, position: int, peak_frame: int | None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: the frame where the tube peaks, under its colours; the middle one of a constant tube.

    The network's crop of it where that is at hand; of a whole video, the frame is read again.
    """
    middle = len(explanation.frame_indices) // 2
    if explanation.frames is not None:
        values = explanation.tubes[position].values
        step = middle if peak_frame is None else int(values.max(axis=(1, 2)).argmax())
        return _unsquashed(render.heatmap(values[step], explanation.frames[step]), explanation)
    with closing(explanation.source.read([middle if peak_frame is None else peak_frame])) as frames:
        frame = next(frames, None)
    if frame is None:
        raise SourceError(f"{explanation.source.name} gives no frame where its tube peaks: is something changing it?")
    return Painter(explanation, Style()).paint(frame.rgb, frame.index, position)


def _unsquashed(crop: NDArray[np.uint8], explanation: Explanation) -> NDArray[np.uint8]:
    """A crop with the shape that it has in the clip."""
    (width, height), box = explanation.clip.size_wh, explanation.box
    aspect = (box.right - box.left) * width / ((box.bottom - box.top) * height)
    rows, columns = crop.shape[:2]
    size_wh = (columns, max(1, round(columns / aspect))) if aspect > 1 else (max(1, round(rows * aspect)), rows)
    return np.asarray(cv2.resize(crop, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _failure(clip: PlannedClip, error: SaliencyTubesError) -> Record:
    return Record(str(clip.source), clip.name, None, (), None, (), str(error), None, clip.fingerprint)


def _refusal(row: Refused) -> Record:
    return Record(row.source, None, None, (), None, (), row.error, None, None)
