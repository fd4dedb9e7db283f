"""Several labels' overlays in one picture, for a video: laid out once, filled for every frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import lettering, render
from ._opencv import cv2
from .choices import MOST_COMPARED
from .errors import OptionError
from .style import Style

LONGEST_SIDE = 1920  # pixels of the whole picture

_GAP = 16
_NARROWEST = 200  # leaves room for a caption; small clips are enlarged to it
_LARGE_TEXT, _SMALL_TEXT, _LARGE_PANEL = 22, 17, 360
_BAR_HEIGHT = 10
_NOTE_LINES = 4
_PAPER, _INK, _QUIET = (18, 18, 20), (242, 242, 244), (178, 178, 184)


@dataclass(frozen=True)
class Caption:
    """What stands over a panel: a label's name and its probability, from 0 to 1."""

    label: str
    probability: float


class Comparison:
    """Panels side by side, two in a row or more in a grid, each under its caption; what the colours mean below all.

    Args:
        size_wh: of the frames that will be drawn; they are made smaller where that is needed.
        captions: one for every panel.
        note: what must be said on the picture, such as that one scale holds for all; broken into lines.
        style: the panels' colours, for the bar over the note.

    Attributes:
        size_wh: of the whole picture: even, neither side over 1920.

    Raises:
        OptionError: there are no captions, or too many.
    """

    def __init__(
        self, size_wh: tuple[int, int], captions: Sequence[Caption], note: str, style: Style = render.REFERENCE
    ) -> None:
        if not 1 <= len(captions) <= MOST_COMPARED:
            raise OptionError(
                f"a comparison shows 1 to {MOST_COMPARED} labels, not {len(captions)}: name as many, or write each "
                "label's own overlay"
            )
        columns, self._panel_wh = _layout(size_wh, len(captions))
        panel_width, panel_height = self._panel_wh
        column_width = max(panel_width, _NARROWEST)
        text = _LARGE_TEXT if column_width >= _LARGE_PANEL else _SMALL_TEXT
        row_height = _caption_height(text) + panel_height
        width = columns * (column_width + _GAP) + _GAP
        note_top = math.ceil(len(captions) / columns) * (row_height + _GAP) + _GAP
        notes = lettering.wrap(note, width - 2 * _GAP - 4 * text, text, _NOTE_LINES)
        height = note_top + _BAR_HEIGHT + round(1.4 * text * max(1, len(notes))) + _GAP
        self.size_wh = width + width % 2, height + height % 2

        self._background = np.full((self.size_wh[1], self.size_wh[0], 3), _PAPER, dtype=np.uint8)
        self._corners_xy = []
        for place, caption in enumerate(captions):
            row, column = divmod(place, columns)
            x, y = _GAP + column * (column_width + _GAP), row * (row_height + _GAP)
            _draw_caption(self._background, caption, (x, y), column_width, text)
            self._corners_xy.append((x + (column_width - panel_width) // 2, y + _caption_height(text)))
        _draw_note(self._background, notes, note_top, text, style)

    def draw(self, panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The picture of one moment.

        Args:
            panels: as many (h, w, 3) uint8 RGB images as there are captions, in their order.

        Returns:
            (H, W, 3) uint8 RGB, of `size_wh`.
        """
        image = self._background.copy()
        width, height = self._panel_wh
        for panel, (x, y) in zip(panels, self._corners_xy, strict=True):
            _resize_into(image[y : y + height, x : x + width], panel)
        return image


def _resize_into(out: NDArray[np.uint8], panel: NDArray[np.uint8]) -> None:
    """Halve as often as possible, then interpolate: sharp and free of aliases, at a tenth of area averaging's time."""
    height, width = out.shape[:2]
    while panel.shape[0] >= 2 * height and panel.shape[1] >= 2 * width:
        half_h, half_w = panel.shape[0] // 2, panel.shape[1] // 2
        even = panel[: 2 * half_h, : 2 * half_w]
        panel = np.asarray(cv2.resize(even, (half_w, half_h), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    cv2.resize(panel, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)


def _caption_height(text: int) -> int:
    return round(1.8 * text)


def _layout(size_wh: tuple[int, int], count: int) -> tuple[int, tuple[int, int]]:
    """How many columns, and the size of a panel: the grid whose panels are largest, of equals the fullest one."""
    width, height = size_wh

    def scale(columns: int) -> float:
        rows = math.ceil(count / columns)
        foot = _BAR_HEIGHT + round(1.4 * _LARGE_TEXT * _NOTE_LINES) + 3 * _GAP
        room_w = (LONGEST_SIDE - _GAP) / columns - _GAP
        room_h = (LONGEST_SIDE - foot) / rows - _caption_height(_LARGE_TEXT) - _GAP
        return min(room_w / width, room_h / height, max(1.0, _NARROWEST / width))

    def merit(columns: int) -> tuple[float, int, int]:
        empty = -count % columns
        return scale(columns), -empty, -abs(columns - math.ceil(math.sqrt(count)))

    most = (LONGEST_SIDE - _GAP) // (_NARROWEST + _GAP)
    columns = count if count <= 2 else max(range(2, min(count, most) + 1), key=merit)
    best = scale(columns)
    return columns, (max(2, int(width * best) // 2 * 2), max(2, int(height * best) // 2 * 2))


def _draw_caption(
    image: NDArray[np.uint8], caption: Caption, corner_xy: tuple[int, int], width: int, text: int
) -> None:
    x, y = corner_xy
    baseline = y + round(1.25 * text)
    probability = f"probability {caption.probability:.3f}"
    if lettering.width_of(probability, text) > 0.45 * width:
        probability = probability.split()[-1]
    room = width - lettering.width_of(probability, text) - text
    label = lettering.shorten(caption.label, room, text, lettering.BOLD)
    lettering.draw(image, label, (x, baseline), text, weight=lettering.BOLD, colour=_INK)
    lettering.draw(image, probability, (x + width, baseline), text, colour=_QUIET, align=1)


def _draw_note(image: NDArray[np.uint8], notes: list[str], top: int, text: int, style: Style) -> None:
    """The colours over the picture's whole width, 0 and 1 under their ends, and the note between these."""
    width = image.shape[1]
    image[top : top + _BAR_HEIGHT, _GAP : width - _GAP] = render.colour_bar(style, (width - 2 * _GAP, _BAR_HEIGHT))
    baseline = top + _BAR_HEIGHT + round(1.2 * text)
    lettering.draw(image, "0", (_GAP, baseline), text, colour=_INK)
    lettering.draw(image, "1", (width - _GAP, baseline), text, colour=_INK, align=1)
    for line, words in enumerate(notes):
        lettering.draw(image, words, (width // 2, baseline + round(1.4 * text * line)), text, colour=_INK, align=0.5)
