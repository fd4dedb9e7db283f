import json
import sys
from pathlib import Path

import pytest
from saliency_tubes.bench import cold, measure
from saliency_tubes.bench.machine import Machine
from saliency_tubes.bench.race import Race
from saliency_tubes.bench.result import Batch, Benchmark, Cold, Versus
from saliency_tubes.choices import Device, Precision
from test_cli import call
from tiny import tiny_spec, write_tiny


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a `tubes.onnx` in it."""
    write_tiny(tmp_path / "tubes.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(ratio: float, note: str | None = None) -> Benchmark:
    """What would have been measured."""
    return Benchmark(
        machine=Machine("a processor", 2, None, 24.0, "Linux", "3.11.7", {}, 0.0),
        model=Path("tubes.onnx"),
        spec=tiny_spec(),
        device=Device.CPU,
        precision=Precision.FP32,
        runtime="onnxruntime",
        clip="synthetic",
        batches=(Batch(1, (1.0,)),),
        stages={"all": (1.0,)},
        cold=Cold(cold.ProcessRun(1.0, 1.0), (cold.ProcessRun(1.0, 1.0),)),
        versus=Versus("network", "eager PyTorch", Race((1.0,), (ratio,))),
        notes=() if note is None else (note,),
    )


def test_bench_measures_and_prints(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(measure, "_COLD_RUNS", 1)

    assert call("bench", "--device", "cpu", "--rounds", "1", "--json", "bench.json", monkeypatch=monkeypatch) == 0

    captured = capsys.readouterr()
    assert captured.out.startswith("machine   ")
    for line in ("network   p50 ", "clips/s   ", "stages    decode and crop ", "start     ", "memory    "):
        assert f"\n{line}" in captured.out
    assert captured.err == ""
    document = json.loads((workplace / "bench.json").read_text())
    assert document["cold_start"]["p50_s"] > 0
    assert document["against"] is None
    assert sorted(path.name for path in workplace.iterdir()) == ["bench.json", "tubes.onnx"]


def test_bench_passes_its_options_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def note(*arguments: object, **options: object) -> Benchmark:
        asked.extend([*arguments, options["precision"], options["clip"], options["rounds"], options["prepare"]])
        return found(1.0)

    monkeypatch.setattr(measure, "measure", note)
    options = ["-m", "m.onnx", "--device", "openvino", "--precision", "bf16", "--clip", "c.mp4", "--rounds", "7"]

    assert call("bench", *options, monkeypatch=monkeypatch) == 0
    assert asked == [Path("m.onnx"), Device.OPENVINO, Precision.BF16, Path("c.mp4"), 7, None]


def test_json_on_stdout_is_alone_there(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(measure, "measure", lambda *_, **__: found(1.0, "running on the CPU: because"))

    assert call("bench", "--json", "-", monkeypatch=monkeypatch) == 0

    captured = capsys.readouterr()
    assert json.loads(captured.out)["against"]["opponent"] == "eager PyTorch"
    assert captured.err.startswith("note: running on the CPU: because\nmachine   a processor")


@pytest.mark.parametrize(("ratio", "code"), [(1.5, 0), (1.0, 0), (0.99, 1)])
def test_a_missed_bar_is_exit_code_1_and_all_is_written_before(
    workplace: Path, ratio: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(measure, "measure", lambda *_, **__: found(ratio))
    monkeypatch.setattr("saliency_tubes.cli_models._opponent", lambda against: against)
    options = ["--against", "eager", "--fail-under", "1.0", "--json", "bench.json"]

    assert call("bench", *options, monkeypatch=monkeypatch) == code

    captured = capsys.readouterr()
    assert f"ratio     {ratio:.2f} (paired" in captured.out
    assert json.loads((workplace / "bench.json").read_text())["against"]["ratio_of_medians"] == ratio
    missed = "error: ours is 0.990 times as fast as eager PyTorch: below the bar of 1\n"
    assert captured.err == (missed if code else "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-under", "1"], "needs --against"),
        *(
            (["--against", "eager", "--fail-under", bar], "expected a number above 0")
            for bar in ("nan", "0", "-1", "inf")
        ),
        (["--rounds", "0"], "0 is not in the range"),
        (["--against", "keras"], "'keras' is not one of"),
    ],
)
def test_a_bench_that_is_used_wrongly_is_exit_code_2(
    workplace: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(measure, "measure", lambda *_, **__: pytest.fail("nothing is to be measured"))

    assert call("bench", *arguments, monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere.onnx"], "error: no model file at nowhere.onnx: make one with `tubes export"),
        (["--clip", "nowhere.mp4"], "error: nowhere.mp4 does not exist: expected a video file"),
        (["--json", "."], "error: . is there and is no file: name another place with --json"),
        (["--json", "no/folder/b.json"], "error: cannot write no/folder/b.json: No such file or directory. Check the"),
    ],
)
def test_what_cannot_be_measured_or_written_is_one_sentence(
    workplace: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(measure, "measure_batches", lambda *_: pytest.fail("this is known before it takes time"))

    assert call("bench", "--device", "cpu", *arguments, monkeypatch=monkeypatch) == 1

    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert [path.name for path in workplace.iterdir()] == ["tubes.onnx"]


@pytest.mark.parametrize(
    ("against", "package", "extra"),
    [("eager", "torch", "export"), ("reference", "torch", "export"), ("reference", "scipy", "bench")],
)
def test_an_opponent_that_is_not_installed_is_named_with_its_mend(
    workplace: Path,
    against: str,
    package: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    if package != "torch":
        pytest.importorskip("torch")
    for name in [name for name in sys.modules if name.split(".")[0] == "saliency_tubes_export"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith(f"{package}.")] if package == "scipy" else []:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    assert call("bench", "--against", against, "--json", "b.json", monkeypatch=monkeypatch) == 1

    assert capsys.readouterr().err == (
        f"error: `tubes bench --against {against}` needs {package}, which is not installed: "
        f"pip install 'saliency-tubes[{extra}]'\n"
    )
    assert not (workplace / "b.json").exists()


@pytest.mark.parametrize("against", ["eager", "reference"])
def test_a_network_that_no_opponent_knows_is_said(
    workplace: Path, against: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("torch")

    assert call("bench", "--device", "cpu", "--against", against, monkeypatch=monkeypatch) == 1

    assert capsys.readouterr().err == (
        "error: --against knows the network mfnet-3d alone, and this model file holds tiny: measure it without --against\n"
    )
