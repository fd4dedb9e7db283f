import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from saliency_tubes.bench import launch, machine, measure, race
from saliency_tubes.bench.cold import ProcessRun, run_cold
from saliency_tubes.bench.race import Clock, Opponent, Race
from saliency_tubes.bench.report import document, text
from saliency_tubes.bench.result import Batch, Benchmark, Cold, Versus
from saliency_tubes.choices import Device, Precision
from saliency_tubes.errors import BenchmarkError, ModelFileError, OutputError, SourceError
from saliency_tubes.graph_cache import VARIABLE
from saliency_tubes.replacing import replacing_file
from saliency_tubes.synthetic import synthetic_clip, write_frames
from saliency_tubes.video import open_clip
from tiny import CLASSES, FRAMES, SIZE, tiny_spec, write_tiny

MACHINE = machine.Machine("a processor", 2, None, 24.0, "Linux", "3.11.7", {"numpy": "2.0"}, 0.25)


def benchmark(**changes: object) -> Benchmark:
    """A benchmark whose numbers are easy to check."""
    fields: dict[str, object] = {
        "machine": MACHINE,
        "model": Path("tubes.onnx"),
        "spec": tiny_spec(),
        "device": Device.CPU,
        "precision": Precision.FP32,
        "runtime": "onnxruntime 1.31",
        "clip": "synthetic",
        "batches": (Batch(1, tuple(np.linspace(0.2, 0.22, 21).tolist())), Batch(2, (0.25, 0.25, 0.26))),
        "stages": {"network": (0.2, 0.2, 0.21), "all": (1.25, 1.25, 1.3)},
        "cold": Cold(ProcessRun(0.9, 250.0), (ProcessRun(0.7, 240.0), ProcessRun(0.8, 245.0), ProcessRun(0.75, 242.0))),
        "versus": Versus("network", "somebody", Race((0.2, 0.2, 0.2), (0.3, 0.38, 0.36))),
        "notes": (),
    }
    return Benchmark(**(fields | changes))  # type: ignore[arg-type]


