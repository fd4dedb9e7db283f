"""An H.264 video that grows frame by frame, at the frames' own times, with the sound of the clip it shows."""

import contextlib
import math
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ._opencv import cv2
from .cores import usable_cores
from .errors import SourceError
from .soundtrack import Soundtrack
from .writers import ffmpeg_as_os_errors

_TICKS = 90_000  # a second: the clock of MPEG, a multiple of every usual frame rate
_LONE_FRAME_TICKS = _TICKS // 25
_ENCODERS = min(4, usable_cores())


class VideoSink:
    """Writes frames as H.264, yuv420p, in an MP4 with its index first: what every browser plays.

    Each frame is shown until the next one's time, and the last one as long as the one before it. An odd width or height
    is made even by repeating the last column or row. While a frame is encoded the next one can already be drawn.
    Memory does not grow with the length.

        with VideoSink(path, size_wh, audio_from=clip.path) as sink:
            for frame in clip.read(range(clip.length)):
                sink.write(frame.rgb, frame.time)
        sink.notes

    A 1080p frame costs about 8 ms of one core with `ultrafast`, 17 with `superfast` and 27 with `veryfast`: the first
    is the default. For files that have to be small take `veryfast`, a fifth of the size, and a `crf` of 26 or so.

    Args:
        path: the file to write. It is removed if anything goes wrong.
        size_wh: width and height of the frames.
        audio_from: a video whose first sound stream goes along, its first picture being the time 0 of `write`. No
            sound where this is None or has none.
        crf: x264's constant rate factor: 0 is lossless, 51 the worst; 6 more halve the size.
        preset: x264's trade of speed for size.
        keyint: at most so many frames from one that can be sought to the next.
        threads: how many encode; 0 for one on each core, up to four.

    Attributes:
        notes: what went wrong with the sound, once the sink is closed.
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        *,
        audio_from: Path | None = None,
        crf: float = 18,
        preset: str = "ultrafast",
        keyint: int = 250,
        threads: int = 0,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._path, self._size_wh, self._source = path, size_wh, audio_from
        # No B-frames: with them an MP4 loses how long the last frame lasts where the rate varies.
        self._options = {"crf": str(crf), "preset": preset, "g": str(keyint), "bf": "0"}
        self._threads = threads or _ENCODERS
        self._sound: Soundtrack | None = None
        self._held: tuple[NDArray[np.uint8], int] | None = None  # the last frame, until it is known how long it lasts
        self._latest = -math.inf
        self._ticks = _LONE_FRAME_TICKS  # how long the frame before it lasted
        self._encoding: Future[None] | None = None

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            OSError: it cannot be written.
        """
        self._worker = ThreadPoolExecutor(1, "video-sink")
        try:
            with ffmpeg_as_os_errors():
                self._open()
        except BaseException:
            self._abandon()
            raise
        return self

    def write(self, rgb: NDArray[np.uint8], seconds: float) -> None:
        """Add a frame; its pixels may be changed as soon as this returns.

        Args:
            rgb: (h, w, 3) uint8 RGB of the sink's size.
            seconds: when it is shown, later than the frame before. Less than a tick of 1/90000 s later is rounded up.

        Raises:
            ValueError: the size is another, or the time is earlier than the one before.
            OSError: a frame before this one could not be written.
        """
        if (rgb.shape[1], rgb.shape[0]) != self._size_wh:
            raise ValueError(f"expected a frame of {self._size_wh}, got {(rgb.shape[1], rgb.shape[0])}")
        if not math.isfinite(seconds) or seconds <= self._latest:
            raise ValueError(f"expected a time after {self._latest} s, got {seconds}")
        self._latest = seconds
        ticks = round(seconds * _TICKS)
        frame = _to_yuv(rgb), ticks if self._held is None else max(ticks, self._held[1] + 1)
        if self._held is not None:
            self._ticks = frame[1] - self._held[1]
            self._submit()
        self._held = frame

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Complete the file, or remove it where an error is under way.

        Raises:
            OSError: it could not be completed.
            ValueError: no frame was written.
        """
        if kind is not None:
            self._abandon()
            return
        try:
            if self._held is None:
                raise ValueError("expected at least one frame, got none")
            self._submit()
            self._wait()
            with ffmpeg_as_os_errors():
                self._complete()
        except BaseException:
            self._abandon()
            raise
        self._worker.shutdown()

    def _open(self) -> None:
        if self._source is not None:
            try:
                self._sound = Soundtrack.of(self._source)
            except SourceError:
                self.notes = ("the sound of the video cannot be read and is left out",)
        try:
            self._start()
        except (av.error.InvalidDataError, av.error.ArgumentError, av.error.EncoderNotFoundError, ValueError):
            if self._sound is None:
                raise
            self._container.close()
            self._sound.close()
            self._sound = None
            self.notes = ("the sound of the video does not fit into an MP4 and is left out",)
            self._start()

    def _start(self) -> None:
        """Open the file and write its header."""
        # The file's own clock is as fine as the frames': it times where the first frame and the sound begin.
        options = {"movflags": "+faststart", "movie_timescale": str(_TICKS)}
        self._container = av.open(str(self._path), "w", format="mp4", options=options)
        self._stream: VideoStream = self._container.add_stream(
            "libx264", options=self._options, time_base=Fraction(1, _TICKS)
        )
        width, height = self._size_wh
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        encoder = self._stream.codec_context
        encoder.thread_count = self._threads
        encoder.flags |= Flags.frame_duration  # packets last as long as their frames
        # How `_to_yuv` makes colours of the screen's RGB.
        encoder.colorspace, encoder.color_range = Colorspace.ITU601, ColorRange.MPEG
        encoder.color_primaries, encoder.color_trc = ColorPrimaries.BT709, ColorTrc.IEC61966_2_1
        if self._sound is not None:
            self._sound.add_to(self._container)
        self._container.start_encoding()

    def _submit(self) -> None:
        """Hand the frame that is held to the worker, once that has done the one before."""
        self._wait()
        assert self._held is not None
        self._encoding = self._worker.submit(self._encode, *self._held, self._ticks)

    def _wait(self) -> None:
        if self._encoding is not None:
            self._encoding.result()

    def _encode(self, yuv: NDArray[np.uint8], start: int, ticks: int) -> None:
        with ffmpeg_as_os_errors():
            frame = av.VideoFrame.from_ndarray(yuv, format="yuv420p")
            frame.pts, frame.duration, frame.time_base = start, ticks, Fraction(1, _TICKS)
            self._container.mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.mux_until((start + ticks) / _TICKS)

    def _complete(self) -> None:
        assert self._held is not None
        self._container.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.finish((self._held[1] + self._ticks) / _TICKS)
            self.notes += self._sound.notes
        self._container.close()

    def _abandon(self) -> None:
        """Close everything and remove the file, whatever state they are in."""
        self._worker.shutdown()
        with contextlib.suppress(Exception):
            self._container.close()
        with contextlib.suppress(Exception):
            if self._sound is not None:
                self._sound.close()
        with contextlib.suppress(OSError):
            if self._path.is_file():  # a device is no file
                self._path.unlink()


def _to_yuv(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) RGB to (1.5 h, w) YUV 4:2:0 of even h and w, after ITU-R BT.601 in its limited range.

    OpenCV does this seven times as fast as swscale: 0.6 ms for a 1080p frame.
    """
    bottom, right = rgb.shape[0] % 2, rgb.shape[1] % 2
    even = cv2.copyMakeBorder(rgb, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else rgb
    return np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
