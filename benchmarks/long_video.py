"""Claim: explaining half an hour of video takes at most 200 MiB more memory than explaining ten seconds of it.

Whole processes of ``tubes run --sampling dense --label N`` with what it writes by default, on 720p video: one run of
each length, because the long one takes half an hour itself. Peak resident sets, as the kernel counted them.

Without a label more is kept, because the winner is known only at the end. That is weighed by itself, as NumPy and
Python allocate it, with random features in the network's place: what is kept does not depend on who computed them.
"""

import tracemalloc
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from saliency_tubes import load_model
from saliency_tubes.bench.cold import ProcessRun, run_cold
from saliency_tubes.bench.race import Clock
from saliency_tubes.choices import Fit
from saliency_tubes.sampling import Sampling
from saliency_tubes.session import Activations
from saliency_tubes.survey import Surveyor
from saliency_tubes.video import FrameArray
from saliency_tubes.view import View, Wanted

from .harness import Result, Row, Within
from .inputs import Inputs, tubes_command
from .looped import looped, repeated

NAME = "long-video"
_RATE, _SECONDS, _TIMES = 30, 10, 180
_SIZE_WH = (1280, 720)
_LENGTH = _RATE * _SECONDS


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Weigh the two."""
    short = looped(inputs.frames, inputs.folder / "short.mp4", _LENGTH, _RATE, _SIZE_WH)
    long = repeated(short, inputs.folder / "long.mp4", _TIMES)
    few, many = (_run(clip, inputs, clock) for clip in (short, long))
    if few.peak_mib is None or many.peak_mib is None:
        raise RuntimeError("this system does not count the memory of a process that ended")
    claim = f"{_TIMES * _SECONDS // 60} minutes of 720p, dense: peak memory against {_SECONDS} seconds"
    facts = (("seconds for the long one", many.seconds), ("seconds for the short one", few.seconds))
    alone = "the same without a label: what is kept of all windows"
    return [
        Result(NAME, claim, "MiB", (many.peak_mib,), (few.peak_mib,), Within(200), facts),
        Result(NAME, alone, "MiB", (_kept(inputs, _TIMES * _LENGTH),), (_kept(inputs, _LENGTH),), Within(200)),
    ]


def _kept(inputs: Inputs, length: int) -> float:
    """MiB that a survey of so many frames allocates at its peak, without labels."""
    spec = load_model(inputs.model, "cpu").spec
    rng = np.random.default_rng(0)
    features = rng.random((1, *spec.features_shape), dtype=np.float32)

    def run(_: NDArray[np.uint8]) -> Activations:
        return Activations(rng.standard_normal((1, spec.num_classes)).astype(np.float32), features)

    clip = FrameArray(np.broadcast_to(np.zeros((1, 8, 8, 3), dtype=np.uint8), (length, 8, 8, 3)))
    tracemalloc.start()
    try:
        Surveyor(clip, spec, View(Sampling.dense(), Fit.WHOLE, Wanted()), run, 1, lambda _: None).survey()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def _run(clip: Path, inputs: Inputs, clock: Clock) -> ProcessRun:
    clock.say(f"{NAME}: {clip.name}")
    where = ["--model", str(inputs.model), "--out", str(inputs.folder / NAME), "--device", "cpu"]
    return run_cold(tubes_command("run", clip, "--label", str(inputs.label), "--sampling", "dense", *where))
