"""Claim: explaining half an hour of video takes at most 200 MiB more memory than explaining ten seconds of it.

Whole processes of ``tubes run --sampling dense`` with what it writes by default, on 720p video: one run of each length,
because the long one takes half an hour itself. Peak resident sets, as the kernel counted them.
"""

from pathlib import Path

from saliency_tubes.bench.cold import ProcessRun, run_cold
from saliency_tubes.bench.race import Clock

from .harness import Result, Row, Within
from .inputs import Inputs, tubes_command
from .looped import looped, repeated

NAME = "long-video"
_RATE, _SECONDS, _TIMES = 30, 10, 180
_SIZE_WH = (1280, 720)


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Weigh the two."""
    short = looped(inputs.frames, inputs.folder / "short.mp4", _RATE * _SECONDS, _RATE, _SIZE_WH)
    long = repeated(short, inputs.folder / "long.mp4", _TIMES)
    few, many = (_run(clip, inputs, clock) for clip in (short, long))
    if few.peak_mib is None or many.peak_mib is None:
        raise RuntimeError("this system does not count the memory of a process that ended")
    claim = f"{_TIMES * _SECONDS // 60} minutes of 720p, dense: peak memory against {_SECONDS} seconds"
    facts = (("seconds for the long one", many.seconds), ("seconds for the short one", few.seconds))
    return [Result(NAME, claim, "MiB", (many.peak_mib,), (few.peak_mib,), Within(200), facts)]


def _run(clip: Path, inputs: Inputs, clock: Clock) -> ProcessRun:
    clock.say(f"{NAME}: {clip.name}")
    where = ["--model", str(inputs.model), "--out", str(inputs.folder / NAME), "--device", "cpu"]
    return run_cold(tubes_command("run", clip, "--label", str(inputs.label), "--sampling", "dense", *where))