class FakeSession:
    """Runs on up to `most` clips."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.runs: list[int] = []

    def run(self, frames: np.ndarray) -> None:
        if len(frames) > self.most:
            raise ModelFileError("no memory left")
        self.runs.append(len(frames))


def ticking(*durations: float) -> tuple[Callable[[], float], list[int]]:
    """A clock by which job after job takes these seconds, and a list that counts the jobs done."""
    edges = iter(edge for duration in durations for edge in (0.0, duration))
    return lambda: next(edges), []


def test_a_job_is_measured_as_often_as_asked_after_one_run_that_does_not_count() -> None:
    now, done = ticking(1, 2, 3, 4)

    samples = measure.repeat(lambda: done.append(1), 4, 100.0, now)

    assert samples == (1, 2, 3, 4)
    assert len(done) == 5


@pytest.mark.parametrize(("durations", "taken"), [((9, 9, 9, 9), 3), ((3, 3, 3, 3, 3), 4), ((1,) * 20, 10)])
def test_what_takes_long_is_measured_less_often_but_three_times(durations: tuple[float, ...], taken: int) -> None:
    now, done = ticking(*durations)

    assert len(measure.repeat(lambda: done.append(1), 20, 10.0, now)) == taken


def test_fewer_rounds_than_three_are_possible() -> None:
    now, done = ticking(20)

    assert measure.repeat(lambda: done.append(1), 1, 10.0, now) == (20,)


def test_rounds_are_interleaved_and_the_first_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_SETTLE_SECONDS", 0)
    calls: list[tuple[str, int]] = []
    said: list[str] = []

    theirs, ours = Clock(2, said.append).interleave(
        "x", lambda turn: calls.append(("theirs", turn)) or turn, lambda turn: calls.append(("ours", turn)) or -turn
    )

    assert (theirs, ours) == ((1, 2), (-1, -2))
    assert calls == [(who, turn) for turn in (0, 1, 2) for who in ("theirs", "ours")]
    assert said == ["x: warming up", "x: round 1 of 2", "x: round 2 of 2"]


def test_the_ratio_is_of_medians_and_the_paired_one_of_rounds() -> None:
    result = Race(ours=(1.0, 2.0, 4.0), theirs=(2.0, 8.0, 5.0))

    assert result.ratio == 5 / 2
    assert result.paired_ratio == 2.0


@pytest.mark.parametrize(
    ("ours", "theirs", "steady"),
    [((1, 1.25, 9), (1, 1, 1), True), ((1, 1.26, 9), (1, 1, 1), False), ((1, 1, 1), (1, 1.26, 1.3), False)],
)
def test_a_race_is_steady_where_both_medians_are_close_to_the_minimum(
    ours: tuple[float, ...], theirs: tuple[float, ...], steady: bool
) -> None:
    assert Race(ours, theirs).steady is steady


def test_a_bar_is_met_or_the_error_says_by_how_much_it_was_missed() -> None:
    even = Versus("network", "somebody", Race((1.0, 1.0), (1.0, 1.0)))
    slower = Versus("network", "somebody", Race((1.0, 1.0), (0.999, 0.999)))
    unsteady = Versus("network", "somebody", Race((1.0, 2.0, 2.0), (1.0, 1.0, 1.0)))

    even.require(1.0)
    with pytest.raises(BenchmarkError, match=r"^ours is 0.999 times as fast as somebody: below the bar of 1$"):
        slower.require(1.0)
    with pytest.raises(BenchmarkError, match=r"0.500 times .* bar of 0.8; the samples are unsteady, so measure again"):
        unsteady.require(0.8)


@pytest.mark.parametrize(("most", "sizes"), [(8, [1, 2, 4, 8]), (3, [1, 2])])
def test_batches_grow_until_one_does_not_fit(most: int, sizes: list[int]) -> None:
    session = FakeSession(most)

    batches = measure.measure_batches(session, np.zeros((1, 1, 2, 2, 3), np.uint8), 2, lambda _: None)  # type: ignore[arg-type]

    assert [batch.size for batch in batches] == sizes
    assert session.runs == [size for size in sizes for _ in range(3)]


def test_batches_stop_growing_where_one_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "repeat", lambda job, *_: (4.0,) if job.args[0].shape[0] < 4 else (6.0,))

    batches = measure.measure_batches(FakeSession(8), np.zeros((1, 1, 2, 2, 3), np.uint8), 2, lambda _: None)  # type: ignore[arg-type]

    assert [(batch.size, batch.clips_per_second) for batch in batches] == [(1, 1 / 4), (2, 2 / 4), (4, 4 / 6)]


def test_a_network_that_does_not_run_at_all_is_an_error() -> None:
    with pytest.raises(ModelFileError, match="no memory left"):
        measure.measure_batches(FakeSession(0), np.zeros((1, 1, 2, 2, 3), np.uint8), 2, lambda _: None)  # type: ignore[arg-type]


def test_a_cold_run_counts_time_and_memory_of_the_process(tmp_path: Path) -> None:
    hold = f"import os; a = bytearray(64 << 20); assert os.environ[{VARIABLE!r}] == {str(tmp_path)!r}; print('noise')"

    run = run_cold([sys.executable, "-c", hold], tmp_path)

    assert run.seconds > 0
    assert run.peak_mib is None or 64 < run.peak_mib < 256


def test_a_cold_run_that_fails_is_told_in_its_own_last_words() -> None:
    with pytest.raises(BenchmarkError, match=r"ended with exit code 3: what it says$"):
        run_cold(
            [
                sys.executable,
                "-c",
                "import sys; print('noise', 'what it says', sep='\\n', file=sys.stderr); sys.exit(3)",
            ]
        )


def test_where_the_system_does_not_count_memory_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    assert launch._wait(subprocess.Popen([sys.executable, "-c", "raise SystemExit(4)"])) == (4, None)


def test_the_machine_is_described_without_a_gpu_and_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.describe().gpu is None

    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Some GPU, 580.1'\necho 'Some GPU, 580.1'\n")
    tool.chmod(0o755)
    found = machine.describe()
    assert found.gpu == "Some GPU driver 580.1, Some GPU driver 580.1"
    assert "Some GPU driver 580.1" in found.lines()[0]
    assert found.cores >= 1
    assert found.versions["numpy"] == np.__version__

    tool.write_text("#!/bin/sh\necho 'it has failed'\nexit 9\n")
    assert machine.describe().gpu is None


def test_a_synthetic_clip_is_seeded_and_its_frames_can_be_read(tmp_path: Path) -> None:
    frames = synthetic_clip((3, 24, 32, 3), 1)

    np.testing.assert_array_equal(frames, synthetic_clip((3, 24, 32, 3), 1))
    assert (frames != synthetic_clip((3, 24, 32, 3), 2)).mean() > 0.9
    clip = open_clip(write_frames(tmp_path / "new" / "clip", frames))
    read = np.stack([frame.rgb for frame in clip.read([0, 1, 2])])
    assert np.abs(read.astype(int) - frames).mean() < 12  # JPEG


def test_what_goes_wrong_with_another_file_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"elsewhere"), replacing_file(tmp_path / "out.json", "--json"):
        (tmp_path / "elsewhere").read_bytes()

    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    target.write_text("old")

    with pytest.raises(RuntimeError, match="half way"), replacing_file(target, "--json") as staging:
        staging.write_text("half")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    with replacing_file(target, "--json") as staging:
        staging.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", [".", "/dev/null"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="is there and is no file: name another place with --json"):  # noqa: SIM117
        with replacing_file(tmp_path / name, "--json"):
            pytest.fail("nothing is to be filled")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One cold run more than the first, and no pauses."""
    monkeypatch.setattr(measure, "_COLD_RUNS", 1)
    monkeypatch.setattr(race, "_SETTLE_SECONDS", 0)


