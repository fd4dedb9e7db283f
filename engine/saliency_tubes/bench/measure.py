"""What `tubes bench` measures of a model file: its network, its stages, its start, and a race against somebody else."""

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..choices import PUBLISHED, Align, Device, Precision
from ..errors import ModelFileError
from ..graph_cache import GraphCache
from ..model import TubeModel
from ..session import Session, open_session
from ..spec import ModelSpec
from ..synthetic import synthetic_clip, write_frames
from ..writers import INFO_FILE
from .cold import ProcessRun, run_cold
from .machine import describe
from .race import Clock, Opponent, Race, Samples, seconds
from .result import Batch, Benchmark, Cold, Versus

BATCHES = (1, 2, 4, 8)
_SEED = 0
_FEWEST_RUNS = 3
_BUDGET_SECONDS = 10.0
_BATCH_BUDGET_SECONDS = 3.0
_SLOWEST_BATCH_SECONDS = 5.0  # the next one takes twice as long and twice the memory, and tells little more
_COLD_RUNS = 3
_LABEL = 0  # any: no stage's time depends on it
# The command itself, however this package was found; its script may not be on the path.
_TUBES = [sys.executable, "-c", "from saliency_tubes.cli import entry; entry()"]

Prepare = Callable[[ModelSpec, Device, NDArray[np.uint8], Path], Opponent]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is measured on.

    Attributes:
        pixels: (1, T, H, W, 3) uint8 RGB, what the network sees.
        frames: a folder of JPEG frames.
        clip: what stages and start are measured on: `frames`, or a clip of the user's.
        origin: what `clip` is, for the report.
        scratch: an empty folder, gone after the measurement.
    """

    pixels: NDArray[np.uint8]
    frames: Path
    clip: Path
    origin: str
    scratch: Path


def measure(
    path: Path,
    device: Device,
    *,
    precision: Precision | None = None,
    clip: Path | None = None,
    rounds: int = 20,
    prepare: Prepare | None = None,
    progress: Callable[[str], None] | None = None,
) -> Benchmark:
    """Measure a model file.

    Args:
        path: the model file.
        device: where to run it.
        precision: what to compute in; None: the device's own choice.
        clip: what stages and start are measured on; None: a synthetic clip.
        rounds: how often to measure each thing; what takes long stops earlier, but not before three runs.
        prepare: makes the opponent, given the model's spec and device, (1, T, H, W, 3) uint8 RGB pixels, and a folder
            of frames. None: no race.
        progress: called with a few words before each measurement.

    Raises:
        SourceError: the clip cannot be read.
        ModelFileError: no such file, not exported by us, or ONNX Runtime fails.
        DeviceError: a device asked for by name did not load.
        BenchmarkError: the opponent cannot do this model's job, or `tubes run` fails as a process of its own.
    """
    say = progress or (lambda _: None)
    say(f"loading {path}")
    session = open_session(path, device, precision, GraphCache.of_user())
    model = TubeModel.of(path, session)
    machine = describe()
    say("making a clip")
    with prepared(model.spec, clip) as inputs:
        opponent = None
        if prepare is not None:  # before all else: whether it can be there at all
            say("preparing the opponent")
            opponent = prepare(model.spec, session.device, inputs.pixels, inputs.frames)
        stages = measure_stages(model, inputs, rounds, say)
        batches = measure_batches(session, inputs.pixels, rounds, say)
        options = ["--model", str(path), "--device", session.device.value]
        options += [] if precision is None else ["--precision", precision.value]
        cold = measure_cold(inputs, options, say)
        versus = None if opponent is None else race(opponent, session, model, inputs, Clock(rounds, say))
    return Benchmark(
        machine=machine,
        model=path,
        spec=model.spec,
        device=session.device,
        precision=session.precision,
        runtime=session.runtime,
        clip=inputs.origin,
        batches=batches,
        stages=stages,
        cold=cold,
        versus=versus,
        notes=() if model.note is None else (model.note,),
    )


@contextmanager
def prepared(spec: ModelSpec, clip: Path | None) -> Iterator[Inputs]:
    """Make a seeded clip in the model's own shape, and a folder of frames, a third wider than high, in a video's."""
    height, width = spec.preprocessing.resize_hw
    with tempfile.TemporaryDirectory(prefix="tubes-bench-") as name:
        shape = (spec.frames, height, round(width * 4 / 3), 3)
        frames = write_frames(Path(name) / "clip", synthetic_clip(shape, _SEED))
        origin = f"synthetic, {shape[0]} JPEG frames of {shape[2]}x{shape[1]}" if clip is None else str(clip)
        pixels = synthetic_clip(spec.input_shape, _SEED)[None]
        yield Inputs(pixels, frames, frames if clip is None else clip, origin, Path(name) / "out")


def repeat(
    job: Callable[[], object], rounds: int, budget: float, now: Callable[[], float] = time.perf_counter
) -> Samples:
    """Seconds of each run of a job: one run unmeasured, then `rounds`.

    Once `budget` seconds are spent and three runs are taken, no further run begins.
    """
    job()
    samples: list[float] = []
    while len(samples) < rounds and (len(samples) < _FEWEST_RUNS or sum(samples) < budget):
        started = now()
        job()
        samples.append(now() - started)
    return tuple(samples)


def measure_stages(model: TubeModel, inputs: Inputs, rounds: int, say: Callable[[str], None]) -> dict[str, Samples]:
    """Explain and save the clip again and again; the stages' own seconds are those that ``info.json`` carries."""
    stages: dict[str, list[float]] = {}

    def once() -> None:
        (folder,) = model.explain(inputs.clip, _LABEL, align=Align.CORNERS).save(inputs.scratch, artifacts=PUBLISHED)
        timings = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))["timings_s"]
        for stage, value in timings.items():
            stages.setdefault(stage, []).append(value)

    say("stages of explaining and saving a clip")
    whole = repeat(once, rounds, _BUDGET_SECONDS)
    shutil.rmtree(inputs.scratch)
    return {stage: tuple(values[1:]) for stage, values in stages.items()} | {"all": whole}


