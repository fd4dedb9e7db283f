"""FFmpeg's side of reading a video: its container and stream, the pictures in it, and when and how they are shown."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.format import Flags
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ._opencv import cv2
from .clock import Clock
from .errors import SourceError

MAX_PIXELS = 100_000_000  # a frame of more is no recording but a damaged or hostile header
# What FFmpeg opens although it is no recording: text drawn as a picture, and lists that name other files.
_NOT_VIDEO_FORMATS = frozenset({"tty", "concat", "hls", "dash", "imf"})
_STILL_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
_MAX_ASPECT = 8  # a pixel longer than this is a damaged header
# A file whose pictures end this much before the time it announces was cut short.
_SHORTFALL_SECONDS = 1.0
_SHORTFALL_SHARE = 0.1


def open_container(path: Path) -> "av.container.InputContainer":
    """Open a local file, whatever its name looks like, that FFmpeg takes for a recording.

    Raises:
        SourceError: it cannot be opened, or is no recording.
    """
    try:
        # The "file:" keeps FFmpeg from taking a file name such as "concat:a" for a protocol of its own.
        container = av.open(
            f"file:{path}",
            metadata_errors="replace",
            options={"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)},
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be opened as a video ({reason(error)}): expected a complete video file or GIF, "
            "or a folder of frames"
        ) from error
    if _NOT_VIDEO_FORMATS.intersection(container.format.name.split(",")):
        kind = container.format.long_name
        container.close()
        raise SourceError(f"{path} is not a video ({kind}): expected a video file, a GIF, or a folder of frames")
    return container


def video_stream(container: "av.container.InputContainer", path: Path) -> VideoStream:
    """The first stream of moving pictures that can be decoded; the cover of a song is none.

    Raises:
        SourceError: there is none.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _STILL_PICTURES]
    if not streams:
        covers = ", only still pictures" if container.streams.video else f", only {container.format.long_name}"
        raise SourceError(f"{path} holds no video{covers}: expected a video file, a GIF, or a folder of frames")
    stream = next((stream for stream in streams if stream.codec_context is not None), None)
    if stream is None:
        raise SourceError(
            f"{path} holds a video in a format for which there is no decoder here: convert it to H.264 with ffmpeg"
        )
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type = "AUTO"
    return stream


def check_pixels(width: int, height: int, what: str) -> None:
    """Raise a SourceError where frames of this size must not even be tried."""
    if width * height > MAX_PIXELS:
        raise SourceError(
            f"{what} announces frames of {width}x{height} pixels: expected at most {MAX_PIXELS // 1_000_000} million. "
            "The file is damaged, or has to be scaled down first"
        )


