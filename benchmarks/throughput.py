"""Claim: `explain_many` over 64 clips is at least 1.15 times faster than `explain` and `save` one by one, on the CPU.

Both read 64 H.264 videos of the clip, explain one label and save pictures, GIF, video and arrays, with the default
provider. One by one most stages keep all cores busy by themselves; `explain_many` fills what they leave idle, so how
much there is to gain is told beside the result: how many cores' worth of time each way uses.

The other row weighs processes of their own: one that explains the 64 clips, and one that explains a single one.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from saliency_tubes import load_model
from saliency_tubes.bench.cold import run_cold
from saliency_tubes.bench.race import Clock, seconds
from saliency_tubes.choices import Artifact

from .harness import Result, Row, TimesFaster, Within
from .inputs import Inputs

NAME = "throughput"
_CLIPS = 64
_MOST_ROUNDS = 3  # a round takes a minute
_RATE = 25
_WRITTEN = (Artifact.HEATMAP, Artifact.FOCUSMAP, Artifact.OVERLAY, Artifact.GIF, Artifact.NPZ)
_MANY = """
import sys
from saliency_tubes import load_model

model, label, out, written, *clips = sys.argv[1:]
for explanation in load_model(model, "cpu").explain_many(clips, label, out=out, artifacts=written.split(",")):
    pass
"""


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race the two, then weigh them."""
    model = load_model(inputs.model, "cpu")
    clips = _videos(inputs)
    next(model.explain_many(clips, inputs.label))  # its session is made once, before the clock runs

    def one_by_one(out: Path) -> None:
        for clip in clips:
            model.explain(clip, inputs.label).save(out, artifacts=_WRITTEN)

    def many(out: Path) -> None:
        for _ in model.explain_many(clips, inputs.label, out=out, artifacts=_WRITTEN):
            pass

    cores: dict[str, list[float]] = {"one by one": [], "explain_many": []}

    def sampler(name: str, job: Callable[[Path], None]) -> Callable[[int], float]:
        def sample(turn: int) -> float:
            started = time.process_time()
            taken = seconds(lambda: job(inputs.folder / f"{name}-{turn}"))
            cores[name].append((time.process_time() - started) / taken)
            return taken / _CLIPS

        return sample

    few = Clock(min(clock.rounds, _MOST_ROUNDS), clock.say)
    theirs, ours = few.interleave(NAME, sampler("one by one", one_by_one), sampler("explain_many", many))
    facts = tuple((f"cores at work, {name}", min(used)) for name, used in cores.items())
    return [
        Result(
            NAME,
            f"explain_many, {_CLIPS} clips: against one by one, per clip",
            "s",
            ours,
            theirs,
            TimesFaster(1.15),
            facts,
        ),
        _weigh(inputs, clips, few),
    ]


def _weigh(inputs: Inputs, clips: list[Path], clock: Clock) -> Row:
    """Peak memory of 64 clips against that of one."""

    def peak(count: int, turn: int) -> float:
        out = inputs.folder / f"weighed-{count}-{turn}"
        command = [
            sys.executable,
            "-c",
            _MANY,
            str(inputs.model),
            str(inputs.label),
            str(out),
            ",".join(_WRITTEN),
            *map(str, clips[:count]),
        ]
        run = run_cold(command)
        if run.peak_mib is None:
            raise RuntimeError("this system does not count the memory of a process that ended")
        return run.peak_mib

    one, many = clock.interleave(f"{NAME}, memory", lambda turn: peak(1, turn), lambda turn: peak(_CLIPS, turn))
    return Result(NAME, f"explain_many, peak memory: {_CLIPS} clips against one", "MiB", many, one, Within(300))


def _videos(inputs: Inputs) -> list[Path]:
    """The clip's frames as 64 video files."""
    folder = inputs.folder / "videos"
    folder.mkdir()
    first = folder / "clip0.mp4"
    with av.open(str(first), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE)
        pictures = [np.asarray(cv2.imread(str(file)), dtype=np.uint8) for file in sorted(inputs.frames.iterdir())]
        stream.height, stream.width = pictures[0].shape[:2]
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    copies = [folder / f"clip{i}.mp4" for i in range(1, _CLIPS)]
    for copy in copies:
        copy.write_bytes(first.read_bytes())
    return [first, *copies]
