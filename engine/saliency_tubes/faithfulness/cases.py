"""What is evaluated: clips, and where and when in them the evidence is known to be."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..model import Source

Mask = NDArray[np.bool_] | Path
Boxes = tuple["Box", ...] | Path
Moving = NDArray[np.bool_] | tuple[int, int]


@dataclass(frozen=True)
class Box:
    """A part of one frame of a clip: pixels of the upright frame, from its left and top edge; may be fractions."""

    frame: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """Where and when in a clip the evidence for its class is. All of it is optional.

    Where is said by `mask` or by `boxes`, not by both; the length and the size are those of the clip, not of what the
    network sees of it.

    Attributes:
        mask: (n, h, w) bool, or (h, w) bool for all frames alike; or a video, GIF or folder of frames, or one picture
            for all frames, in which the evidence is brighter than 127 of 255.
        boxes: any number for a frame, together its evidence; frames without one hold none. Or a CSV file of them, see
            `read_boxes`.
        moving: (n,) bool, the frames in which the evidence happens; or the first and the last of them, inclusive,
            counted from 0.
    """

    mask: Mask | None = None
    boxes: Boxes | None = None
    moving: Moving | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A clip to evaluate an explanation of.

    Attributes:
        name: what it is called in the results.
        source: a clip as `TubeModel.explain` takes it.
        label: a class index or name; None for the predicted class.
        evidence: where and when the evidence is; None where it is not known.
        place: where it is listed, such as ``cases.csv line 3``; empty where it is not.
    """

    name: str
    source: Source
    label: int | str | None = None
    evidence: Evidence | None = None
    place: str = ""


@dataclass(frozen=True)
class CaseError:
    """A case without results, or a row of a list that is none.

    Attributes:
        source: the place where it is listed; the case's name where there is none.
        error: why there are none.
        names_clip: whether it is a case.
    """

    source: str
    error: str
    names_clip: bool = True
