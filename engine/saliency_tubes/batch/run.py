"""The batch: what is not done yet is explained, saved and recorded, clip by clip."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import SaliencyTubesError
from ..explanation import Explanation
from ..model import Label
from ..spec import ModelSpec
from ..statistics import tube_statistics
from ..tube import Tube
from .folder import PAGE, RESERVED, RESULTS
from .gallery import write_page, write_thumbnail
from .lists import Refused
from .plan import PlannedClip, plan
from .results import LabelRecord, Record, Results, Written, open_results
from .sources import Found
from .stand_in import Job, peak_picture, seconds_taken

# The page is written this often while the batch runs, or so seldom that it takes two per cent of the time.
_PAGE_SECONDS, _PAGE_SHARE = 30.0, 50
Outcome = Record | SaliencyTubesError
Seen = Callable[[Record], None]


class Explain(Protocol):
    """What explains clips: `TubeModel.explain_jobs` with its options."""

    def __call__(
        self, jobs: Iterable[Job], *, finish: Callable[[Job, Explanation], Record]
    ) -> Iterator[tuple[Job, Outcome]]:
        """Every job with what `finish` made of it, or with why there is nothing."""


@dataclass(frozen=True)
class Method:
    """How every clip is explained.

    Attributes:
        explain: jobs to explanations; `finish` may be called on other threads, and for several clips at once.
        save: an explanation to the folders of its labels, ``out/name/<label>/``, and at most one more for all of them
            together, last; each with an ``info.json``.
        settings: all that the results depend on besides the clip and its labels, as JSON types: the model's SHA-256,
            and every option that changes what is written.
        notes: what is true of all clips; it is not repeated for each.
    """

    explain: Explain
    save: Callable[[Explanation, Path, str], tuple[Path, ...]]
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
    method: Method,
    labels: Iterable[Label] = (),
    watch: Callable[[int], AbstractContextManager[Seen]] = lambda _: nullcontext(lambda _: None),
) -> BatchSummary:
    """Explain clips into a folder, and go on where an earlier batch stopped.

    A clip is done when its line is in ``results.jsonl``. It is not done again, unless it, its labels or the method's
    settings have changed, something of its results is missing, or it failed.

    Args:
        found: the clips.
        out: the folder for the results; made where it is missing.
        spec: the model.
        method: how they are explained.
        labels: classes for the clips that were named without one.
        watch: called with the number of clips to explain; what it gives is entered while they are, and called with each
            record.

    Raises:
        LabelError: one of `labels` is out of range, or a name that the model does not know.
        OutputError: the folder is in use or cannot be written, or a file in it is in the way.
    """
    with open_results(out) as results:
        known = {record.source: record.name for record in results.records if record.name is not None}
        clips, refused = plan(found.clips, spec, method.settings, labels=labels, known=known, reserved=RESERVED)
        waiting = _waiting(clips, results, out)
        failed = 0
        try:
            with watch(len(waiting)) as seen:
                for row in (*found.refused, *refused):
                    refusal = _refusal(row)
                    results.append(refusal)
                    seen(refusal)
                for record in _explained(waiting, out, method, results):
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


def _explained(clips: Sequence[PlannedClip], out: Path, method: Method, results: Results) -> Iterator[Record]:
    """Explain clips; each is recorded as soon as its files are there, by the thread that wrote them."""
    planned = {clip.source: clip for clip in clips}
    jobs = (Job(clip.source, clip.labels or None) for clip in clips)

    def finish(job: Job, explanation: Explanation) -> Record:
        record = _record(planned[job.source], explanation, out, method)
        results.append(record)
        return record

    page_due = time.monotonic() + _PAGE_SECONDS
    explained = method.explain(jobs, finish=finish)
    with closing(explained):  # type: ignore[type-var]  # a generator, in fact
        for job, outcome in explained:
            if isinstance(outcome, SaliencyTubesError):
                outcome = _failure(planned[job.source], outcome)
                results.append(outcome)
            yield outcome
            started = time.monotonic()
            if started > page_due:
                write_page(out, results.records)
                page_due = time.monotonic() + max(_PAGE_SECONDS, _PAGE_SHARE * (time.monotonic() - started))


def _record(clip: PlannedClip, explanation: Explanation, out: Path, method: Method) -> Record:
    started = time.perf_counter()
    folders = method.save(explanation, out, clip.name)
    labels = tuple(
        _label_record(clip, explanation, tube, folder, out)
        for tube, folder in zip(explanation.tubes, folders, strict=False)
    )
    return Record(
        source=str(clip.source),
        name=clip.name,
        predicted=explanation.predicted,
        labels=labels,
        together=_written(folders[-1], out) if len(folders) > len(labels) else None,
        notes=tuple(note for note in explanation.notes if note not in method.notes),
        error=None,
        seconds=round(seconds_taken(explanation) + time.perf_counter() - started, 3),
        fingerprint=clip.fingerprint,
    )


def _label_record(clip: PlannedClip, explanation: Explanation, tube: Tube, folder: Path, out: Path) -> LabelRecord:
    statistics = tube_statistics(tube, explanation.frame_indices, explanation.timestamps)
    picture = peak_picture(explanation, tube, statistics.peak_frame)
    return LabelRecord(
        explanation.score(tube.label),
        statistics,
        _written(folder, out),
        write_thumbnail(out, f"{clip.name}/{tube.label}", picture),
    )


def _written(folder: Path, out: Path) -> Written:
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    return Written(folder.relative_to(out).as_posix(), tuple(names))


def _failure(clip: PlannedClip, error: SaliencyTubesError) -> Record:
    return Record(str(clip.source), clip.name, None, (), None, (), str(error), None, clip.fingerprint)


def _refusal(row: Refused) -> Record:
    return Record(row.source, None, None, (), None, (), row.error, None, None)
