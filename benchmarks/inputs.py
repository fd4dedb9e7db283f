"""What is measured on: a checkpoint, a folder of frames, and the model file that `tubes export` makes of them.

``python -m benchmarks.inputs FOLDER`` writes the synthetic ones, ``weights.pth`` and ``clip/``, to try things on.
"""

import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from saliency_tubes_export.mfnet3d import fresh

ROOT = Path(__file__).resolve().parent.parent
_GOLDEN = ROOT.parent / "shared" / "reference"
_LABEL = 5
_CLASSES = 101
_SEED = 20190922
_SYNTHETIC_FRAMES, _SYNTHETIC_HW = 40, (256, 340)


@dataclass(frozen=True)
class Inputs:
    """One job, for both pipelines.

    Attributes:
        origin: where weights and frames come from, for the report.
        weights: an MFNet-3D checkpoint in the upstream format.
        frames: a folder of JPEG frames.
        model: the same weights, exported.
        label: the class to explain.
        folder: an empty folder to write to, gone after the run.
    """

    origin: str
    weights: Path
    frames: Path
    model: Path
    label: int
    folder: Path


@contextmanager
def prepared(say: Callable[[str], None]) -> Iterator[Inputs]:
    """Make the inputs in a temporary folder; reference data beside the repository is preferred where it is there."""
    with tempfile.TemporaryDirectory(prefix="tubes-benchmark-") as name:
        folder = Path(name)
        weights, frames = _GOLDEN / "mfnet3d_101.pth", _GOLDEN / "arm_wrestling"
        origin = "golden reference data (mfnet3d_101.pth, arm_wrestling)"
        if not (weights.is_file() and frames.is_dir()):
            say("making a clip and a checkpoint")
            weights, frames = folder / "weights.pth", folder / "clip"
            origin = f"synthetic clip and checkpoint, seed {_SEED}"
            write_synthetic(folder)
        say("exporting the checkpoint")
        model = exported(weights, folder / "tubes.onnx")
        out = folder / "out"
        out.mkdir()
        yield Inputs(origin, weights, frames, model, _LABEL, out)


def write_synthetic(folder: Path) -> None:
    """Write a seeded, untrained checkpoint to ``weights.pth`` and a seeded clip to ``clip/``."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_clip(folder / "clip")
    _write_checkpoint(folder / "weights.pth")


def tubes_command(*arguments: str | Path) -> list[str]:
    """A command line of `tubes`, as it is installed beside this interpreter."""
    return [str(Path(sysconfig.get_path("scripts")) / "tubes"), *map(str, arguments)]


def exported(weights: Path, model: Path, *options: str) -> Path:
    """Export by the command, in a process of its own, so that this one stays clean of the exporter's libraries."""
    done = subprocess.run(tubes_command("export", weights, "--output", model, *options), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`tubes export` failed:\n{done.stderr}")
    return model


def _write_clip(folder: Path) -> None:
    """A seeded clip: a disc that crosses a fixed, smooth background, under a little noise."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(_SEED)
    height, width = _SYNTHETIC_HW
    coarse = random.integers(40, 200, (8, 10, 3)).astype(np.uint8)
    background = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for index in range(_SYNTHETIC_FRAMES):
        centre = (20 + index * (width - 40) // _SYNTHETIC_FRAMES, height // 2)
        picture = cv2.circle(background.copy(), centre, 30, (30, 60, 230), thickness=-1)
        noise = random.integers(-6, 7, picture.shape)
        noisy: NDArray[np.uint8] = np.clip(picture + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"img_{index + 1:05d}.jpg"), noisy)


def _write_checkpoint(weights: Path) -> None:
    """A seeded, untrained MFNet-3D in the upstream format."""
    network = fresh(_CLASSES, _SEED)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"epoch": 0, "state_dict": state, "optimizer": {}}, weights)


if __name__ == "__main__":
    write_synthetic(Path(sys.argv[1]))
