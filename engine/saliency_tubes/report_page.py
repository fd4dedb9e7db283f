"""report.html of an explanation: the clip made small for the page, and what the page says about the run."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from ._version import __version__
from .choices import Align
from .explanation import Explanation
from .painter import Painter, Scene, fitted_wh
from .products import draw, spread
from .report import Report, ReportLabel, report_html
from .style import Style
from .tube import Tube
from .video_sink import VideoSink

_FRAMES, _LONGEST = 300, 480
_ALIGNMENTS = {
    Align.CORNERS: "corners: the first and last cells of the map at the crop's edges",
    Align.CENTERS: "centers: each cell of the map in the middle of its share of the crop",
}
_QUALITY, _GROUP = 27, 12  # of x264; short groups of pictures, so that a page can jump


class ReportPage:
    """report.html: a small copy of the clip, and the raw maps that the page draws over it."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, painter: Painter, open_files: ExitStack) -> None:
        clip = painter.explanation.clip
        self.indices = spread(range(clip.length), _FRAMES)
        self._path, self._painter = path, painter
        self._size_wh = fitted_wh(clip.size_wh, _LONGEST)
        self._video = path.with_suffix(".mp4.partial")
        self._open_files = open_files.enter_context(ExitStack())
        self._sink = self._open_files.enter_context(
            VideoSink(self._video, self._size_wh, crf=_QUALITY, keyint=_GROUP, preset="veryfast")
        )
        self._seen: list[int] = []
        self._times: list[float] = []

    def take(self, scene: Scene) -> None:
        """Encode it small."""
        self._sink.write(scene.bare(_LONGEST), scene.seconds)
        self._seen.append(scene.index)
        self._times.append(scene.seconds)

    def finish(self) -> Iterable[Path]:
        """Write the page."""
        self._path.write_bytes(report_html(self.report()).encode("utf-8", errors="replace"))
        return [self._path]

    def report(self) -> Report:
        """What the page shows; once all frames were taken."""
        self._open_files.close()
        video = self._video.read_bytes()
        self._video.unlink()
        explanation, style = self._painter.explanation, self._painter.style
        approximation = explanation.approximation
        return Report(
            title=explanation.clip.name,
            video=video,
            video_wh=(self._size_wh[0] + self._size_wh[0] % 2, self._size_wh[1] + self._size_wh[1] % 2),  # as encoded
            times=np.array(self._times) - self._times[0],
            box=explanation.box,
            labels=tuple(self._label(position) for position in range(len(explanation.tubes))),
            spans=_spans(explanation, self._seen, self._times),
            top=explanation.top(),
            facts=tuple(_facts(explanation)),
            notes=tuple(note for note in explanation.notes if approximation is None or note != approximation.note),
            approximate="" if approximation is None else _sentence(approximation.note),
            colormap=style.colormap,
            opacity=style.opacity,
            threshold=style.threshold,
            time_note=explanation.time_steps.sentence,
            cells=_cells(explanation.tube),
        )

    def _label(self, position: int) -> ReportLabel:
        explanation = self._painter.explanation
        tube = explanation.tubes[position]
        score = explanation.score(tube.label)
        low, high = self._painter.style.ends(tube.low, tube.high)
        raw = [self._painter.raw(position, index) for index in self._seen]
        nothing = np.full(tube.map.shape[1:], np.nan, dtype=np.float32)
        return ReportLabel(
            index=score.index,
            name=score.name,
            logit=score.logit,
            probability=score.probability,
            low=low,
            high=max(high, low),
            maps=np.stack([nothing if one is None else one for one in raw]),
            probabilities=explanation.window_probabilities(tube.label),
        )


def report_of(explanation: Explanation, style: Style) -> Report:
    """The report of an explanation that is not saved.

    Raises:
        SourceError: the clip cannot be read any more.
    """
    with TemporaryDirectory(prefix="saliency-tubes-") as folder, ExitStack() as open_files:
        painter = Painter(explanation, style)
        page = ReportPage(Path(folder) / "report.html", painter, open_files)
        draw(painter, [page], lambda _: None)
        return page.report()


def _spans(explanation: Explanation, seen: list[int], seconds: list[float]) -> NDArray[np.float64]:
    """(m, 2) the first and the last second of every window, on the page's clock."""
    ends = np.array([(window.first, window.last) for window in explanation.windows])
    spans: NDArray[np.float64] = np.interp(ends, seen, seconds) - seconds[0]
    return spans


def _cells(tube: Tube) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Where the cells of the map lie in the crop, as the page wants it."""
    return None if tube.cells is None else tube.cells.in_shares(tube.shape[1:])


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _facts(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """The card of the model and of the run: what, and its text."""
    spec, model = explanation.spec, explanation.model
    _, t, h, w = spec.features_shape
    yield "network", f"{spec.architecture}, {spec.num_classes} classes"
    yield "head", spec.head.words
    if spec.approximate is not None:
        yield "approximate", spec.approximate
    yield "weights", f"{spec.checkpoint_name}, sha256 {spec.checkpoint_sha256[:16]}…"
    yield "model file", f"{model.path.name}, sha256 {model.sha256[:16]}…"
    yield "ran on", f"{model.device} in {model.precision}, {model.runtime}"
    yield "clip", f"{explanation.clip.length} frames of {explanation.clip.size_wh[0]}x{explanation.clip.size_wh[1]}"
    options = ", ".join(f"{name} {value}" for name, value in explanation.sampling.options().items())
    windows = len(explanation.windows)
    yield (
        "frames seen",
        f"{windows} window{'s' * (windows > 1)} of {spec.frames}, {explanation.sampling.name} {options}",
    )
    yield "fit", f"{explanation.fit}, to {spec.preprocessing.crop_hw[1]}x{spec.preprocessing.crop_hw[0]}"
    yield "map of a window", f"{t} step{'s' * (t > 1)} of time, {h}x{w} places"
    yield "steps of time", explanation.time_steps.words
    yield "alignment", _ALIGNMENTS[explanation.align]
    yield "completeness", f"mean of the map + bias = logit, to {explanation.completeness:.1e} of the largest logit"
    yield "made with", f"saliency-tubes {__version__}"
