"""Claim: `tubes batch` over 32 clips is ahead of `tubes run` on one after the other.

Whole processes, on H.264 videos of the clip, with what both write by default: overlay, sheet, timeline, report. One
batch loads the network once and overlaps decoding, network, drawing and writing; besides, it records every clip and
makes the gallery.
"""

from pathlib import Path

from saliency_tubes.bench.cold import run_cold
from saliency_tubes.bench.race import Clock

from .harness import Result, Row, TimesFaster
from .inputs import Inputs, tubes_command
from .looped import looped

NAME = "batch"
_CLIPS, _FRAMES, _RATE = 32, 80, 25
_MOST_ROUNDS = 3  # a round takes a minute


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race the two; seconds for each clip."""
    folder = inputs.folder / "batch-clips"
    folder.mkdir()
    first = looped(inputs.frames, folder / "clip0.mp4", _FRAMES, _RATE)
    clips = [first, *(folder / f"clip{i}.mp4" for i in range(1, _CLIPS))]
    for copy in clips[1:]:
        copy.write_bytes(first.read_bytes())
    options = ["--model", str(inputs.model), "--label", str(inputs.label), "--device", "cpu"]

    def one_by_one(turn: int) -> float:
        out = inputs.folder / f"{NAME}-run-{turn}"
        return sum(_seconds("run", clip, "--out", out, *options) for clip in clips) / _CLIPS

    def batch(turn: int) -> float:
        return _seconds("batch", folder, "--out", inputs.folder / f"{NAME}-{turn}", *options) / _CLIPS

    few = Clock(min(clock.rounds, _MOST_ROUNDS), clock.say)
    theirs, ours = few.interleave(NAME, one_by_one, batch)
    return [
        Result(NAME, f"tubes batch, {_CLIPS} clips: against tubes run, per clip", "s", ours, theirs, TimesFaster(1))
    ]


def _seconds(command: str, *arguments: str | Path) -> float:
    return run_cold(tubes_command(command, *arguments)).seconds
