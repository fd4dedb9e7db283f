"""Opening a clip and reading single frames of it: a video or GIF, a folder of frames, or an array.

Every kind of clip has a `name`, a `length` in frames, `notes` about anything odd in it, and ``read(indices)``, which
decodes lazily and yields `Frame`s in order.
"""

import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ._opencv import cv2
from .cores import usable_cores
from .errors import SourceError

_IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# What FFmpeg opens although it is no recording: text drawn as a picture, and lists that name other files.
_NOT_VIDEO_FORMATS = frozenset({"tty", "concat", "hls", "dash", "imf"})
# A file whose pictures end this much before the time it announces was cut short.
_SHORTFALL_SECONDS = 1.0
_SHORTFALL_SHARE = 0.1
_DECODERS = min(4, usable_cores())


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame.

    Attributes:
        index: its place in the clip, from 0.
        time: seconds after the clip's first frame; NaN where the source carries no times.
        rgb: (h, w, 3) uint8 RGB, upright (rotation metadata applied).
    """

    index: int
    time: float
    rgb: NDArray[np.uint8]


class VideoFile:
    """A video or GIF, decoded with PyAV.

    `length` starts as what the container announces. Reading to the end shows how many frames really decode, and
    corrects `length` where the two differ: indices chosen from the wrong length then have to be chosen again.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.name = clip_name(path)
        self.path = path
        self.notes: tuple[str, ...] = ()
        self._threads = threads
        with _open(path) as container:
            stream = _video_stream(container, path)
            self.length = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
        if self.length < 1:
            raise SourceError(f"{path} holds no frames: expected a video with at least one. Is the file complete?")

    def read(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the frames at `indices` (ascending, repeats allowed), decoding the video once.

        Only frames that are asked for are converted to RGB. After the last of them the video is decoded to its end,
        so that `length` and `notes` are right once the iterator is exhausted.

        Raises:
            SourceError: nothing in the file can be decoded.
        """
        wanted = iter(indices)
        target = next(wanted, None)
        decoded = damaged = 0
        start = last = math.nan
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            stream.codec_context.thread_count = self._threads
            announced = stream.frames
            duration = float(container.duration or 0) / av.time_base
            for picture in _decode(container, stream):
                damaged += picture.is_corrupt
                last = _seconds(picture, stream, decoded)
                start = last if decoded == 0 else start
                while target == decoded:
                    yield Frame(decoded, last - start, _upright_rgb(picture))
                    target = next(wanted, None)
                decoded += 1
        if decoded == 0:
            raise SourceError(
                f"no frame of {self.path} can be decoded: the file is damaged or cut off near its beginning. "
                "Copy it again from its source, or convert it with ffmpeg"
            )
        self.length = decoded
        self.notes = _notes(decoded, damaged, announced, last - start, duration)


class FrameFolder:
    """A folder of images in natural order (frame2 before frame10); files that are not images are ignored."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.name = clip_name(path)
        self.path = path
        self.notes: tuple[str, ...] = ()
        self._threads = threads or _DECODERS
        try:
            files = [f for f in path.iterdir() if f.suffix.lower() in _IMAGE_SUFFIXES and not f.name.startswith(".")]
        except OSError as error:
            raise SourceError(f"the folder {path} cannot be read ({error.strerror}): check its permissions") from error
        self._files = sorted((f for f in files if f.is_file()), key=lambda f: natural_key(f.name))
        self.length = len(self._files)
        if not self._files:
            raise SourceError(
                f"the folder {path} holds no images: expected frames in one of {' '.join(sorted(_IMAGE_SUFFIXES))}. "
                "For many clips, run the command once for each"
            )
        self._check_sizes()

    def read(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the frames at `indices`; their times are unknown (NaN).

        Raises:
            SourceError: an image cannot be decoded.
        """
        with ThreadPoolExecutor(self._threads) as pool:  # OpenCV decodes without the interpreter's lock
            ahead = deque[Future[NDArray[np.uint8]]]()
            try:
                for position, index in enumerate(indices):
                    for later in indices[position + len(ahead) : position + self._threads + 1]:
                        ahead.append(pool.submit(_read_image, self._files[later]))
                    yield Frame(index, math.nan, ahead.popleft().result())
            finally:
                for image in ahead:
                    image.cancel()

    def _check_sizes(self) -> None:
        """Compare the sizes of all frames, from their headers alone."""
        first = _size_wh(self._files[0])
        for file in self._files[1:]:
            size = _size_wh(file)
            if size != first:
                raise SourceError(
                    f"the frames in {self.path} have different sizes: {self._files[0].name} is {first[0]}x{first[1]}, "
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
        self._frames = frames

    def read(self, indices: Sequence[int]) -> Iterator[Frame]:
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


def _open(path: Path) -> "av.container.InputContainer":
    try:
        # The "file:" keeps FFmpeg from taking a file name such as "concat:a" for a protocol of its own.
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be opened as a video ({_reason(error)}): expected a complete video file or GIF, "
            "or a folder of frames"
        ) from error
    if _NOT_VIDEO_FORMATS.intersection(container.format.name.split(",")):
        kind = container.format.long_name
        container.close()
        raise SourceError(f"{path} is not a video ({kind}): expected a video file, a GIF, or a folder of frames")
    return container


def _video_stream(container: "av.container.InputContainer", path: Path) -> VideoStream:
    if not container.streams.video:
        raise SourceError(f"{path} holds no video, only {container.format.long_name} without pictures")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _decode(container: "av.container.InputContainer", stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode everything that can be decoded: damaged packets are passed over, as players do."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from (picture for picture in pictures if isinstance(picture, VideoFrame))


def _seconds(picture: VideoFrame, stream: VideoStream, index: int) -> float:
    if picture.time is not None:
        return picture.time
    return index / float(stream.average_rate) if stream.average_rate else math.nan


def _upright_rgb(picture: VideoFrame) -> NDArray[np.uint8]:
    rgb = picture.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    turns = round(picture.rotation / 90) % 4  # both count counter-clockwise
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _notes(decoded: int, damaged: int, announced: int, seconds: float, duration: float) -> tuple[str, ...]:
    notes = []
    if decoded < announced:
        notes.append(f"the video is damaged or cut short: it announces {announced} frames, {decoded} could be decoded")
    elif duration - seconds > max(_SHORTFALL_SECONDS, _SHORTFALL_SHARE * duration):
        notes.append(
            f"the video is damaged or cut short: it announces {duration:.1f} s, and its {decoded} frames end "
            f"after {seconds:.1f} s"
        )
    if damaged:
        notes.append(f"{damaged} of {decoded} frames are damaged and were decoded as well as they could be")
    return tuple(notes)


def _size_wh(file: Path) -> tuple[int, int]:
    """Width and height from the header; formats without a header that is known are decoded."""
    import imagesize  # late: only folders need it, and it takes an XML parser along

    try:
        width, height = imagesize.get(file)
    except (OSError, ValueError, TypeError):
        width, height = -1, -1
    if width > 0 and height > 0:
        return int(width), int(height)
    rows, columns = _read_image(file).shape[:2]
    return columns, rows


def _read_image(file: Path) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB."""
    try:
        data = np.frombuffer(file.read_bytes(), dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except (OSError, cv2.error) as error:
        raise SourceError(f"{file} cannot be read as an image ({_reason(error)})") from error
    if image is None:
        raise SourceError(
            f"{file} cannot be decoded as an image: the file is damaged or empty. Extract the frames again, "
            "or take it out of the folder"
        )
    return np.asarray(image, dtype=np.uint8)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip().splitlines()[0] if str(text).strip() else type(error).__name__
