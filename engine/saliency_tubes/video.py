"""Opening a clip and reading single frames of it: a video or GIF, a folder of frames, or an array.

Every kind of clip has a `name`, a `length` in frames, `size_wh` (width and height of each `Frame.rgb`: upright, with
square pixels), `notes` about anything odd in it, and ``read(indices)``, which decodes lazily and yields `Frame`s in
order.
"""

import math
import re
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .cores import usable_cores
from .decoding import (
    MAX_PIXELS,
    Decoding,
    View,
    announced_frames,
    check_pixels,
    decode,
    open_container,
    packets,
    reason,
    video_stream,
)
from .errors import SourceError
from .image_file import announced_wh, read_image

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_DECODERS = min(4, usable_cores())


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame.

    Attributes:
        index: its place in the clip, from 0.
        time: seconds after the clip's first frame, strictly increasing; NaN where the source has no times and no rate.
        rgb: (h, w, 3) uint8 RGB, upright (rotation metadata applied), with square pixels.
    """

    index: int
    time: float
    rgb: NDArray[np.uint8]


class VideoFile:
    """A video or GIF, decoded with PyAV.

    `length` starts as what the container announces. Reading to the end shows how many frames really decode, and
    corrects `length` where the two differ: indices chosen from the wrong length then have to be chosen again.

    Raises:
        SourceError: it cannot be opened, holds no moving pictures, none of them decodes, or they are absurdly large.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.name = clip_name(path)
        self.path = path
        self.notes: tuple[str, ...] = ()
        self._threads = threads
        with open_container(path) as container:
            stream = video_stream(container, path)
            first, self.length = _survey(container, stream)
            if self.length < 1:
                raise SourceError(f"{path} holds no frames: expected a video with at least one. Is the file complete?")
            if first is None:
                raise self._nothing_decodes()
            self._view = View.of(first, stream)
        self.size_wh = self._view.size_wh
        self._state = _state(path)
        check_pixels(*self.size_wh, str(path))

    def read(self, indices: Sequence[int]) -> Generator[Frame]:
        """Yield the frames at `indices` (ascending, repeats allowed), decoding the video once.

        Only frames that are asked for are converted to RGB. After the last of them the video is decoded to its end,
        so that `length` and `notes` are right once the iterator is exhausted; where that does not matter, leave early.

        Raises:
            SourceError: nothing in the file can be decoded, a frame cannot be converted, or the file has changed
                since it was opened.
        """
        if _state(self.path) not in (None, self._state):  # one that is gone is told below
            raise SourceError(f"{self.path} has changed since it was opened: wait until it is whole, and start again")
        wanted = iter(indices)
        target = next(wanted, None)
        time = math.nan
        with open_container(self.path) as container:
            stream = video_stream(container, self.path)
            stream.codec_context.thread_count = self._threads
            decoding = Decoding(container, stream)
            for index, (time, picture) in enumerate(decoding.pictures()):
                while target == index:
                    yield Frame(index, time, self._rgb(index, picture))
                    target = next(wanted, None)
            if decoding.decoded == 0:
                raise self._nothing_decodes()
            self.length = decoding.decoded
            self.notes = decoding.notes(time)

    def _rgb(self, index: int, picture: VideoFrame) -> NDArray[np.uint8]:
        try:
            return self._view.rgb(picture)
        except (av.error.FFmpegError, ValueError) as error:
            raise SourceError(
                f"frame {index} of {self.path} cannot be converted from {picture.format.name} to RGB "
                f"({reason(error)}): convert the video to H.264 with ffmpeg"
            ) from error

    def _nothing_decodes(self) -> SourceError:
        return SourceError(
            f"no frame of {self.path} can be decoded: the file is damaged, cut off near its beginning, or its frames "
            f"have more than {MAX_PIXELS // 1_000_000} million pixels. Copy it again from its source, or convert it "
            "with ffmpeg"
        )


