"""Videos that are not as they should be, made by hand: odd pixels, odd times, odd streams."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def write_pixels(
    path: Path, frames: NDArray[np.uint8], codec: str, pix_fmt: str, aspect: Fraction | None = None
) -> Path:
    """A video in a pixel format, with an aspect ratio for its pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_times(path: Path, frames: NDArray[np.uint8], milliseconds: Sequence[int]) -> Path:
    """A video whose packets carry the times given, whatever they are; `path` names a Matroska or MPEG-TS file."""
    transport = path.suffix == ".ts"
    with av.open(str(path), "w") as container:
        options = {"tune": "zerolatency"} if transport else {}
        stream = container.add_stream("libx264" if transport else "mjpeg", rate=10, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p" if transport else "yuvj420p"
        for frame, time in zip(frames, milliseconds, strict=True):
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                packet.pts = packet.dts = time
                packet.time_base = Fraction(1, 1000)
                container.mux(packet)
    return path


def write_sound(
    path: Path,
    frames: NDArray[np.uint8],
    codec: str,
    *,
    click: float,
    video_start: float = 0.0,
    audio_start: float = 0.0,
    audio_rate: int = 48000,
    audio_seconds: float | None = None,
    video_codec: str = "mpeg4",
) -> Path:
    """A video of 10 frames a second with silence and a click of 4 ms, `click` seconds on the file's own clock."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(video_codec, rate=10)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        audio: Any = container.add_stream(codec, rate=audio_rate, layout="mono")
        container.start_encoding()
        pictures = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]
        packets = [*_encoded(video, pictures, video_start)]
        samples = np.zeros((1, int((audio_seconds or len(frames) / 10) * audio_rate)), dtype=np.float32)
        at = int((click - audio_start) * audio_rate)
        samples[0, at : at + audio_rate // 250] = 0.9
        sound = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = audio_rate, 0, Fraction(1, audio_rate)
        resampler = av.AudioResampler(audio.format.name, "mono", audio_rate, frame_size=audio.frame_size or 1024)
        packets += _encoded(audio, [*resampler.resample(sound), *resampler.resample(None)], audio_start)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def click_time(path: Path) -> float:
    """When the click of `write_sound` begins, in seconds after the first picture of an MP4."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray().reshape(-1, frame.samples) if frame.format.is_planar else frame.to_ndarray()
            loud = np.abs(samples.astype(np.float64) / (32768 if samples.dtype == np.int16 else 1)).max(axis=0) > 0.3
            if loud.any():
                assert frame.time is not None
                assert picture is not None
                return frame.time + int(np.argmax(loud)) / frame.sample_rate - picture
    raise AssertionError("no click was heard")


def _encoded(stream: Any, frames: Sequence[Any], start: float) -> list[Any]:
    packets = [packet for frame in [*frames, None] for packet in stream.encode(frame)]
    for packet in packets:
        packet.pts += round(start / packet.time_base)
        packet.dts += round(start / packet.time_base)
    return packets
