"""Text on images: names from anywhere, measured, shortened and drawn with the TrueType fonts inside OpenCV.

OpenCV's "sans" hands what it lacks, such as Chinese, to its "uni" by itself; what neither has becomes "?".
"""

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._opencv import cv2

INK = (28, 28, 30)
QUIET = (96, 96, 100)
PAPER = (255, 255, 255)
REGULAR, BOLD = 400, 650

_ELLIPSIS = "…"
_LONGEST = 500  # characters; more fit on no picture
_FAR = (0, 1 << 20)  # a line that does not wrap


def clean(text: str) -> str:
    """One line of `text` without what could harm a picture: control, bidi-override and other invisible characters.

    White space becomes single spaces, and what cannot be written, such as a file name's stray bytes, ``?``.
    """
    kept = []
    for character in text[: 4 * _LONGEST]:
        category = unicodedata.category(character)
        if character.isspace():
            kept.append(" ")
        elif category == "Cs":
            kept.append("?")
        elif category[0] != "C" and not "\ufe00" <= character <= "\ufe0f":  # nor what picks an emoji's looks
            kept.append(character)
    return " ".join("".join(kept).split())


def width_of(text: str, size: int, weight: int = REGULAR) -> int:
    """How many pixels wide cleaned `text` is at `size` pixels."""
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), size, weight, 0, _FAR)
    return int(left + width)


def shorten(text: str, room: int, size: int, weight: int = REGULAR) -> str:
    """Clean text that is at most `room` pixels wide: as much of its beginning as fits, and an ellipsis."""
    text = clean(text)
    if len(text) <= _LONGEST and width_of(text, size, weight) <= room:
        return text
    fits, too_long = 0, min(len(text), _LONGEST)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if width_of(text[:middle].rstrip() + _ELLIPSIS, size, weight) <= room:
            fits = middle
        else:
            too_long = middle
    short = text[:fits].rstrip() + _ELLIPSIS
    return short if width_of(short, size, weight) <= room else ""


def wrap(text: str, room: int, size: int, lines: int) -> list[str]:
    """Clean text in up to so many lines, broken between words; what is too much is left out of the last one."""
    words = clean(text).split()
    wrapped: list[str] = []
    while words and len(wrapped) < lines - 1:
        fits = 1
        while fits < len(words) and width_of(" ".join(words[: fits + 1]), size) <= room:
            fits += 1
        wrapped.append(shorten(" ".join(words[:fits]), room, size))
        words = words[fits:]
    return wrapped + ([shorten(" ".join(words), room, size)] if words else [])


def draw(
    image: NDArray[np.uint8],
    text: str,
    origin_xy: tuple[int, int],
    size: int,
    *,
    weight: int = REGULAR,
    colour: tuple[int, int, int] = INK,
    align: float = 0,
) -> None:
    """Write cleaned `text` on an (H, W, 3) uint8 RGB image, in place.

    Args:
        image: written on; what lies outside of it is cut off.
        text: what `clean` or `shorten` gave.
        origin_xy: a point on the baseline.
        size: in pixels: about the distance from the lowest to the highest stroke.
        weight: 400 is regular, 800 bold.
        colour: RGB.
        align: where along the text the point is: 0 at its left, 0.5 in its middle, 1 at its right.
    """
    x, y = origin_xy
    x -= round(align * width_of(text, size, weight))
    cv2.putText(image, _in_visual_order(text), (x, y), colour, _font(), size, weight, 0, _FAR)


def number(value: float) -> str:
    """A number in three digits, with a true minus sign instead of a hyphen."""
    return f"{value:.3g}".replace("-", "−")  # noqa: RUF001


def _font() -> Any:
    return cv2.FontFace("sans")  # a new one each time, 2 us: one that threads share mixes up their weights


def _in_visual_order(text: str) -> str:
    """Runs of right-to-left letters reversed, since OpenCV draws everything from left to right.

    It is not the whole of Unicode's algorithm, yet a Hebrew name can be read.
    """
    pieces: list[str] = []
    run: list[str] = []
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in ("R", "AL") or (run and direction in ("NSM", "WS")):
            run.append(character)
        else:
            pieces += [*_reversed(run), character]
            run = []
    return "".join([*pieces, *_reversed(run)])


def _reversed(run: list[str]) -> list[str]:
    trailing = []
    while run and run[-1] == " ":
        trailing.append(run.pop())
    return run[::-1] + trailing
