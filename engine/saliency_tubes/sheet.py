"""A contact sheet for a paper: frames, the same frames under the tube, times, and what the colours mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import lettering, render
from ._opencv import cv2
from .style import Style

MAX_COLUMNS = 8

_CELL_SIDE = 320  # pixels of a cell's longer side: 300 a inch where eight of them fill a page's width
_LONGEST_TIME = 1e7  # seconds: what is longer comes from a broken file
_NARROWEST_SHEET = 960  # room for title and colour bar over a single cell
_MARGIN, _GAP, _PAIR_GAP, _BAND_GAP = 32, 12, 6, 22
_TITLE, _TEXT = 44, 30
_BAR_WH = (320, 22)


@dataclass(frozen=True, eq=False)
class Cell:
    """One column of a contact sheet.

    Attributes:
        frame: (h, w, 3) uint8 RGB.
        overlay: (h, w, 3) uint8 RGB, the same frame under the tube.
        index: the frame's number in the clip.
        seconds: when it is shown; NaN where that is unknown.
    """

    frame: NDArray[np.uint8]
    overlay: NDArray[np.uint8]
    index: int
    seconds: float

    @property
    def caption(self) -> str:
        """``1.24 s``, or ``frame 17`` where the time is unknown."""
        known = abs(self.seconds) < _LONGEST_TIME  # NaN is not
        return f"{self.seconds:.2f} s" if known else f"frame {self.index}"


def contact_sheet(
    cells: Sequence[Cell], title: str, subtitle: str, *, low: float, high: float, style: Style = render.REFERENCE
) -> NDArray[np.uint8]:
    """Frames in a row, the same frames under the tube below them; bands of such rows where there are many.

    Args:
        cells: at least one, in the order of time; frames of one size.
        title: such as the label and its probability; what does not fit is left out.
        subtitle: such as the clip's and the model's name.
        low: the tube's smallest raw value, in units of the logit.
        high: its largest.
        style: how the overlays were drawn, for the colour bar.

    Returns:
        (H, W, 3) uint8 RGB on white: at most eight columns, frames 320 pixels long or high.
    """
    h, w = cells[0].frame.shape[:2]
    bands = math.ceil(len(cells) / MAX_COLUMNS)
    columns = math.ceil(len(cells) / bands)
    scale = _CELL_SIDE / max(h, w)
    picture_wh = max(1, round(w * scale)), max(1, round(h * scale))
    cell_width = max(picture_wh[0], *(lettering.width_of(cell.caption, _TEXT) for cell in cells))
    row_width = columns * (cell_width + _GAP) - _GAP
    band_height = 2 * picture_wh[1] + _PAIR_GAP + round(1.4 * _TEXT)
    head = _MARGIN + round(1.35 * _TITLE) + round(1.35 * _TEXT) + 20
    width = max(_NARROWEST_SHEET, row_width + 2 * _MARGIN)
    foot_top = head + bands * (band_height + _BAND_GAP)
    sheet = np.full((foot_top + _TEXT + _MARGIN, width, 3), lettering.PAPER, dtype=np.uint8)

    room = width - 2 * _MARGIN
    baseline = _MARGIN + _TITLE - 8
    title = lettering.shorten(title, room, _TITLE, lettering.BOLD)
    lettering.draw(sheet, title, (_MARGIN, baseline), _TITLE, weight=lettering.BOLD)
    subtitle = lettering.shorten(subtitle, room, _TEXT)
    lettering.draw(sheet, subtitle, (_MARGIN, baseline + round(1.45 * _TEXT)), _TEXT, colour=lettering.QUIET)
    for number, cell in enumerate(cells):
        band, column = divmod(number, columns)
        _draw_cell(
            sheet,
            cell,
            (_MARGIN + column * (cell_width + _GAP), head + band * (band_height + _BAND_GAP)),
            cell_width,
            picture_wh,
        )
    _draw_scale(sheet, (_MARGIN, foot_top + 4), *style.ends(low, high), style)
    return sheet


def _draw_scale(image: NDArray[np.uint8], corner_xy: tuple[int, int], bottom: float, top: float, style: Style) -> None:
    """A colour bar with 0 and 1 and the raw values that they stand for."""
    x, y = corner_xy
    width, height = _BAR_WH
    baseline = y + height - 1
    if not top > bottom:
        lettering.draw(image, "no colours: the map has nothing to show", (x, baseline), _TEXT)
        return
    start = f"0 = {lettering.number(bottom)}"
    lettering.draw(image, start, (x, baseline), _TEXT)
    x += lettering.width_of(start, _TEXT) + 14
    image[y - 1 : y + height + 1, x - 1 : x + width + 1] = lettering.QUIET
    image[y : y + height, x : x + width] = render.colour_bar(style, _BAR_WH)
    end = f"1 = {lettering.number(top)} logit units"
    lettering.draw(image, end, (x + width + 14, baseline), _TEXT)
    x += width + 14 + lettering.width_of(end, _TEXT) + 24
    meaning = lettering.shorten("the most evidence for this class in this clip", image.shape[1] - _MARGIN - x, _TEXT)
    lettering.draw(image, meaning, (x, baseline), _TEXT, colour=lettering.QUIET)


def _draw_cell(
    sheet: NDArray[np.uint8], cell: Cell, corner_xy: tuple[int, int], cell_width: int, picture_wh: tuple[int, int]
) -> None:
    x, y = corner_xy
    width, height = picture_wh
    left = x + (cell_width - width) // 2
    for picture in (cell.frame, cell.overlay):
        sheet[y : y + height, left : left + width] = _resized(picture, picture_wh)
        y += height + _PAIR_GAP
    lettering.draw(sheet, cell.caption, (x + cell_width // 2, y + _TEXT - 4), _TEXT, align=0.5)


def _resized(picture: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    shrinks = picture.shape[1] > size_wh[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size_wh, interpolation=way), dtype=np.uint8)
