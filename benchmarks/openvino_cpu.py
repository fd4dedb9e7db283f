"""Claim: under OpenVINO the network is at least 2 times faster than eager in float32, at least 4 times in bfloat16.

The job of `model_cpu`: one clip, uint8 crops to logits and features, against eager PyTorch on its normalised float32
tensor. Both files run: the one of ``tubes export --layout plain``, and the default one, whose convolutions are
rewritten for ONNX Runtime. bfloat16 is measured where the processor has it; elsewhere OpenVINO computes in float32 and
does not say so.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from saliency_tubes import backend_openvino
from saliency_tubes.bench.race import Clock
from saliency_tubes.choices import Device, Layout, Precision
from saliency_tubes.session import open_session
from saliency_tubes_export import reference

from .agreement import REDUCED_CORRELATION, compare_features, compare_maps
from .harness import Result, Row, Skipped, TimesFaster
from .inputs import Inputs, exported
from .pipeline import coarse_map, rgb_frames

NAME = "openvino-cpu"
_BARS = {Precision.FP32: 2, Precision.BF16: 4}

Features = NDArray[np.float32]
Network = Callable[[NDArray[np.uint8]], Features]


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race each file in each precision that works here, and eager PyTorch."""
    rows: list[Row] = []
    working = []
    for precision in _BARS:
        if (why := obstacle(precision)) is None:
            working.append(precision)
        else:
            rows.append(Skipped(NAME, f"OpenVINO {precision}, against eager", why))
    return [*_race(inputs, clock, working), *rows] if working else rows


def _race(inputs: Inputs, clock: Clock, precisions: list[Precision]) -> list[Row]:
    network, clip = reference.load_network(inputs.weights), reference.load_clip(inputs.frames)
    plain = exported(inputs.weights, inputs.folder / "openvino-plain.onnx", "--layout", "plain")
    frames = rgb_frames(clip)
    expected = reference.infer(network, clip.tensor)[1].numpy()
    weight = reference.classifier_row(network, inputs.label)
    jobs: dict[str, Callable[[], object]] = {"eager": lambda: reference.infer(network, clip.tensor)}
    variants = {}
    for precision in precisions:
        for layout, file in ((Layout.PLAIN, plain), (Layout.BLOCKED, inputs.model)):
            run = partial(open_network(file, precision), frames)
            jobs[name := f"OpenVINO {precision}, {layout} layout"] = run
            variants[name] = TimesFaster(_BARS[precision]), check(precision, run(), expected, weight)
    samples = clock.race(NAME, jobs)
    return [
        Result(NAME, f"{name}, against eager", "s", samples[name], samples["eager"], bar, ((name, fact),))
        for name, (bar, fact) in variants.items()
    ]


def obstacle(precision: Precision) -> str | None:
    """Why OpenVINO does not compute in `precision` on this processor; None where it does."""
    if (missing := backend_openvino.obstacle()) is not None:
        return f"not measured: {missing}"
    if precision is Precision.BF16 and not backend_openvino.has_bfloat16():
        return "not measured: this processor has no bfloat16"
    return None


def open_network(file: Path, precision: Precision) -> Network:
    """A model file under OpenVINO: (N, T, H, W, 3) uint8 RGB frames -> (N, C, t, h, w) float32 features."""
    session = open_session(file, Device.OPENVINO, precision)
    return lambda frames: session.run(frames).features


def check(precision: Precision, ours: Features, expected: Features, weight: NDArray[np.float32]) -> str:
    """Compare two (1, C, t, h, w) features as closely as the precision allows, and say how near they are."""
    if precision is Precision.FP32:
        return f"largest relative difference of the features {compare_features(ours, expected):.3g}"
    correlation = compare_maps(coarse_map(ours, weight), coarse_map(expected, weight), REDUCED_CORRELATION)
    return f"the maps correlate by {correlation:.6f}"
