"""What is made of a clip's frames in one pass over them: videos, a GIF, a contact sheet, pictures."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import render, writers
from .comparison import Caption, Comparison
from .errors import SourceError
from .explanation import Explanation
from .painter import UNKNOWN_SECONDS, Painter, Scene, fitted_wh
from .pipeline import ahead
from .preprocess import crop
from .sheet import Cell, contact_sheet
from .video_sink import VideoSink

_GIF_FRAMES, _GIF_LONGEST = 48, 360
_SHEET_FRAMES, _SHEET_LONGEST = 8, 480
_PANEL_LONGEST = 960
_LONGEST_VIDEO = 16_384  # pixels: H.264 takes no more
_FASTEST_SECONDS, _SLOWEST_SECONDS = 1 / 30, 0.5  # a GIF keeps the clip's own pace within these bounds


class Product(Protocol):
    """Something that is made of frames."""

    @property
    def indices(self) -> Collection[int]:
        """Which frames of the clip it wants."""

    def take(self, scene: Scene) -> None:
        """Use one of these frames; they come in order."""

    def finish(self) -> Iterable[Path]:
        """Write what is left to write; all its files, those included that are closed only afterwards."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, once all files are closed."""


def draw(painter: Painter, products: Sequence[Product], progress: Callable[[str], None]) -> None:
    """Read the clip once more and hand every product its frames.

    Raises:
        SourceError: the clip cannot be read any more.
    """
    length = painter.explanation.clip.length
    wanted = frozenset[int]().union(*(product.indices for product in products))
    frames = range(length) if len(wanted) == length else sorted(wanted)
    clip = painter.explanation.source
    done = 0
    with closing(clip.read(frames)) as stream, closing(ahead(stream)) as scenes:
        for frame in scenes:
            done += 1
            progress(f"drawing frame {done} of {len(frames)}")
            scene = Scene(painter, frame)
            for product in products:
                if frame.index in product.indices:
                    product.take(scene)
    if done < len(frames):
        raise SourceError(
            f"{clip.name} gave {len(frames)} frames when it was explained, and {done} when it was to be drawn: is "
            "something changing it? Explain it again"
        )


class Overlay:
    """overlay.mp4: every frame of the clip at its own size, with its own times and sound, under one tube."""

    def __init__(self, path: Path, painter: Painter, position: int, open_files: ExitStack) -> None:
        clip = painter.explanation.clip
        self.indices = range(clip.length)
        self._path, self._position = path, position
        size_wh = fitted_wh(clip.size_wh, _LONGEST_VIDEO)
        self._sink = open_files.enter_context(VideoSink(path, size_wh, audio_from=painter.sound))

    def take(self, scene: Scene) -> None:
        """Draw and encode it."""
        self._sink.write(scene.painted(self._position, _LONGEST_VIDEO), scene.seconds)

    def finish(self) -> Iterable[Path]:
        """The video, which ends when its context does."""
        return [self._path]

    @property
    def notes(self) -> tuple[str, ...]:
        """What became of the sound."""
        return self._sink.notes


class SideBySide:
    """comparison.mp4: the tubes of all labels next to each other, on one scale."""

    def __init__(self, path: Path, painter: Painter, open_files: ExitStack) -> None:
        explanation = painter.explanation
        self.indices = range(explanation.clip.length)
        self._path, self._count = path, len(explanation.tubes)
        low, high = painter.style.ends(*painter.common_scale)
        scores = [explanation.score(tube.label) for tube in explanation.tubes]
        self._comparison = Comparison(
            fitted_wh(explanation.clip.size_wh, _PANEL_LONGEST),
            [Caption(score.title, score.probability) for score in scores],
            marked(explanation, f"one colour scale for all: 0 is {low:.2f}, 1 is {high:.2f} in units of the logit"),
            painter.style,
        )
        self._sink = open_files.enter_context(VideoSink(path, self._comparison.size_wh, audio_from=painter.sound))

    def take(self, scene: Scene) -> None:
        """Draw and encode it."""
        panels = [scene.painted(position, _PANEL_LONGEST, common=True) for position in range(self._count)]
        self._sink.write(self._comparison.draw(panels), scene.seconds)

    def finish(self) -> Iterable[Path]:
        """The video, which ends when its context does."""
        return [self._path]

    @property
    def notes(self) -> tuple[str, ...]:
        """What became of the sound."""
        return self._sink.notes