@pytest.mark.parametrize("job", ["network", "pipeline"])
@pytest.mark.usefixtures("quick")
def test_everything_is_measured(tmp_path: Path, job: race.Job) -> None:
    prepared: list[object] = []
    outs: list[Path] = []

    def prepare(spec: object, device: Device, pixels: np.ndarray, frames: Path) -> Opponent:
        prepared.extend([device, pixels.shape, len(list(frames.iterdir()))])
        return Opponent(job, "somebody", outs.append)

    found = measure.measure(write_tiny(tmp_path / "m.onnx"), Device.CPU, rounds=2, prepare=prepare)

    assert prepared == [Device.CPU, (1, FRAMES, SIZE, SIZE, 3), FRAMES]
    assert len(set(outs)) == 3
    assert [batch.size for batch in found.batches] == [1, 2, 4, 8]
    assert all(len(batch.seconds) == 2 for batch in found.batches)
    assert list(found.stages) == ["decode_and_crop", "network", "tube", "save", "all"]
    assert all(len(samples) == 2 for samples in found.stages.values())
    assert found.cold.first.seconds > 0
    assert len(found.cold.later) == 1
    assert found.versus is not None
    assert (found.versus.job, found.versus.opponent) == (job, "somebody")
    assert len(found.versus.race.ours) == len(found.versus.race.theirs) == 2
    assert (found.device, found.precision, found.notes) == (Device.CPU, Precision.FP32, ())
    assert found.clip == f"synthetic, {FRAMES} JPEG frames of 48x36"
    json.dumps(document(found), allow_nan=False)
    assert text(found)


@pytest.mark.usefixtures("quick")
def test_a_clip_of_the_users_is_measured_and_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = write_frames(tmp_path / "mine", synthetic_clip((6, 24, 32, 3), 1))
    commands: list[list[str]] = []

    def note(command: list[str], cache: Path) -> ProcessRun:
        commands.append(command)
        return ProcessRun(1.0, None)

    monkeypatch.setattr(measure, "run_cold", note)

    found = measure.measure(
        write_tiny(tmp_path / "m.onnx"), Device.CPU, precision=Precision.FP32, clip=frames, rounds=1
    )

    assert found.clip == str(frames)
    assert len(list(frames.iterdir())) == 6
    assert commands[0][4:8] == [str(frames), "--label", "0", "--out"]
    assert commands[0][9:11] == ["--save", "heatmap,focusmap"]
    assert commands[0][11:] == ["--model", str(tmp_path / "m.onnx"), "--device", "cpu", "--precision", "fp32"]