def measure_batches(
    session: Session, pixels: NDArray[np.uint8], rounds: int, say: Callable[[str], None]
) -> tuple[Batch, ...]:
    """Run the network on growing batches, until one does not fit into memory or takes very long.

    Raises:
        ModelFileError: it does not even run on one clip.
    """
    measured: list[Batch] = []
    for size in BATCHES:
        say(f"network, {size} clips at once" if size > 1 else "network")
        clips = np.repeat(pixels, size, axis=0)
        try:
            budget = _BUDGET_SECONDS if size == 1 else _BATCH_BUDGET_SECONDS
            samples = repeat(partial(session.run, clips), rounds, budget)
        except ModelFileError:
            if not measured:
                raise
            break
        measured.append(Batch(size, samples))
        if statistics.median(samples) > _SLOWEST_BATCH_SECONDS:
            break
    return tuple(measured)


def measure_cold(inputs: Inputs, options: list[str], say: Callable[[str], None]) -> Cold:
    """Run `tubes run` in new processes, with a cache for optimised graphs of their own."""

    def once(turn: int) -> ProcessRun:
        say(f"tubes run as a new process: {turn} of {_COLD_RUNS}" if turn else "tubes run as a new process: the first")
        out = inputs.scratch / f"cold-{turn}"
        command = [*_TUBES, "run", str(inputs.clip), "--label", str(_LABEL), "--out", str(out)]
        command += ["--save", ",".join(PUBLISHED), *options]
        return run_cold(command, inputs.frames.parent / "graphs")

    first = once(0)
    return Cold(first, tuple(once(turn) for turn in range(1, _COLD_RUNS + 1)))


def race(opponent: Opponent, session: Session, model: TubeModel, inputs: Inputs, clock: Clock) -> Versus:
    """Let the opponent and ours do the same job in turn."""

    def ours(out: Path) -> object:
        if opponent.job == "network":
            return session.run(inputs.pixels)
        return model.explain(inputs.frames, _LABEL, align=Align.CORNERS).save(out, artifacts=PUBLISHED)

    theirs_s, ours_s = clock.interleave(
        "race",
        lambda turn: seconds(lambda: opponent.run(inputs.scratch / f"theirs-{turn}")),
        lambda turn: seconds(lambda: ours(inputs.scratch / f"ours-{turn}")),
    )
    return Versus(opponent.job, opponent.what, Race(ours_s, theirs_s))