@dataclass(frozen=True)
class View:
    """How the decoded pictures of a stream are to be shown.

    Attributes:
        scaled_wh: their width and height with square pixels, as they are stored.
        transposed: whether rows then become columns.
        left_right: whether each row is then reversed.
        upside_down: whether the order of the rows is then reversed.
    """

    scaled_wh: tuple[int, int]
    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False

    @classmethod
    def of(cls, picture: VideoFrame, stream: VideoStream) -> Self:
        """The view that the stream's first picture asks for.

        Pixels that are not square are made so by stretching, never by shrinking. The display matrix of ISO 14496-12
        turns and mirrors; an angle that is no multiple of 90 degrees counts as the nearest one that is.
        """
        width, height = picture.width, picture.height
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT:
            aspect = Fraction(1)
        scaled_wh = (max(width, round(width * aspect)), max(height, round(height / aspect)))
        if SideDataType.DISPLAYMATRIX not in picture.side_data:
            return cls(scaled_wh)
        # A pixel at (x, y) is shown at (a x + c y, b x + d y).
        matrix = np.frombuffer(picture.side_data[SideDataType.DISPLAYMATRIX], dtype=np.int32)  # type: ignore[typeddict-item]
        a, b, _, c, d = matrix[:5].tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(scaled_wh, transposed=True, left_right=c < 0, upside_down=b < 0)
        return cls(scaled_wh, left_right=a < 0, upside_down=d < 0)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of what is shown."""
        width, height = self.scaled_wh
        return (height, width) if self.transposed else (width, height)

    def rgb(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of `size_wh`, whatever the picture's own size and pixel format."""
        rgb = picture.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        if (picture.width, picture.height) != self.scaled_wh:  # OpenCV scales several times as fast as swscale
            rgb = np.asarray(cv2.resize(rgb, self.scaled_wh, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        if self.transposed:
            rgb = rgb.transpose(1, 0, 2)
        if self.left_right:
            rgb = rgb[:, ::-1]
        if self.upside_down:
            rgb = rgb[::-1]
        return np.ascontiguousarray(rgb) if self.transposed or self.left_right or self.upside_down else rgb


class Decoding:
    """One pass over the pictures of a stream.

    Damaged packets are passed over, as players do, and where the container breaks off the pictures end.

    Attributes:
        decoded: how many pictures have come.
        damaged: how many of them the decoder had to guess in part.
        lost: how many packets are broken or could not be decoded.
        hidden: how many packets the container's edit list leaves out.
    """

    def __init__(self, container: "av.container.InputContainer", stream: VideoStream) -> None:
        self.decoded = self.damaged = self.lost = self.hidden = 0
        self._container, self._stream = container, stream
        self._unordered = container.format.name == "avi"  # it numbers frames as they are stored, not as they are shown
        self._clock = Clock(stream.average_rate or stream.guessed_rate, restarts=may_restart(container))

    def pictures(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield seconds after the first picture (NaN where there are no times) and the picture."""
        for packet in packets(self._container, self._stream):
            self.hidden += packet.is_discard
            pictures = decode(packet)
            self.lost += pictures is None or packet.is_corrupt
            for picture in pictures or ():
                self.decoded += 1
                self.damaged += picture.is_corrupt
                yield self._clock.seconds(self._own_time(picture)), picture

    def _own_time(self, picture: VideoFrame) -> float | None:
        if not self._unordered:
            return own_time(picture)
        time_base = self._stream.time_base
        return float(picture.dts * time_base) if picture.dts is not None and time_base is not None else None

    def notes(self, seconds: float) -> tuple[str, ...]:
        """What there is to say of the video after the last picture, which came `seconds` after the first."""
        notes = []
        announced = announced_frames(self._container, self._stream) - self.hidden
        duration = _announced_seconds(self._container, self._stream)
        if self.decoded < announced:
            notes.append(
                f"the video is damaged or cut short: it announces {announced} frames, {self.decoded} could be decoded"
            )
        elif (
            announced <= 0
            and not self._clock.wrong  # otherwise the two clocks have nothing to do with each other
            and duration - seconds > max(_SHORTFALL_SECONDS, _SHORTFALL_SHARE * duration)
        ):
            notes.append(
                f"the video is damaged or cut short: it announces {duration:.1f} s, and its {self.decoded} frames end "
                f"after {seconds:.1f} s"
            )
        elif self.lost:
            notes.append(f"the video is damaged (broken packets: {self.lost}), and frames may be missing there")
        if self.damaged:
            notes.append(
                f"{self.damaged} of {self.decoded} frames are damaged and were decoded as well as they could be"
            )
        mended = self._clock.wrong + (0 if self._unordered else self._clock.missing)
        if mended:
            notes.append(f"the times of {mended} of {self.decoded} frames were missing or out of order and were mended")
        return tuple(notes)


def announced_frames(container: "av.container.InputContainer", stream: VideoStream) -> int:
    """How many frames the container says there are; 0 where it does not say."""
    if "mp4" in container.format.name.split(","):  # its edit list may leave some out, and those are not in the index
        return min(stream.frames, len(stream.index_entries))
    return stream.frames


def packets(container: "av.container.InputContainer", stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    """Yield a stream's packets until the container ends or breaks off; the last, empty one flushes the decoder."""
    demuxed = container.demux(stream)
    while True:
        try:
            packet = next(demuxed, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        yield packet


def decode(packet: "Packet[VideoStream]") -> list[VideoFrame] | None:
    """The pictures that a packet completes; None where it cannot be decoded."""
    try:
        return [picture for picture in packet.decode() if isinstance(picture, VideoFrame)]
    except av.error.FFmpegError:
        return None


def may_restart(container: "av.container.InputContainer") -> bool:
    """Whether the container is of a kind whose clock may start anew in the middle, such as MPEG-TS."""
    return Flags.ts_discont in Flags(container.format.flags)


def own_time(frame: "VideoFrame | av.AudioFrame") -> float | None:
    """A frame's time as its container has it, in seconds; None where that has none."""
    time = frame.time
    return time if time is not None and math.isfinite(time) else None


def reason(error: BaseException) -> str:
    """The first line of what an error says."""
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _announced_seconds(container: "av.container.InputContainer", stream: VideoStream) -> float:
    """How long the container says the stream lasts from its first picture on; 0 where it does not say."""
    tick = stream.time_base or Fraction(0)
    if stream.duration:
        return float(stream.duration * tick)
    # Matroska has the end of each stream in a tag: "00:01:02.500000000".
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - float((stream.start_time or 0) * tick)
    other_streams = len(container.streams) > 1  # one of which may last longer
    return 0.0 if other_streams else float(container.duration or 0) / av.time_base
