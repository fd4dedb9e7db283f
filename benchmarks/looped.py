"""Videos of any length from a folder of frames: encoded once, and the encoded packets repeated."""

from pathlib import Path

import av
import cv2
import numpy as np


def looped(frames: Path, path: Path, length: int, rate: int, size_wh: tuple[int, int] | None = None) -> Path:
    """Write an H.264 video that plays the pictures of a folder to and fro.

    Args:
        frames: the folder.
        path: the MP4 to write.
        length: how many frames; a multiple of what is encoded keeps the loop whole.
        rate: frames a second.
        size_wh: what the pictures are resized to; None for their own size.
    """
    pictures = [np.asarray(cv2.imread(str(file)), dtype=np.uint8) for file in sorted(frames.iterdir())]
    if size_wh is not None:
        pictures = [np.asarray(cv2.resize(picture, size_wh), dtype=np.uint8) for picture in pictures]
    to_and_fro = [*pictures, *pictures[-2:0:-1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "23"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for index in range(length):
            picture = to_and_fro[index % len(to_and_fro)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def repeated(source: Path, path: Path, times: int) -> Path:
    """Write an MP4 that plays a video `times` times, its packets copied: an hour of video in seconds."""
    with av.open(str(path), "w") as output:
        target = None
        shift = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                target = target or output.add_stream_from_template(stream)
                length = stream.duration or 0
                for packet in container.demux(stream):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = target
                        output.mux(packet)
                shift += length
    return path