@pytest.mark.parametrize(("job", "done"), [("network", ["run"] * 2), ("pipeline", ["explain", "save"] * 2)])
@pytest.mark.usefixtures("quick")
def test_ours_does_the_job_that_the_opponent_does(tmp_path: Path, job: race.Job, done: list[str]) -> None:
    ours = Mock()
    ours.run.side_effect = lambda _: calls.append("run")
    ours.explain.side_effect = lambda *_, **__: calls.append("explain") or ours
    ours.save.side_effect = lambda _, **__: calls.append("save")
    calls: list[str] = []
    inputs = measure.Inputs(np.zeros((1, 1, 2, 2, 3), np.uint8), tmp_path, tmp_path, "", tmp_path)

    measure.race(Opponent(job, "somebody", lambda _: None), ours, ours, inputs, Clock(1, lambda _: None))

    assert calls == done


def test_a_clip_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.mp4 does not exist"):
        measure.measure(write_tiny(tmp_path / "m.onnx"), Device.CPU, clip=tmp_path / "nowhere.mp4")


def test_the_document_holds_every_sample() -> None:
    found = document(benchmark())

    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert found["machine"]["cpu"] == "a processor"
    assert found["model"]["size_hw"] == [SIZE, SIZE]
    assert found["model"]["classes"] == CLASSES
    assert (found["device"], found["precision"], found["runtime"]) == ("cpu", "fp32", "onnxruntime 1.31")
    assert found["network"]["p50_s"] == pytest.approx(0.21)
    assert found["network"]["p95_s"] == pytest.approx(0.219)
    assert found["network"]["samples_s"] == pytest.approx(np.linspace(0.2, 0.22, 21))
    assert found["batches"][1]["clips_per_second"] == 8.0
    assert found["stages"]["all"]["p50_s"] == 1.25
    assert (found["cold_start"]["first_s"], found["cold_start"]["p50_s"]) == (0.9, 0.75)
    assert found["peak_memory_mib"] == 245.0
    assert found["against"]["ratio_of_medians"] == pytest.approx(1.8)
    assert found["against"]["median_of_ratios"] == pytest.approx(1.8)
    assert found["against"]["theirs"]["samples_s"] == [0.3, 0.38, 0.36]
    assert found["steady"] is True


def test_the_text_says_what_was_measured_and_on_what() -> None:
    lines = text(benchmark()).splitlines()

    assert lines == [
        "machine   a processor, 2 cores, 24 GiB, Linux, load 0.25",
        "versions  Python 3.11.7, numpy 2.0",
        f"model     tubes.onnx: tiny, {CLASSES} classes, {FRAMES} frames of {SIZE}x{SIZE}",
        "runs on   cpu, fp32, layout plain, onnxruntime 1.31",
        "clip      synthetic",
        "",
        "network   p50 210 ms, p95 219 ms, one clip, 21 runs",
        "clips/s   4.76 in batches of 1, 8 in batches of 2",
        "stages    network 200 ms, all 1.250 s",
        "start     750 ms: `tubes run` as a new process; the first time 900 ms",
        "memory    245 MiB at most in that process",
        "against   somebody",
        "ratio     1.80 (paired 1.80): theirs 360 ms, ours 200 ms, one clip in memory to logits and features, 3 rounds "
        "in turn",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"batches": (Batch(1, (0.1, 0.2, 0.3)),)},
        {"stages": {"all": (0.1, 0.2, 0.3)}},
        {"versus": Versus("network", "somebody", Race((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)))},
    ],
)
def test_unsteady_samples_are_said(changes: dict[str, object]) -> None:
    found = benchmark(**changes)

    assert text(found).splitlines()[-1].startswith("UNSTEADY: ")
    assert document(found)["steady"] is False


def test_memory_that_was_not_counted_is_not_made_up() -> None:
    found = benchmark(cold=Cold(ProcessRun(1.0, None), (ProcessRun(1.0, None),)), versus=None)

    assert "memory    not measured on this system" in text(found).splitlines()
    assert document(found)["peak_memory_mib"] is None
    assert document(found)["against"] is None
