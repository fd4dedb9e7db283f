"""Where and when the evidence is, as a tube has it: its frames, at the network's resolution."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..choices import Fit
from ..errors import SourceError
from ..image_file import is_partly_transparent, read_image
from ..preprocess import crop_mask
from ..spec import Preprocessing
from ..video import IMAGE_SUFFIXES, FrameFolder, open_clip
from .cases import Box, Evidence
from .lists import read_boxes

_BRIGHT = 127  # of 255; what is above is evidence
_BESIDE = 1.0  # pixels that a box may reach beyond the frame: detectors round


@dataclass(frozen=True, eq=False)
class Frames:
    """Which frames of a clip a tube shows, and how they were brought to the network.

    Attributes:
        indices: (T,) int64, ascending; a short clip repeats some.
        length: how many frames the clip has.
        size_wh: their width and height.
        preprocessing: the model's own.
        fit: how they were fitted.
    """

    indices: NDArray[np.int64]
    length: int
    size_wh: tuple[int, int]
    preprocessing: Preprocessing
    fit: Fit


def where(evidence: Evidence, frames: Frames) -> NDArray[np.bool_] | None:
    """The evidence in each of these frames, (T, H, W) bool as the network sees it; None where that is not known.

    Raises:
        SourceError: it cannot be read, is transparent in places, or is of another clip: the number or the size of its
            frames differ.
    """
    if evidence.mask is not None and evidence.boxes is not None:
        raise SourceError("there are a mask and boxes: expected one of them; leave the other out")
    if evidence.boxes is not None:
        boxes = read_boxes(evidence.boxes) if isinstance(evidence.boxes, Path) else evidence.boxes
        masks = _from_boxes(boxes, frames)
    elif isinstance(evidence.mask, Path):
        one = evidence.mask.suffix.lower() in IMAGE_SUFFIXES and evidence.mask.is_file()
        masks = _from_picture(evidence.mask, frames) if one else _from_clip(evidence.mask, frames)
    elif evidence.mask is not None:
        masks = _from_array(evidence.mask, frames)
    else:
        return None
    # One at a time: at the clip's own size, all of them may be large.
    seen = [crop_mask(mask, frames.preprocessing, frames.fit) for mask in masks]
    if len(seen) != len(frames.indices):
        raise SourceError(
            f"the mask {evidence.mask} gives {_counted(len(seen))} of the {len(frames.indices)} that the network sees: "
            "is something changing it?"
        )
    return np.stack(seen)


def when(evidence: Evidence, frames: Frames) -> NDArray[np.bool_] | None:
    """Whether the evidence happens in each of these frames, (T,) bool; None where that is not known.

    Raises:
        SourceError: it is of another clip, or its last frame comes before its first.
    """
    if evidence.moving is None:
        return None
    if isinstance(evidence.moving, tuple):
        first, last = evidence.moving
        if not 0 <= first <= last < frames.length:
            raise SourceError(
                f"the evidence is said to happen in frames {first} to {last}: expected two frames from 0 to "
                f"{frames.length - 1}, the clip's last, the first before the last"
            )
        return np.asarray((first <= frames.indices) & (frames.indices <= last))
    moving = np.asarray(evidence.moving, dtype=np.bool_)
    if moving.shape != (frames.length,):
        raise SourceError(
            f"`moving` has the shape {moving.shape}: expected ({frames.length},), a value for each frame of the clip"
        )
    return np.asarray(moving[frames.indices])


def _from_array(mask: NDArray[np.bool_], frames: Frames) -> Iterator[NDArray[np.bool_]]:
    mask = np.asarray(mask)
    width, height = frames.size_wh
    if mask.dtype != np.bool_ or mask.shape not in ((height, width), (frames.length, height, width)):
        raise SourceError(
            f"the mask is {mask.dtype} {mask.shape}: expected bool ({frames.length}, {height}, {width}), as the clip "
            f"has it, or ({height}, {width}) for all frames alike"
        )
    for index in frames.indices:
        yield np.ascontiguousarray(mask if mask.ndim == 2 else mask[index])


def _from_picture(file: Path, frames: Frames) -> Iterator[NDArray[np.bool_]]:
    """A picture that holds for all frames."""
    picture = _brightest(read_image(file))
    _check_opaque(file)
    _check_size(file, (picture.shape[1], picture.shape[0]), frames)
    _check_brightness(file, int(picture.max()))
    yield from [picture > _BRIGHT] * len(frames.indices)


def _from_clip(file: Path, frames: Frames) -> Iterator[NDArray[np.bool_]]:
    """A clip with a frame for each."""
    clip = open_clip(file)
    _check_size(file, clip.size_wh, frames)
    indices = frames.indices.tolist()
    if isinstance(clip, FrameFolder):
        indices = [index for index in indices if index < clip.length]
        for index in dict.fromkeys(indices):
            _check_opaque(clip.files[index])
    highest = 0
    with closing(clip.read(indices)) as read:  # a video may hold more frames than it announces
        for frame in read:
            picture = _brightest(frame.rgb)
            highest = max(highest, int(picture.max()))
            yield picture > _BRIGHT
    if clip.length != frames.length:  # a video's own is known when it has been read
        raise SourceError(
            f"the mask {file} has {_counted(clip.length)}, and its clip has {_counted(frames.length)}: expected as "
            "many, or one picture for all"
        )
    _check_brightness(file, highest)


def _brightest(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) uint8, the brightest of each pixel's colours: masks are painted in any."""
    brightest: NDArray[np.uint8] = rgb.max(axis=2)
    return brightest


