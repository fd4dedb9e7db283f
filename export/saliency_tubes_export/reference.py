"""The eager reference: the steps of the published PyTorch pipeline, as a script and as functions.

Stergiou et al., "Saliency Tubes: Visual Explanations for Spatio-Temporal Convolutions", ICIP 2019, publish a script
(heat_tubes_mfnet_pytorch.py). These are its steps, with what is fair to it: it runs on the CPU with PyTorch's own
choice of threads, without autograd, and it draws no more than the published script draws.

    python -m saliency_tubes_export.reference WEIGHTS FRAME_DIR LABEL OUT

It needs PyTorch, SciPy and OpenCV; of this project it takes the network alone, and nothing of the runtime.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom

from .mfnet3d import MFNet3D, as_published

CLIP_LENGTH = 16
_RESIZED = 256
_CROP = 224
INPUT_SHAPE = (CLIP_LENGTH, _CROP, _CROP, 3)
_ZOOM = (2, 32, 32)
MEAN = np.array([124, 117, 104], dtype=np.float32) / 255
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Clip:
    """A sampled clip.

    Attributes:
        tensor: (1, 3, T, H, W) float32, normalised RGB.
        pictures: T frames (H, W, 3) uint8 BGR, as they are drawn on.
    """

    tensor: torch.Tensor
    pictures: list[NDArray[np.uint8]]


def load_network(weights: Path) -> MFNet3D:
    """The network in evaluation mode, with the weights of an upstream checkpoint."""
    state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    network = MFNet3D(len(state["classifier.weight"]))
    network.load_state_dict(state)
    return as_published(network)


def load_clip(folder: Path) -> Clip:
    """Sixteen frames over the whole folder, squashed, cropped and normalised."""
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    chosen = np.linspace(0, len(files) - 1, CLIP_LENGTH).astype(int)
    edge = (_RESIZED - _CROP) // 2
    pictures = []
    for index in chosen:
        picture = cv2.imread(str(files[index]))
        if picture is None:
            raise OSError(f"{files[index]} is not an image")
        resized = cv2.resize(picture, (_RESIZED, _RESIZED), interpolation=cv2.INTER_LINEAR)
        pictures.append(np.asarray(resized[edge : edge + _CROP, edge : edge + _CROP], dtype=np.uint8))
    rgb = np.stack([cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in pictures])
    normalised = (rgb.astype(np.float32) / 255 - MEAN) / STD
    return Clip(torch.from_numpy(normalised.transpose(3, 0, 1, 2)[None]).contiguous(), pictures)


def infer(network: MFNet3D, tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (1, K) and features (1, C, t, h, w), eagerly."""
    with torch.no_grad():
        features = network.features(tensor)
        logits = network.classifier(features.mean(dim=(2, 3, 4)))
    return logits, features


def build_tube(features: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """One channel at a time, then a cubic spline, then min-max: (T, H, W) float32 in [0, 1].

    Args:
        features: (C, t, h, w) float32.
        weight: (C,) float32, the classifier's row.
    """
    by_place = features.transpose(1, 2, 3, 0)
    total = np.zeros(by_place.shape[:3], dtype=np.float32)
    for channel, w in enumerate(weight):
        total += w * by_place[..., channel]
    tube: NDArray[np.float32] = zoom(total, _ZOOM)
    tube -= tube.min()
    tube /= tube.max()
    return tube


def write_pictures(tube: NDArray[np.float32], pictures: list[NDArray[np.uint8]], out: Path) -> None:
    """For every frame ``heatmap/NNN.png``, coloured, and ``focusmap/NNN.png``, with the tube as its opacity."""
    for kind in ("heatmap", "focusmap"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for index, (values, picture) in enumerate(zip(tube, pictures, strict=True)):
        colours = cv2.applyColorMap((255 * values).astype(np.uint8), cv2.COLORMAP_JET)
        cv2.imwrite(str(out / "heatmap" / f"{index:03d}.png"), colours // 2 + picture // 2)
        focus = cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA)
        alpha = np.zeros(values.shape, dtype=np.uint8)
        focus[..., 3] = cv2.normalize(values, alpha, 20, 255, cv2.NORM_MINMAX, cv2.CV_8UC1)
        cv2.imwrite(str(out / "focusmap" / f"{index:03d}.png"), focus)


def classifier_row(network: MFNet3D, label: int) -> NDArray[np.float32]:
    """(C,) float32, the classifier's weights of one class."""
    weight: NDArray[np.float32] = network.classifier.weight.detach().numpy()
    return np.asarray(weight[label])


def explain(network: MFNet3D, folder: Path, label: int, out: Path) -> NDArray[np.float32]:
    """From a folder of frames to pictures; returns the tube, (T, H, W) float32."""
    clip = load_clip(folder)
    logits, features = infer(network, clip.tensor)
    tube = build_tube(features[0].numpy(), classifier_row(network, label))
    write_pictures(tube, clip.pictures, out)
    predicted = int(logits.argmax())
    (out / "info.txt").write_text(f"Visualizing for class {label}\nPredicted class {predicted}\n", encoding="utf-8")
    return tube


def main(weights: str, folder: str, label: str, out: str) -> None:
    """What one run of the published script does."""
    explain(load_network(Path(weights)), Path(folder), int(label), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
