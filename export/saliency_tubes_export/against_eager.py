"""An opponent for `tubes bench`: the same network in eager PyTorch.

As PyTorch has it: float32, channels first, inference mode, its own choice of threads and of convolution kernels. A
model file does not hold the weights as PyTorch needs them, so the network gets fresh, seeded ones: how long it takes
does not depend on them.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from saliency_tubes.bench.race import Opponent
from saliency_tubes.choices import Device
from saliency_tubes.errors import BenchmarkError
from saliency_tubes.spec import ModelSpec

from .mfnet3d import ARCHITECTURE, MFNet3D, as_published, fresh
from .parity import normalised

_NVIDIA = (Device.CUDA, Device.TENSORRT)


def prepare(spec: ModelSpec, device: Device, pixels: NDArray[np.uint8], frames: Path) -> Opponent:
    """The eager network on one clip: from normalised pixels in memory to logits and features in memory.

    Args:
        spec: of the model file that it races against.
        device: where that runs; on an NVIDIA GPU this network runs there, too, otherwise on the CPU.
        pixels: (1, T, H, W, 3) uint8 RGB. They are normalised beforehand: that costs the opponent nothing.
        frames: not looked at; other opponents read them.

    Raises:
        BenchmarkError: this network is not known, or PyTorch has no GPU.
    """
    del frames
    place = torch.device("cuda" if device in _NVIDIA else "cpu")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError(
            f"this PyTorch {torch.__version__} finds no GPU to race on: install one built for CUDA, or measure with "
            "--device cpu"
        )
    network = untrained(spec).to(place)
    clip = torch.from_numpy(normalised(pixels, spec.preprocessing))

    def run(_: Path) -> object:
        with torch.inference_mode():
            features = network.features(clip.to(place))
            logits = network.classifier(features.mean(dim=(2, 3, 4)))
            return logits.cpu(), features.cpu()  # as ours: where a GPU computes them, back in main memory

    what = f"the same network, untrained, in eager PyTorch {torch.__version__}, float32, on {place.type}"
    return Opponent("network", what, run)


def untrained(spec: ModelSpec) -> MFNet3D:
    """The network that a model file was made of, with weights of its own.

    Raises:
        BenchmarkError: this network is not known.
    """
    if spec.architecture != ARCHITECTURE:
        raise BenchmarkError(
            f"--against knows the network {ARCHITECTURE} alone, and this model file holds {spec.architecture}: measure "
            "it without --against"
        )
    return as_published(fresh(spec.num_classes))
