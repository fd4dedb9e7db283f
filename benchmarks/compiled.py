"""Claim: on the CPU the exported network is ahead of `torch.compile`, in float32 and in bfloat16.

The job of `model_cpu`: one clip to logits and features. PyTorch is given its normalised tensor, and compiles as it
comes, with frozen weights, and with frozen weights and channels last. Ours takes uint8 crops, under ONNX Runtime's
default CPU provider, and under OpenVINO where it is installed. The bars are about the fastest of the compiled networks.
The seconds that compiling takes stand beside them; ours has nothing to compile.
"""

import os
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from saliency_tubes.bench.race import Clock, seconds
from saliency_tubes.choices import Precision
from saliency_tubes.session import open_session
from saliency_tubes_export import reference
from saliency_tubes_export.mfnet3d import MFNet3D
from torch import Tensor, nn

from .harness import Below, Result, Row, Skipped
from .inputs import Inputs, exported
from .openvino_cpu import Features, check, obstacle, open_network
from .pipeline import channels_last, rgb_frames

NAME = "compiled"
_COMPILERS = (os.environ.get("CXX", "c++"), "g++", "clang++")
_DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16}


@dataclass(frozen=True)
class _Mode:
    """A way of compiling the network.

    Attributes:
        name: for the report.
        freezing: whether weights become constants, which may then be folded and rearranged.
        last: whether kernels and clip have the channels last.
    """

    name: str
    freezing: bool
    last: bool


_MODES = (
    _Mode("torch.compile", freezing=False, last=False),
    _Mode("torch.compile, frozen", freezing=True, last=False),
    _Mode("torch.compile, frozen, channels last", freezing=True, last=True),
)


class Both(nn.Module):
    """The network with both its outputs, logits and features, as one module to compile."""

    def __init__(self, network: MFNet3D) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, T, H, W) -> logits (N, K) and features (N, C, t, h, w)."""
        return reference.infer(self.network, clip)


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Compile the network in each mode, then race all with ours, in each precision that this processor has."""
    if not any(map(shutil.which, _COMPILERS)):
        why = "torch.compile needs a C++ compiler: apt-get install g++"
        return [Skipped(NAME, "network, CPU: against torch.compile", why)]
    rows = _race(inputs, clock, Precision.FP32)
    if (why_not := obstacle(Precision.BF16)) is None:
        return rows + _race(inputs, clock, Precision.BF16)
    return [*rows, Skipped(NAME, "OpenVINO bf16 against torch.compile bf16", why_not)]


def _race(inputs: Inputs, clock: Clock, precision: Precision) -> list[Row]:
    from torch._inductor.utils import fresh_cache  # there is no public way to leave earlier compilations out

    network, clip = reference.load_network(inputs.weights), reference.load_clip(inputs.frames)
    expected, weight = reference.infer(network, clip.tensor)[1].numpy(), reference.classifier_row(network, inputs.label)
    ours = _ours(inputs, clip, precision)
    theirs = {}
    facts: list[tuple[str, float | str]] = []
    with fresh_cache(dir=str(inputs.folder)):
        for mode in _MODES:
            clock.say(f"{NAME}: {mode.name}, {precision}")
            theirs[mode.name] = _compiled(inputs.weights, clip.tensor.to(_DTYPES[precision]), mode)
            facts.append((f"{mode.name} {precision}, compiling, s", seconds(theirs[mode.name])))
    for name, features in (ours | theirs).items():
        facts.append((f"{name} {precision}", check(precision, features(), expected, weight)))
    samples = clock.race(f"{NAME}, {precision}", theirs | ours)
    facts += [(f"{name} {precision}, s", statistics.median(samples[name])) for name in theirs]
    best = min(theirs, key=lambda name: statistics.median(samples[name]))
    rows: list[Row] = []
    for name in ours:
        claim = f"{name} {precision} against {best}"
        rows.append(Result(NAME, claim, "s", samples[name], samples[best], Below(), () if rows else tuple(facts)))
    return rows


def _ours(inputs: Inputs, clip: reference.Clip, precision: Precision) -> dict[str, Callable[[], Features]]:
    frames = rgb_frames(clip)
    ours: dict[str, Callable[[], Features]] = {}
    if precision is Precision.FP32:
        session = open_session(inputs.model, "cpu")
        ours["ONNX Runtime"] = lambda: session.run(frames).features
    if obstacle(precision) is None:
        plain = exported(inputs.weights, inputs.folder / "compiled-plain.onnx", "--layout", "plain")
        ours["OpenVINO"] = partial(open_network(plain, precision), frames)
    return ours


def _compiled(weights: Path, tensor: Tensor, mode: _Mode) -> Callable[[], Features]:
    """The network to be compiled at its first call: (1, C, t, h, w) float32 features of `tensor`."""
    network: MFNet3D = reference.load_network(weights).to(tensor.dtype)
    if mode.last:
        network, tensor = channels_last(network), tensor.to(memory_format=torch.channels_last_3d)
    # Not dynamic: otherwise the second memory format makes the compiler expect a third.
    compiled = torch.compile(Both(network), dynamic=False, options={"freezing": mode.freezing})

    def run() -> Features:
        with torch.no_grad():
            _, features = compiled(tensor)
        return np.asarray(features.float())

    return run