def _state(path: Path) -> tuple[int, int] | None:
    """What tells whether a file is still the same: its size and when it was written; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


class FrameFolder:
    """A folder of images in natural order (frame2 before frame10); files that are not images are ignored.

    `files` are its frames.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.name = clip_name(path)
        self.path = path
        self.notes: tuple[str, ...] = ()
        self._threads = threads or _DECODERS
        try:
            files = [f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
        except OSError as error:
            raise SourceError(f"the folder {path} cannot be read ({error.strerror}): check its permissions") from error
        self.files = sorted((f for f in files if f.is_file()), key=lambda f: natural_key(f.name))
        self.length = len(self.files)
        if not self.files:
            raise SourceError(
                f"the folder {path} holds no images: expected frames in one of {' '.join(sorted(IMAGE_SUFFIXES))}. "
                "For a folder of clips: `tubes batch`"
            )
        self._check_sizes()
        self.size_wh = _shown_wh(read_image(self.files[0]))

    def read(self, indices: Sequence[int]) -> Generator[Frame]:
        """Yield the frames at `indices`; their times are unknown (NaN).

        Raises:
            SourceError: an image cannot be decoded.
        """
        with ThreadPoolExecutor(self._threads) as pool:  # OpenCV decodes without the interpreter's lock
            ahead = deque[Future[NDArray[np.uint8]]]()
            try:
                for position, index in enumerate(indices):
                    for later in indices[position + len(ahead) : position + self._threads + 1]:
                        ahead.append(pool.submit(self._read, self.files[later]))
                    yield Frame(index, math.nan, ahead.popleft().result())
            finally:
                for image in ahead:
                    image.cancel()

    def _check_sizes(self) -> None:
        """Compare the sizes of all frames, from their headers alone."""
        first = announced_wh(self.files[0])
        check_pixels(*first, str(self.files[0]))
        for file in self.files[1:]:
            size = announced_wh(file)
            if size != first:
                raise self._differs(file, size, first)

    def _read(self, file: Path) -> NDArray[np.uint8]:
        rgb = read_image(file)
        if _shown_wh(rgb) != self.size_wh:  # a header does not tell how Exif turns its picture
            raise self._differs(file, _shown_wh(rgb), self.size_wh)
        return rgb

    def _differs(self, file: Path, size: tuple[int, int], first: tuple[int, int]) -> SourceError:
        return SourceError(
            f"the frames in {self.path} have different sizes: {self.files[0].name} is {first[0]}x{first[1]}, "
            f"{file.name} is {size[0]}x{size[1]}. A clip needs frames of one size: put each clip's frames in "
            "a folder of their own"
        )


class FrameArray:
    """A clip that is already in memory: (T, H, W, 3) uint8 RGB."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
            raise SourceError(
                f"expected a clip as a uint8 RGB array of shape (T, H, W, 3) with no empty axis, "
                f"got {frames.dtype} {frames.shape}"
            )
        self.name = clip_name(frames)
        self.path = None
        self.notes: tuple[str, ...] = ()
        self.length = len(frames)
        self.size_wh = _shown_wh(frames[0])
        self._frames = frames

    def read(self, indices: Sequence[int]) -> Generator[Frame]:
        """Yield the frames at `indices`; their times are unknown (NaN)."""
        for index in indices:
            yield Frame(index, math.nan, self._frames[index])


Clip = VideoFile | FrameFolder | FrameArray


def open_clip(source: str | Path | NDArray[np.uint8] | Clip, threads: int = 0) -> Clip:
    """Open a video or GIF file, a folder of frames, or a (T, H, W, 3) uint8 RGB array; an open clip stays what it is.

    Args:
        source: the clip.
        threads: how many decode it; 0 for what is quickest where nothing else runs.

    Raises:
        SourceError: it does not exist, or is none of these.
    """
    if isinstance(source, Clip):
        return source
    if isinstance(source, np.ndarray):
        return FrameArray(source)
    path = Path(source)
    try:
        if path.is_dir():
            return FrameFolder(path, threads)
        if path.is_file():
            return VideoFile(path, threads)
    except OSError as error:  # a name too long, or a folder that may not be entered
        raise SourceError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error
    what = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise SourceError(f"{path} {what}: expected a video file, a GIF, or a folder of frames")


def clip_name(source: str | Path | NDArray[np.uint8] | Clip) -> str:
    """What a clip is called: its folder's name, its file's without the suffix, or ``array``."""
    if isinstance(source, Clip):
        return source.name
    if isinstance(source, np.ndarray):
        return "array"
    path = Path(source)
    return path.resolve().name if path.is_dir() else path.stem


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key in which runs of digits count as numbers: frame2 < frame10."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name.casefold())]


def _survey(container: "av.container.InputContainer", stream: VideoStream) -> tuple[VideoFrame | None, int]:
    """A stream's first picture, and how many it announces; where it does not say, its packets are counted."""
    announced = announced_frames(container, stream)
    first, counted = None, 0
    for packet in packets(container, stream):
        counted += packet.size > 0 and not packet.is_discard
        if first is None:
            first = next(iter(decode(packet) or ()), None)
        elif announced:
            break
    return first, announced or counted


def _shown_wh(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    return rgb.shape[1], rgb.shape[0]
