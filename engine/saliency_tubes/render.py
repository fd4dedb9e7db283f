"""Tubes drawn on frames. Pure functions: arrays in, new arrays out."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ._opencv import cv2
from .choices import Colormap, StyleName
from .preprocess import CropBox
from .style import Style

REFERENCE = Style.reference()

_ALPHA_LOW, _ALPHA_HIGH = 20, 255
_OPENCV_COLORMAPS = {
    Colormap.JET: cv2.COLORMAP_JET,
    Colormap.TURBO: cv2.COLORMAP_TURBO,
    Colormap.VIRIDIS: cv2.COLORMAP_VIRIDIS,
    Colormap.INFERNO: cv2.COLORMAP_INFERNO,
    Colormap.MAGMA: cv2.COLORMAP_MAGMA,
    Colormap.PLASMA: cv2.COLORMAP_PLASMA,
    Colormap.CIVIDIS: cv2.COLORMAP_CIVIDIS,
    Colormap.PARULA: cv2.COLORMAP_PARULA,
    Colormap.HOT: cv2.COLORMAP_HOT,
    Colormap.BONE: cv2.COLORMAP_BONE,
}
# What the network never saw: grey, and dark enough that nobody takes it for a part of the explanation.
_UNSEEN_BRIGHTNESS = 0.4
_BAND_PIXELS = 1 << 17
_OUTLINE = 230
_OUTLINE_PER_SIDE = 1 / 540  # of the frame's shorter side: two pixels of 1080


@cache
def colormap_table(name: Colormap | str) -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB, read-only: a colour map's colours from 0 to 1, OpenCV's."""
    levels = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    colormap = Colormap(name)
    if colormap is Colormap.GRAY:
        bgr = np.repeat(levels, 3, axis=1)
    else:
        bgr = np.asarray(cv2.applyColorMap(levels, _OPENCV_COLORMAPS[colormap]), dtype=np.uint8).reshape(256, 3)
    table = np.ascontiguousarray(bgr[:, ::-1])
    table.flags.writeable = False
    return table


def shown(raw: NDArray[np.float32], low: float, high: float, style: Style = REFERENCE) -> NDArray[np.float32]:
    """What is drawn for raw map values.

    Args:
        raw: float32 of any shape, in units of the logit.
        low: the smallest raw value of the whole volume.
        high: the largest.
        style: ``reference`` gives ``(raw - low) / (high - low)``, ``keras`` gives ``raw / high``.

    Returns:
        float32 in [0, 1], of the same shape; zeros where there is nothing to divide by: a constant map, or, in the
        Keras style, one that is nowhere positive.
    """
    bottom, top = style.ends(low, high)
    if not top > bottom:
        return np.zeros_like(raw, dtype=np.float32)
    values = raw - np.float32(bottom)
    values /= np.float32(top) - np.float32(bottom)
    return np.clip(values, 0, 1, out=values)


