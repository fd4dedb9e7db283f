"""Tubes on the clip's own frames: which part of which map belongs to a frame, brought to its size and drawn."""

import math
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import render
from ._opencv import cv2
from .explanation import Explanation
from .style import Style
from .video import Frame, VideoFile

UNKNOWN_SECONDS = 1 / 8  # a frame, where frames have no times
_ANY = 1 << 30


class Painter:
    """Draws the tubes of one explanation on frames of any size."""

    def __init__(self, explanation: Explanation, style: Style) -> None:
        self.explanation, self.style = explanation, style
        self._first, self._last = explanation.span
        self.box = explanation.box

    @property
    def sound(self) -> Path | None:
        """The file that the clip's sound is in; None for a folder or an array."""
        source = self.explanation.source
        return source.path if isinstance(source, VideoFile) else None

    @cached_property
    def tracks(self) -> list[NDArray[np.float32]]:
        """For each label, the (n, h, w) float32 raw map of every frame that was explained, first to last."""
        return [tube.track(self.explanation.frame_indices) for tube in self.explanation.tubes]

    @cached_property
    def common_scale(self) -> tuple[float, float]:
        """The lowest and the highest value of all tubes, in units of the logit."""
        tubes = self.explanation.tubes
        return min(tube.low for tube in tubes), max(tube.high for tube in tubes)

    def raw(self, position: int, index: int) -> NDArray[np.float32] | None:
        """The (h, w) float32 raw map of one label at one frame of the clip; None where the network saw none of it."""
        if not self._first <= index <= self._last:
            return None
        raw: NDArray[np.float32] = self.tracks[position][index - self._first]
        return raw

    def values(
        self, position: int, index: int, size_hw: tuple[int, int], *, common: bool = False
    ) -> NDArray[np.float32] | None:
        """One label's tube at one frame of the clip, as it is shown.

        Args:
            position: which of the explanation's tubes.
            index: the frame's place in the clip.
            size_hw: height and width of the crop.
            common: on the scale of all tubes rather than on the tube's own.

        Returns:
            (H, W) float32 in [0, 1]; None where the network saw nothing of the frame.
        """
        raw = self.raw(position, index)
        if raw is None:
            return None
        tube = self.explanation.tubes[position]
        low, high = self.common_scale if common else (tube.low, tube.high)
        return render.shown(tube.at_size(raw[None], size_hw)[0], low, high, self.style)

    def volume(self, position: int) -> NDArray[np.float32]:
        """(T, H, W) float32 in [0, 1]: the whole tube of one label, as it is shown on the crops of one window."""
        tube = self.explanation.tubes[position]
        if self.style.ends(tube.low, tube.high) == (tube.low, tube.high):
            return tube.values
        raw = tube.values * np.float32(tube.high - tube.low) + np.float32(tube.low)
        return render.shown(raw, tube.low, tube.high, self.style)

    def paint(self, rgb: NDArray[np.uint8], index: int, position: int, *, common: bool = False) -> NDArray[np.uint8]:
        """A frame under the colours of a label's tube, with what the network never saw of it marked.

        Args:
            rgb: (h, w, 3) uint8 RGB, frame `index` at any size.
            index: its place in the clip.
            position: which of the explanation's tubes.
            common: on the scale of all tubes rather than on the tube's own.
        """
        top, bottom, left, right = render.box_pixels(self.box, (rgb.shape[0], rgb.shape[1]))
        values = self.values(position, index, (bottom - top, right - left), common=common)
        return render.place(rgb, values, self.box, self.style)


class Scene:
    """One decoded frame, at its own size and smaller, bare and painted: each made once, when first asked for.

    Attributes:
        index: the frame's place in the clip.
        rgb: (h, w, 3) uint8 RGB.
        time: seconds after the clip's first frame; NaN where the source has no times.
        seconds: the same, counted at a leisurely pace where the source has none.
    """

    def __init__(self, painter: Painter, frame: Frame) -> None:
        self.index, self.rgb, self.time = frame.index, frame.rgb, frame.time
        self.seconds = frame.time if math.isfinite(frame.time) else frame.index * UNKNOWN_SECONDS
        self._painter = painter
        self._bare: dict[int, NDArray[np.uint8]] = {}
        self._painted: dict[tuple[int, int, bool], NDArray[np.uint8]] = {}

    def bare(self, longest: int = _ANY) -> NDArray[np.uint8]:
        """The frame, (h, w, 3) uint8 RGB, its longer side `longest` pixels at most."""
        if longest not in self._bare:
            self._bare[longest] = shrunk(self.rgb, longest)
        return self._bare[longest]

    def painted(self, position: int, longest: int = _ANY, *, common: bool = False) -> NDArray[np.uint8]:
        """That frame under a label's tube."""
        key = position, longest, common
        if key not in self._painted:
            self._painted[key] = self._painter.paint(self.bare(longest), self.index, position, common=common)
        return self._painted[key]


def shrunk(rgb: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """An (h, w, 3) uint8 picture with its aspect, its longer side `longest` pixels at most."""
    width, height = fitted_wh((rgb.shape[1], rgb.shape[0]), longest)
    if (height, width) == rgb.shape[:2]:
        return rgb
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def fitted_wh(size_wh: tuple[int, int], longest: int) -> tuple[int, int]:
    """A size with the same aspect, its longer side `longest` pixels at most."""
    scale = min(1.0, longest / max(size_wh))
    return max(1, round(size_wh[0] * scale)), max(1, round(size_wh[1] * scale))
