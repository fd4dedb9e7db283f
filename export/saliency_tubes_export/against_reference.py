"""An opponent for `tubes bench`: the whole published pipeline, from a folder of frames to pictures.

Its network is untrained, as in `against_eager`; see `reference` for its steps. It runs on the CPU.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from saliency_tubes.bench.race import Opponent
from saliency_tubes.choices import Device
from saliency_tubes.errors import BenchmarkError
from saliency_tubes.spec import ModelSpec

from . import reference
from .against_eager import untrained

_LABEL = 0


def prepare(spec: ModelSpec, device: Device, pixels: NDArray[np.uint8], frames: Path) -> Opponent:
    """The published pipeline on a folder of frames.

    Args:
        spec: of the model file that it races against.
        device: where that runs; this pipeline runs on the CPU.
        pixels: not looked at; other opponents take them.
        frames: a folder of frames.

    Raises:
        BenchmarkError: this network, or its number or size of frames, is not what was published.
    """
    del device, pixels
    network = untrained(spec)
    if spec.input_shape != reference.INPUT_SHAPE:
        T, H, W, _ = reference.INPUT_SHAPE
        raise BenchmarkError(
            f"the published pipeline takes {T} frames of {W}x{H}, and this model file {spec.input_shape[0]} of "
            f"{spec.input_shape[2]}x{spec.input_shape[1]}: measure it with --against eager"
        )
    what = f"the published pipeline, its network untrained, in eager PyTorch {torch.__version__}, float32, on cpu"
    return Opponent("pipeline", what, partial(reference.explain, network, frames, _LABEL))