def _check_opaque(file: Path) -> None:
    """What is under transparent pixels, nobody has seen."""
    if is_partly_transparent(file):
        raise SourceError(
            f"the mask {file} is transparent in places: save it without transparency, white where the evidence is, on "
            "black"
        )


def _check_size(file: Path, size_wh: tuple[int, int], frames: Frames) -> None:
    if size_wh != frames.size_wh:
        (width, height), (right_width, right_height) = size_wh, frames.size_wh
        raise SourceError(
            f"the mask {file} has frames of {width}x{height} pixels: expected {right_width}x{right_height}, as its "
            "clip has"
        )


def _check_brightness(file: Path, highest: int) -> None:
    """A mask may be dark, but not grey: then it means something else."""
    if 0 < highest <= _BRIGHT:
        raise SourceError(
            f"the mask {file} is nowhere brighter than {highest}: expected evidence above {_BRIGHT} of 255, and the "
            "rest below. Does it hold class numbers?"
        )


def _counted(frames: int) -> str:
    return "one frame" if frames == 1 else f"{frames} frames"


def _from_boxes(boxes: Sequence[Box], frames: Frames) -> Iterator[NDArray[np.bool_]]:
    """A pixel is in a box if its centre is."""
    width, height = frames.size_wh
    of_frame: dict[int, list[Box]] = defaultdict(list)
    for box in boxes:
        _check_box(box, frames)
        of_frame[box.frame].append(box)
    for index in frames.indices.tolist():
        mask = np.zeros((height, width), dtype=np.bool_)
        for box in of_frame[index]:
            mask[_first(box.top) : _first(box.bottom), _first(box.left) : _first(box.right)] = True
        yield mask


def _check_box(box: Box, frames: Frames) -> None:
    if not 0 <= box.frame < frames.length:
        raise SourceError(
            f"there is a box for frame {box.frame}: expected frames from 0 to {frames.length - 1}, the clip's last"
        )
    width, height = frames.size_wh
    across = -_BESIDE <= box.left < box.right <= width + _BESIDE
    if not (across and -_BESIDE <= box.top < box.bottom <= height + _BESIDE):
        raise SourceError(
            f"the box of frame {box.frame} has left {box.left:g}, top {box.top:g}, right {box.right:g} and bottom "
            f"{box.bottom:g}: expected left below right and top below bottom, in pixels of frames of {width}x{height}"
        )


def _first(edge: float) -> int:
    """The first pixel whose centre lies beyond an edge."""
    return max(0, math.ceil(edge - 0.5))