def heatmap(values: NDArray[np.float32], frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames under the tube's colours, as the published reference draws them.

    Args:
        values: (T, H, W) float32 in [0, 1], a tube.
        frames: (T, H, W, 3) uint8 RGB.

    Returns:
        (T, H, W, 3) uint8 RGB, ``JET(uint8(255 * tube)) // 2 + frame // 2``: blue where the tube is 0, red where it
        is 1.
    """
    return blend(frames, values)


def blend(frames: NDArray[np.uint8], values: NDArray[np.float32], style: Style = REFERENCE) -> NDArray[np.uint8]:
    """Frames under a tube's colours.

    Colours have 256 levels, ``uint8(255 * value)``, and the threshold holds among these. In the reference style both
    terms of the sum are rounded down, as the reference does; in the Keras style the sum is rounded to the nearest.

    Args:
        frames: (H, W, 3) or (T, H, W, 3) uint8 RGB.
        values: (H, W) or (T, H, W) float32 in [0, 1].
        style: the colours.

    Returns:
        uint8 RGB of the shape of `frames`.
    """
    width = values.shape[-1]
    image = np.empty_like(frames, order="C")
    _blend_into(
        image.reshape(-1, width, 3),
        np.ascontiguousarray(frames).reshape(-1, width, 3),
        values.reshape(-1, width),
        style,
    )
    return image


def place(
    frame: NDArray[np.uint8], values: NDArray[np.float32] | None, box: CropBox, style: Style = REFERENCE
) -> NDArray[np.uint8]:
    """A whole source frame with the tube where the network's crop was; what the network never saw is dark and grey.

    Args:
        frame: (H, W, 3) uint8 RGB.
        values: float32 in [0, 1] of the size that `box_pixels` gives the crop; None where the network saw nothing of
            this frame.
        box: where the crop lies. A thin line runs around it, outside, where it is not the whole frame.
        style: the colours.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = np.empty_like(frame, order="C")
    if values is None:
        _mark_unseen(image, frame)
        return image
    height, width = frame.shape[:2]
    top, bottom, left, right = box_pixels(box, (height, width))
    for rows, columns in (
        (slice(0, top), slice(0, width)),
        (slice(bottom, height), slice(0, width)),
        (slice(top, bottom), slice(0, left)),
        (slice(top, bottom), slice(right, width)),
    ):
        _mark_unseen(image[rows, columns], frame[rows, columns])
    line = max(1, round(min(height, width) * _OUTLINE_PER_SIDE))
    outline = image[max(0, top - line) : bottom + line, max(0, left - line) : right + line]
    for edge in (outline[:line], outline[-line:], outline[:, :line], outline[:, -line:]):
        edge[...] = _OUTLINE  # what of it lies inside the crop is drawn over
    _blend_into(image[top:bottom, left:right], frame[top:bottom, left:right], values, style)
    return image


def box_pixels(box: CropBox, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """``(top, bottom, left, right)`` of a crop in a frame of this size, in whole pixels; at least one each way."""
    height, width = size_hw
    return *_span(box.top, box.bottom, height), *_span(box.left, box.right, width)


def colour_bar(style: Style, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB: a style's colours from 0 on the left to 1 on the right; white where frames stay bare."""
    width, height = size_wh
    levels = np.linspace(0, 255, width).round().astype(np.intp)
    row = colormap_table(style.colormap)[levels]
    row[levels < _lowest_level(style)] = 255
    return np.broadcast_to(row, (height, width, 3)).copy()


def focusmap(values: NDArray[np.float32], frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames that are opaque where the tube is high: each frame of the tube stretched to an alpha of 20..255.

    The stretch is every frame's own, so alphas of two frames cannot be compared; the tube's values can.

    Args:
        values: (T, H, W) float32 in [0, 1], a tube.
        frames: (T, H, W, 3) uint8 RGB.

    Returns:
        (T, H, W, 4) uint8 RGBA, alpha not premultiplied.
    """
    T, H, W = values.shape
    opaque = cv2.cvtColor(np.ascontiguousarray(frames).reshape(T * H, W, 3), cv2.COLOR_RGB2RGBA)
    image = np.asarray(opaque, dtype=np.uint8).reshape(T, H, W, 4)
    for tube_frame, out in zip(values, image, strict=True):
        alpha = np.empty(tube_frame.shape, dtype=np.uint8)
        cv2.normalize(tube_frame, alpha, _ALPHA_LOW, _ALPHA_HIGH, cv2.NORM_MINMAX, cv2.CV_8U)
        cv2.insertChannel(alpha, out, 3)
    return image


@cache
def _colours(style: Style) -> NDArray[np.uint8]:
    """(256, 1, 3) uint8 RGB: what to add to the faded frame at each level."""
    table = colormap_table(style.colormap).reshape(256, 1, 3).copy()
    if style.name is StyleName.KERAS:  # weighted later: only the sum is rounded
        table[: _lowest_level(style)] = 0
        return table
    return _rounded_down(table, style.opacity)


def _lowest_level(style: Style) -> int:
    """The first of the 256 levels that gets a colour."""
    return math.ceil(255 * style.threshold - 1e-9)


def _rounded_down(levels: NDArray[np.uint8], weight: float) -> NDArray[np.uint8]:
    # 10 * 0.7 is a hair more or less than 7
    return np.asarray(np.floor(levels * weight + 1e-9), dtype=np.uint8)


def _blend_into(out: NDArray[np.uint8], frame: NDArray[np.uint8], values: NDArray[np.float32], style: Style) -> None:
    """Blend (H, W, 3) images; views of larger ones are welcome, as OpenCV writes straight into `out`.

    It goes band by band, so that what lies between input and output stays in the processor's cache.
    """
    step = max(1, _BAND_PIXELS // out.shape[1])
    for start in range(0, out.shape[0], step):
        rows = slice(start, start + step)
        _blend_band(out[rows], frame[rows], values[rows], style)


def _blend_band(out: NDArray[np.uint8], frame: NDArray[np.uint8], values: NDArray[np.float32], style: Style) -> None:
    levels = np.empty(values.shape, dtype=np.uint8)
    np.multiply(values, np.float32(255), out=levels, casting="unsafe")
    colours = cv2.applyColorMap(levels, _colours(style))
    if style.name is StyleName.KERAS:
        cv2.addWeighted(colours, style.opacity, frame, 1, 0, dst=out)
        return
    cv2.add(colours, _faded(frame, 1 - style.opacity), dst=out)
    lowest = _lowest_level(style)
    if lowest > 0:
        _, bare = cv2.threshold(levels, lowest - 1, 255, cv2.THRESH_BINARY_INV)
        cv2.copyTo(frame, bare, out)


def _faded(frame: NDArray[np.uint8], weight: float) -> NDArray[np.uint8]:
    if weight == 0.5:  # a sixth of the time
        return np.asarray(frame >> 1, dtype=np.uint8)
    return np.asarray(cv2.LUT(frame, _rounded_down(np.arange(256, dtype=np.uint8), weight)), dtype=np.uint8)


def _mark_unseen(out: NDArray[np.uint8], frame: NDArray[np.uint8]) -> None:
    if frame.size:
        dark = cv2.convertScaleAbs(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), alpha=_UNSEEN_BRIGHTNESS)
        cv2.cvtColor(dark, cv2.COLOR_GRAY2RGB, dst=out)


def _span(start: float, stop: float, size: int) -> tuple[int, int]:
    first = min(max(0, round(start * size)), size - 1)
    return first, min(max(round(stop * size), first + 1), size)
