"""Clips made by the tests: a moving square whose place tells the frame's number."""

import struct
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

SHARED = Path(__file__).resolve().parents[2] / "shared"


def moving_square(length: int = 20, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """(length, height, width, 3) uint8 RGB: an orange square goes from left to right over a grey gradient."""
    gradient = np.linspace(40, 160, width).astype(np.uint8)
    frames = np.repeat(np.broadcast_to(gradient[None, None, :, None], (length, height, width, 1)), 3, axis=3).copy()
    for index, left in enumerate(np.linspace(0, width - 12, length).astype(int)):
        frames[index, 18:30, left : left + 12] = (230, 120, 20)
    return frames


def square_left(rgb: NDArray[np.uint8]) -> float:
    """Where the square of `moving_square` begins, whatever compression did to it."""
    orange = (rgb[..., 0].astype(int) - rgb[..., 2]) > 80
    return float(np.flatnonzero(orange.any(axis=0)).min())


def write_video(
    path: Path, frames: NDArray[np.uint8], codec: str = "libx264", rate: int = 10, faststart: bool = False
) -> Path:
    options = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 5
        stream.codec_context.bit_rate = 2_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def rotate_metadata(path: Path, quarter_turns_clockwise: int) -> None:
    """Set the rotation of an MP4's video track, as phones do: the display matrix in its `tkhd` box (ISO 14496-12)."""
    data = bytearray(path.read_bytes())
    matrix_at = data.index(b"tkhd") + 4 + 40
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns_clockwise % 4]
    struct.pack_into(">9i", data, matrix_at, cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def write_folder(path: Path, frames: NDArray[np.uint8], suffix: str = ".png", pattern: str = "frame{}") -> Path:
    path.mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(path / (pattern.format(index) + suffix)), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return path