class Gif:
    """overlay.gif: a small looping picture of what was explained."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, painter: Painter, position: int) -> None:
        self.indices = spread(painter.explanation.frame_indices.tolist(), _GIF_FRAMES)
        self._path, self._position = path, position
        self._pictures: list[NDArray[np.uint8]] = []
        self._times: list[float] = []

    def take(self, scene: Scene) -> None:
        """Draw and keep it."""
        self._pictures.append(scene.painted(self._position, _GIF_LONGEST))
        self._times.append(scene.seconds)

    def finish(self) -> Iterable[Path]:
        """Encode all of them, with one palette."""
        return [writers.write_gif(self._path, np.stack(self._pictures), pace(self._times))]


class Sheet:
    """sheet.png: a few frames above the same ones under the tube."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, painter: Painter, position: int) -> None:
        self.indices = spread(painter.explanation.frame_indices.tolist(), _SHEET_FRAMES)
        self._path, self._painter, self._position = path, painter, position
        self._cells: list[Cell] = []

    def take(self, scene: Scene) -> None:
        """Draw and keep it."""
        painted = scene.painted(self._position, _SHEET_LONGEST)
        self._cells.append(Cell(scene.bare(_SHEET_LONGEST), painted, scene.index, scene.time))

    def finish(self) -> Iterable[Path]:
        """Lay them out."""
        explanation = self._painter.explanation
        tube = explanation.tubes[self._position]
        score = explanation.score(tube.label)
        made_by = f"{explanation.spec.architecture} ({explanation.spec.checkpoint_name})"
        said = f"probability {score.probability:.3f} in {explanation.clip.name}, {made_by}"
        sheet = contact_sheet(
            self._cells, score.title, marked(explanation, said), low=tube.low, high=tube.high, style=self._painter.style
        )
        return [writers.write_png(self._path, sheet)]


class CropPictures:
    """heatmap/ or focusmap/ of a whole video: the network's crop of every frame, drawn as the published script does."""

    notes: tuple[str, ...] = ()

    def __init__(self, folder: Path, painter: Painter, position: int, *, focus: bool) -> None:
        first, last = painter.explanation.span
        self.indices = range(first, last + 1)
        self._folder, self._painter, self._position, self._focus = folder, painter, position, focus
        self._digits = max(3, len(str(last)))
        self._files: list[Path] = []
        folder.mkdir()

    def take(self, scene: Scene) -> None:
        """Draw and write it."""
        explanation = self._painter.explanation
        rgb = crop(scene.rgb, explanation.spec.preprocessing, explanation.fit)
        values = self._painter.values(self._position, scene.index, (rgb.shape[0], rgb.shape[1]))
        if values is None:  # not within `indices`
            return
        picture = (
            render.focusmap(values[None], rgb[None])[0]
            if self._focus
            else render.blend(rgb, values, self._painter.style)
        )
        path = self._folder / f"{scene.index:0{self._digits}d}.png"
        self._files.append(writers.write_png(path, picture))

    def finish(self) -> Iterable[Path]:
        """The pictures, all written."""
        return self._files


def marked(explanation: Explanation, text: str) -> str:
    """Text of a picture; where the maps are approximate it begins with that, since its end may be cut off."""
    approximation = explanation.approximation
    return text if approximation is None else f"{approximation.mark}; {text}"


def pace(times: Sequence[float]) -> float:
    """How many seconds a GIF shows each frame: the clip's own pace, within what the eye can follow."""
    step = (times[-1] - times[0]) / max(1, len(times) - 1)
    return float(np.clip(step, _FASTEST_SECONDS, _SLOWEST_SECONDS)) if step > 0 else UNKNOWN_SECONDS


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of the indices, at even distances, the first and the last among them; none twice."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return sorted({int(indices[place]) for place in places})
