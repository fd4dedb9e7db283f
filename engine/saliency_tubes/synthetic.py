"""Clips made from a seed, for measurements that must not depend on anybody's files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def synthetic_clip(shape: tuple[int, int, int, int], seed: int) -> NDArray[np.uint8]:
    """A seeded (T, H, W, 3) uint8 RGB clip: smooth waves that drift at different speeds, and a little noise."""
    T, H, W, _ = shape
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(np.arange(T), np.arange(H), np.arange(W), indexing="ij", sparse=True)
    clip = np.empty(shape)
    for channel in range(3):
        waves = np.zeros((T, H, W))
        for _ in range(4):
            fy, fx, ft, phase = rng.uniform([-0.2, -0.2, -0.5, 0], [0.2, 0.2, 0.5, 2 * np.pi])
            waves += np.sin(fy * y + fx * x + ft * t + phase)
        clip[..., channel] = 127 + 28 * waves
    clip += rng.normal(0, 8, shape)
    return clip.clip(0, 255).astype(np.uint8)


def write_frames(folder: Path, frames: NDArray[np.uint8]) -> Path:
    """Write a (T, h, w, 3) uint8 RGB clip as a new folder of JPEG frames, as frame extractors do."""
    from ._opencv import cv2  # late: the exporter, which makes clips but writes none, does without OpenCV

    folder.mkdir(parents=True)
    for index, frame in enumerate(frames, start=1):
        _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        (folder / f"img_{index:05d}.jpg").write_bytes(data.tobytes())
    return folder
