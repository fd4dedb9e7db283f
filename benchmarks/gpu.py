"""Claim: on a GPU in float16 a clip takes at most 2 ms, and the network leaves eager and compiled PyTorch behind.

One clip: uint8 frames in the computer's memory to the normalised tube there, at least 4 times faster than eager
float32. 32 clips: uint8 frames to logits and coarse maps, at least 3 times the clips a second of eager float32, and
more than the compiled float16 network. In the same rounds: ours in float32 and TF32, eager float32 with channels last,
eager float16 with channels last, and `torch.compile` in float16 with its longest search (max-autotune).

PyTorch is used as well as it can be: frames travel as uint8 and are normalised on the GPU, cuDNN searches for its
fastest kernels, maps are made on the GPU so that only they travel back, and the tube is made of them as in ours. Its
float32 convolutions compute in TF32, as it has them by default.
"""

import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from saliency_tubes.bench.race import Clock, Samples, seconds
from saliency_tubes.choices import Precision
from saliency_tubes.errors import DeviceError
from saliency_tubes_export import reference
from torch import nn

from .agreement import REDUCED_CORRELATION, compare_maps
from .compiled import Both
from .harness import Bar, Below, Result, Row, Skipped, TimesFaster
from .inputs import Inputs, exported
from .pipeline import channels_last, opened, rgb_frames, tubes_of

NAME = "gpu"
_DEVICE = "cuda"
_BATCH = 32
_CALLS_OF_ONE, _CALLS_OF_BATCH = 30, 3
_EAGER, _EAGER_HALF, _COMPILED = "eager float32", "eager float16, channels last", "torch.compile float16"
_OURS = f"ours {Precision.FP16}"
_ONE_CLIP: tuple[tuple[str, Bar], ...] = (
    (_EAGER, Below(0.002)),
    (_EAGER, TimesFaster(4)),
    (_EAGER_HALF, Below()),
    (_COMPILED, Below()),
)
_MANY_CLIPS: tuple[tuple[str, Bar], ...] = ((_EAGER, TimesFaster(3)), (_EAGER_HALF, Below()), (_COMPILED, Below()))

_Frames = NDArray[np.uint8]
_Maps = NDArray[np.float32]
_Network = Callable[[_Frames], _Maps]  # (N, T, H, W, 3) RGB -> (N, t, h, w), the raw maps of the class


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race all on one clip, then on many."""
    claim = f"one clip and {_BATCH} clips, GPU: against PyTorch"
    if not torch.cuda.is_available():
        return [Skipped(NAME, claim, "no GPU here: not measured")]
    frames = rgb_frames(reference.load_clip(inputs.frames))
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        try:
            ours = _our_networks(inputs)
        except DeviceError as error:
            return [Skipped(NAME, claim, f"not measured: {error}")]
        networks = _torch_networks(inputs) | ours
        facts = _checked(networks, frames)
        one = {name: partial(_tubes, network, frames, inputs.label) for name, network in networks.items()}
        rows = _rows("1 clip", clock.race(f"{NAME}, 1 clip", one, _CALLS_OF_ONE), _ONE_CLIP, facts)
        batch = np.repeat(frames, _BATCH, axis=0)
        many = {name: partial(_synchronised, network, batch) for name, network in networks.items()}
        samples = clock.race(f"{NAME}, {_BATCH} clips", many, _CALLS_OF_BATCH)
    rates: list[tuple[str, float | str]] = [
        (f"{name}, clips/s in batches of {_BATCH}", _BATCH / statistics.median(samples[name])) for name in many
    ]
    return rows + _rows(f"{_BATCH} clips", samples, _MANY_CLIPS, rates)


def _our_networks(inputs: Inputs) -> dict[str, _Network]:
    files = {
        precision: exported(inputs.weights, inputs.folder / f"gpu-{precision}.onnx", "--layout", "plain", *options)
        for precision, options in ((Precision.FP32, ()), (Precision.FP16, ("--precision", "fp16")))
    }

    def network(file: Precision, precision: Precision) -> _Network:
        return opened(files[file], inputs.label, _DEVICE, precision=precision).maps

    return {
        f"ours {Precision.FP32}": network(Precision.FP32, Precision.FP32),
        f"ours {Precision.TF32}": network(Precision.FP32, Precision.TF32),
        _OURS: network(Precision.FP16, Precision.FP16),
    }


def _torch_networks(inputs: Inputs) -> dict[str, _Network]:
    def network(dtype: torch.dtype, last: bool, mode: str | None = None) -> _Network:
        both: nn.Module = Both(reference.load_network(inputs.weights)).to(_DEVICE, dtype)
        both = channels_last(both) if last else both
        run = both if mode is None else torch.compile(both, mode=mode, dynamic=False)
        return partial(_torch_maps, run, dtype, last, weight)

    weight = torch.from_numpy(reference.classifier_row(reference.load_network(inputs.weights), inputs.label))
    weight = weight.to(_DEVICE)
    return {
        _EAGER: network(torch.float32, last=False),
        f"{_EAGER}, channels last": network(torch.float32, last=True),
        _EAGER_HALF: network(torch.float16, last=True),
        _COMPILED: network(torch.float16, last=True, mode="max-autotune"),
    }


def _torch_maps(
    network: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    dtype: torch.dtype,
    last: bool,
    weight: torch.Tensor,
    frames: _Frames,
) -> _Maps:
    """The raw maps of `weight`, (C,) float32, by PyTorch: everything but the copies on the GPU."""
    pixels = torch.from_numpy(frames).to(_DEVICE).permute(0, 4, 1, 2, 3)
    mean, std = (torch.from_numpy(v).to(_DEVICE).view(3, 1, 1, 1) for v in (reference.MEAN, reference.STD))
    clips = ((pixels.float() / 255 - mean) / std).to(dtype)
    layout = torch.channels_last_3d if last else torch.contiguous_format
    with torch.no_grad():
        logits, features = network(clips.contiguous(memory_format=layout))
        maps = torch.einsum("c,ncthw->nthw", weight, features.float())
    logits.cpu()
    return maps.cpu().numpy()


def _checked(networks: dict[str, _Network], frames: _Frames) -> list[tuple[str, float | str]]:
    """The first call of each, which compiles or searches, and whether all give the map of eager float32."""
    expected = networks[_EAGER](frames)[0]
    facts: list[tuple[str, float | str]] = [("GPU", torch.cuda.get_device_name())]
    for name, network in networks.items():
        facts.append((f"{name}, first call, s", seconds(partial(network, frames))))
        correlation = compare_maps(network(frames)[0], expected, REDUCED_CORRELATION)
        facts.append((f"{name}, correlation of the map with eager float32", correlation))
    return facts


def _tubes(network: _Network, frames: _Frames, label: int) -> None:
    tubes_of(_synchronised(network, frames), label, frames.shape[1:4])


def _synchronised(network: _Network, frames: _Frames) -> _Maps:
    maps = network(frames)
    torch.cuda.synchronize()  # nothing of this call may be left to the next one's time
    return maps


def _rows(
    job: str,
    samples: dict[str, Samples],
    bars: tuple[tuple[str, Bar], ...],
    facts: list[tuple[str, float | str]],
) -> list[Row]:
    """One row a bar; the facts, and the medians of all, stand with the first."""
    medians = [(f"{job}: {name}, s", statistics.median(taken)) for name, taken in samples.items()]
    rows: list[Row] = []
    for name, bar in bars:
        claim = f"{job}, GPU: {_OURS} against {name}"
        beside = () if rows else (*facts, *medians)
        rows.append(Result(NAME, claim, "s", samples[_OURS], samples[name], bar, beside))
    return rows
