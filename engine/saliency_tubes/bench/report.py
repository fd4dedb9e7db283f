"""A benchmark as lines for people and as a document for machines."""

import statistics
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from .race import Samples, is_steady
from .result import Benchmark, Cold, Versus

_JOBS = {"network": "one clip in memory to logits and features", "pipeline": "a folder of frames to pictures"}


def text(benchmark: Benchmark) -> str:
    """A few aligned lines."""
    return "\n".join(_lines(benchmark))


def document(benchmark: Benchmark) -> dict[str, Any]:
    """Everything, raw samples included, as JSON types."""
    spec = benchmark.spec
    T, H, W, _ = spec.input_shape
    return {
        "machine": asdict(benchmark.machine),
        "model": {
            "path": str(benchmark.model),
            "architecture": spec.architecture,
            "checkpoint_sha256": spec.checkpoint_sha256,
            "layout": spec.layout.value,
            "classes": spec.num_classes,
            "frames": T,
            "size_hw": [H, W],
        },
        "device": benchmark.device.value,
        "precision": benchmark.precision.value,
        "runtime": benchmark.runtime,
        "clip": benchmark.clip,
        "network": _summary(benchmark.network),
        "batches": [
            {"size": batch.size, "clips_per_second": batch.clips_per_second} | _summary(batch.seconds)
            for batch in benchmark.batches
        ],
        "stages": {name: _summary(samples) for name, samples in benchmark.stages.items()},
        "cold_start": {"first_s": benchmark.cold.first.seconds} | _summary(_cold_seconds(benchmark.cold)),
        "peak_memory_mib": _peak_mib(benchmark.cold),
        "against": None if benchmark.versus is None else _race_document(benchmark.versus),
        "steady": benchmark.steady,
        "notes": list(benchmark.notes),
    }


def _race_document(versus: Versus) -> dict[str, Any]:
    return {
        "job": versus.job,
        "opponent": versus.opponent,
        "ratio_of_medians": versus.race.ratio,
        "median_of_ratios": versus.race.paired_ratio,
        "steady": versus.race.steady,
        "ours": _summary(versus.race.ours),
        "theirs": _summary(versus.race.theirs),
    }


def _summary(samples: Samples) -> dict[str, Any]:
    return {
        "p50_s": statistics.median(samples),
        "p95_s": float(np.percentile(samples, 95)),
        "steady": is_steady(samples),
        "samples_s": list(samples),
    }


def _lines(benchmark: Benchmark) -> Iterator[str]:
    spec = benchmark.spec
    T, H, W, _ = spec.input_shape
    yield from benchmark.machine.lines()
    yield f"model     {benchmark.model}: {spec.architecture}, {spec.num_classes} classes, {T} frames of {W}x{H}"
    yield f"runs on   {benchmark.device}, {benchmark.precision}, layout {spec.layout}, {benchmark.runtime}"
    yield f"clip      {benchmark.clip}"
    yield ""
    p95 = float(np.percentile(benchmark.network, 95))
    yield f"network   p50 {_time(benchmark.network)}, p95 {_amount(p95)}, one clip, {len(benchmark.network)} runs"
    rates = (f"{batch.clips_per_second:.3g} in batches of {batch.size}" for batch in benchmark.batches)
    yield f"clips/s   {', '.join(rates)}"
    stages = (f"{name.replace('_', ' ')} {_time(samples)}" for name, samples in benchmark.stages.items())
    yield f"stages    {', '.join(stages)}"
    first = _amount(benchmark.cold.first.seconds)
    yield f"start     {_time(_cold_seconds(benchmark.cold))}: `tubes run` as a new process; the first time {first}"
    peak = _peak_mib(benchmark.cold)
    yield f"memory    {'not measured on this system' if peak is None else f'{peak:.0f} MiB at most in that process'}"
    if benchmark.versus is not None:
        yield from _race_lines(benchmark.versus)
    if not benchmark.steady:
        yield "UNSTEADY: something else was running, so the medians say little; measure on a quiet machine"


def _race_lines(versus: Versus) -> Iterator[str]:
    race = versus.race
    yield f"against   {versus.opponent}"
    yield (
        f"ratio     {race.ratio:.2f} (paired {race.paired_ratio:.2f}): theirs {_time(race.theirs)}, ours "
        f"{_time(race.ours)}, {_JOBS[versus.job]}, {len(race.ours)} rounds in turn"
    )


def _cold_seconds(cold: Cold) -> Samples:
    return tuple(run.seconds for run in cold.later)


def _peak_mib(cold: Cold) -> float | None:
    """The largest of the later runs; None where the system does not say."""
    return max((run.peak_mib for run in cold.later if run.peak_mib is not None), default=None)


def _time(samples: Samples) -> str:
    return _amount(statistics.median(samples))


def _amount(value: float) -> str:
    return f"{value:.3f} s" if value >= 1 else f"{1000 * value:.3g} ms"
