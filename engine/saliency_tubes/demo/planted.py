"""What is known of the demo's clip, and what its tube makes of that."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import SourceError
from ..explanation import Explanation
from ..statistics import tube_statistics

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Planted:
    """Where and when one thing, the actor, moves in a clip.

    Attributes:
        label: the class, which is how it moves.
        moving: the first and the last frame, inclusive, in which it moves.
        boxes: left, top, right and bottom of the actor in every frame of the clip, in pixels, the last two one beyond.
    """

    label: str
    moving: tuple[int, int]
    boxes: tuple[Box, ...]

    @classmethod
    def read(cls, path: Path) -> "Planted":
        """Read what `write` wrote.

        Raises:
            SourceError: it is damaged.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            first, last = map(int, document["moving"])
            boxes = tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in document["boxes"])
            if not 0 <= first <= last < len(boxes):
                raise ValueError(f"moving from {first} to {last} of {len(boxes)}")
            return cls(str(document["label"]), (first, last), boxes)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise SourceError(f"{path} is damaged ({error}): install saliency-tubes again") from error

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), separators=(",", ":")) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Verdict:
    """What an explanation makes of a clip whose evidence is known; what is None is so for a tube without a peak.

    Attributes:
        truth: the clip's class.
        moves_from_s: when the actor begins to move.
        moves_to_s: when it stops.
        correct: whether the network says that class.
        peak_s: when the tube has its largest value.
        off_s: how far that is from the time in which the actor moves: 0 in it, negative before.
        off_pixels: how far the tube's largest value is from the actor's box in that frame, in pixels; 0 in it.
        half_cell: half the width, or height where that is more, of a cell of the network's map, in the same pixels.
    """

    truth: str
    moves_from_s: float
    moves_to_s: float
    correct: bool
    peak_s: float | None
    off_s: float | None
    off_pixels: float | None
    half_cell: float


def judge(explanation: Explanation, evidence: Planted) -> Verdict:
    """Hold an explanation's first tube against what is known.

    Args:
        explanation: of the whole clip, with a step of the tube for every frame.
        evidence: of the same clip.

    Raises:
        SourceError: the evidence is that of a clip of another length.
    """
    T = len(explanation.timestamps)
    if len(evidence.boxes) != T or not np.isfinite(explanation.timestamps).all():
        raise SourceError(
            f"{explanation.clip.name} has {T} frames, and evidence is there for {len(evidence.boxes)}: "
            "install saliency-tubes again"
        )
    start, end = (float(explanation.timestamps[frame]) for frame in evidence.moving)
    width, height = explanation.clip.size_wh
    box = explanation.box
    _, _, h, w = explanation.spec.features_shape
    cell = max(width * (box.right - box.left) / w, height * (box.bottom - box.top) / h)
    found = tube_statistics(explanation.tube, explanation.frame_indices, explanation.timestamps)
    off_s = off_pixels = None
    if found.peak_frame is not None and found.peak_x is not None and found.peak_y is not None:
        seconds = float(explanation.timestamps[found.peak_frame])
        off_s = min(seconds - start, 0.0) or max(seconds - end, 0.0)
        x = width * (box.left + found.peak_x * (box.right - box.left))
        y = height * (box.top + found.peak_y * (box.bottom - box.top))
        off_pixels = _distance(x, y, evidence.boxes[found.peak_frame])
    correct = explanation.predicted.title == evidence.label
    return Verdict(evidence.label, start, end, correct, found.peak_s, off_s, off_pixels, cell / 2)


def verdict_rows(verdict: Verdict, said: str) -> tuple[tuple[str, str], ...]:
    """The verdict in plain words, each with what it is about; `said` is the class that the network says."""
    known = (
        f"the demo's own: one thing moves from {verdict.moves_from_s:.1f} s to {verdict.moves_to_s:.1f} s, and how it "
        f"moves is the class: {verdict.truth}"
    )
    tube = "constant: it points nowhere"
    if verdict.peak_s is not None and verdict.off_s is not None and verdict.off_pixels is not None:
        where = _where(verdict.off_pixels, verdict.half_cell)
        tube = f"peaks at {verdict.peak_s:.1f} s, {_when(verdict.off_s)}, {where}"
    answer = f"says {said}, which is {'correct' if verdict.correct else 'wrong'}"
    return ("clip", known), ("network", answer), ("tube", tube)


def _when(off_s: float) -> str:
    if off_s == 0:
        return "while that moves"
    return f"{abs(off_s):.2f} s {'before that moves' if off_s < 0 else 'after that has moved'}"


def _where(off_pixels: float, half_cell: float) -> str:
    if off_pixels == 0:
        return "on it"
    near = off_pixels <= half_cell
    remark = "beside it, which is within half a cell of the network's map" if near else "away from it"
    count = math.ceil(off_pixels)
    return f"{count} {'pixel' if count == 1 else 'pixels'} {remark}"


def _distance(x: float, y: float, box: Box) -> float:
    """From a place to the nearest of a box; 0 within."""
    left, top, right, bottom = box
    return math.hypot(max(left - x, 0.0, x - right), max(top - y, 0.0, y - bottom))
