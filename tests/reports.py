"""Reports made by the tests: a moving square under a tube that follows it, and the worst that names can be."""

import io
from dataclasses import replace

import av
import numpy as np
from clips import moving_square
from numpy.typing import NDArray
from saliency_tubes.explanation import Score
from saliency_tubes.preprocess import CropBox
from saliency_tubes.report import Report, ReportLabel

RATE = 10
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><!-- & \u2028 \u202e gnp.exe"


def encoded(frames: NDArray[np.uint8], rate: int = RATE) -> bytes:
    """(n, H, W, 3) uint8 RGB as an H.264 MP4."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def label(index: int, maps: NDArray[np.float32], windows: int = 2, name: str | None = None) -> ReportLabel:
    low, high = (float(np.nanmin(maps)), float(np.nanmax(maps))) if np.isfinite(maps).any() else (0.0, 0.0)
    return ReportLabel(
        index=index,
        name=f"label {index}" if name is None else name,
        logit=5.0 - index,
        probability=0.75 / (index + 1),
        low=low,
        high=high,
        maps=maps,
        probabilities=np.linspace(0.6, 0.9, windows) / (index + 1),
    )


def following_maps(pictures: int, shape_hw: tuple[int, int] = (4, 5), seed: int = 0) -> NDArray[np.float32]:
    """(n, h, w) maps whose maximum goes from left to right, with some noise."""
    h, w = shape_hw
    y, x = np.mgrid[0:h, 0:w] / max(1, w - 1)
    centres = np.linspace(0, 1, pictures)[:, None, None]
    noise = np.random.default_rng(seed).normal(scale=0.2, size=(pictures, h, w))
    return (4 * np.exp(-((x - centres) ** 2 + (y - 0.3) ** 2) / 0.1) - 1 + noise).astype(np.float32)


def report(pictures: int = 20, labels: tuple[ReportLabel, ...] | None = None, **changes: object) -> Report:
    """A report of `pictures` pictures of 128x96, with a crop that leaves out something on every side."""
    frames = moving_square(pictures, 48, 64).repeat(2, axis=1).repeat(2, axis=2)
    if labels is None:
        labels = (label(0, following_maps(pictures)), label(1, 2 * following_maps(pictures, seed=1)[::-1] - 3))
    times = np.arange(pictures) / RATE
    middle = pictures / RATE / 2
    made = Report(
        title="clip.mp4",
        video=encoded(frames),
        video_wh=(128, 96),
        times=times,
        box=CropBox(0.125, 0.25, 0.875, 0.75),
        labels=labels,
        spans=np.array([[0, 1.5 * middle], [0.5 * middle, 2 * middle]]),
        top=(Score(0, "label 0", 5.0, 0.75), Score(1, None, 4.0, 0.2)),
        facts=(("model", "tubes.onnx"), ("device", "cpu")),
        notes=("A note.",),
        colormap="jet",
        opacity=0.5,
        threshold=0.0,
        time_note="Two windows.",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def hostile_report() -> Report:
    """Every text that comes from outside is an attack, is very long, or turns the direction of the text."""
    endless = "x" * 5000
    return report(
        labels=(label(0, following_maps(20), name=HOSTILE), label(1, following_maps(20), name=endless)),
        title=HOSTILE + "\udcff",
        top=(Score(0, HOSTILE, 1.0, 0.5), Score(1, endless, 0.5, 0.3)),
        facts=((HOSTILE, endless), ("k" * 500, HOSTILE)),
        notes=(HOSTILE, endless),
        time_note=HOSTILE,
        approximate=HOSTILE,
    )
