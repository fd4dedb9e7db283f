import json
import os
import resource
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from clips import moving_square, write_folder, write_video
from saliency_tubes import cli
from saliency_tubes.graph_cache import PUBLISHER
from tiny import FRAMES, LABELS, tiny_spec, write_tiny

COMMAND = Path(sysconfig.get_path("scripts")) / "tubes"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `tubes.onnx` and `clip.mp4`, which is also the current one."""
    write_tiny(tmp_path / "tubes.onnx")
    write_video(tmp_path / "clip.mp4", moving_square(20), faststart=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tubes(*arguments: str, expect: int = 0, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, as a user does."""
    command = [sys.executable, "-c", "from saliency_tubes.cli import main; main()", *arguments]
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)  # type: ignore[call-overload]
    assert result.returncode == expect, result.stderr
    return result


def call(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["tubes", *arguments])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_run_explains_the_predicted_class_by_default(workplace: Path) -> None:
    result = tubes("run", "clip.mp4", "--device", "cpu")

    (folder,) = (workplace / "visualisations" / "clip").iterdir()
    info = json.loads((folder / "info.json").read_text())
    assert info["predicted"]["index"] == int(folder.name) == info["label"]["index"]
    assert f"predicted  {folder.name} {LABELS[int(folder.name)]} (probability " in result.stdout
    assert f"written to visualisations/clip/{folder.name}" in result.stdout
    assert result.stderr == ""


def test_run_takes_labels_by_index_and_name_and_prints_json(workplace: Path) -> None:
    result = tubes("run", "clip.mp4", "-l", "3", "-l", "Bowling", "--top-k", "1", "--out", "figures", "--json")

    document = json.loads(result.stdout)
    assert [label["index"] for label in document["labels"]][:2] == [3, 1]
    assert document["labels"][1]["name"] == "bowling"
    assert {label["index"] for label in document["labels"]} == {3, 1, document["predicted"]["index"]}
    for label in document["labels"]:
        assert (workplace / label["out"] / "overlay.mp4").is_file()
    assert document["device"] in ("cpu", "cuda", "openvino")
    assert len(document["top5"]) == 5


def test_auto_says_on_stderr_what_it_chose_without_cuda(workplace: Path) -> None:
    result = tubes("run", "clip.mp4")

    device = json.loads(next((workplace / "visualisations" / "clip").iterdir()).joinpath("info.json").read_text())
    if device["model"]["device"] != "cuda":
        assert result.stderr.startswith(("note: running on the CPU: ", "note: running on OpenVINO: "))


def test_notes_go_to_stderr(workplace: Path) -> None:
    frames = write_folder(workplace / "short", moving_square(2))

    result = tubes("run", str(frames), "--device", "cpu")

    assert result.stderr == f"note: the clip has 2 frames and the network takes {FRAMES}: some are repeated\n"


def test_info_tells_what_the_file_says_of_itself(workplace: Path) -> None:
    text = tubes("info").stdout
    document = json.loads(tubes("info", "tubes.onnx", "--json").stdout)

    time = {"steps": 2, "frames": [{"first": 0, "last": 1}, {"first": 2, "last": 3}]}
    assert document == json.loads(json.dumps(tiny_spec().describe())) | {"time": time}
    for expected in (
        "tiny, 5 classes",
        "head       average pooling, linear\n",
        "features   6 channels in 2 steps of time and 4x4 places\n",
        "time       2 steps, of frames 0-1, 2-3\n",
        "precision  fp32 inside, float32 logits and features; weights kept in fp32",
        "4 frames (uniform",
        "32x32 centre crop of 36x36",
        "tiny.pth",
        *LABELS,
    ):
        assert expected in text


def test_info_warns_of_one_step_of_time_and_of_approximate_maps(workplace: Path) -> None:
    spec = tiny_spec(frames=2, features_shape=(6, 1, 4, 4), approximate="two layers are not linear")
    write_tiny(workplace / "coarse.onnx", spec)

    text = tubes("info", "coarse.onnx").stdout
    document = json.loads(tubes("info", "coarse.onnx", "--json").stdout)

    assert "\nmaps       approximate: two layers are not linear\n" in text
    assert "6 channels in 1 step of time and 4x4 places" in text
    assert "\ntime       one step of time stands for all 2 frames: the tube cannot localise in time." in text
    assert document["approximate"] == "two layers are not linear"
    assert document["time"] == {"steps": 1, "frames": [{"first": 0, "last": 1}]}


def test_run_says_that_maps_are_approximate_and_cannot_tell_when(workplace: Path) -> None:
    spec = tiny_spec(frames=2, features_shape=(6, 1, 4, 4), approximate="two layers are not linear")
    write_tiny(workplace / "tubes.onnx", spec)

    text = tubes("run", "clip.mp4", "--device", "cpu", "--save", "gif")
    document = json.loads(tubes("run", "clip.mp4", "--device", "cpu", "--save", "gif", "--json").stdout)

    approximate, coarse = text.stderr.splitlines()
    assert approximate.startswith("note: approximate: two layers are not linear; the maps miss the logit by ")
    assert coarse.startswith("note: one step of time stands for all 2 frames")
    assert text.stdout.splitlines()[1] == "maps       approximate: less than 0.01 % off the logits"
    assert document["approximate"] == "two layers are not linear"
    assert [note[:11] for note in document["notes"]] == ["approximate", "one step of"]


def test_version_and_help() -> None:
    assert tubes("--version").stdout == "saliency-tubes 0.1.0\n"
    overview = tubes("--help").stdout
    for command in ("export", "run", "info", "bench"):
        text = tubes(command, "--help").stdout
        assert f"tubes {command} " in text.split("Example")[1]
        assert command in overview
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.mp4"], "error: nowhere.mp4 does not exist: expected a video file"),
        (["run", "tubes.onnx"], "error: tubes.onnx cannot be opened as a video"),
        (["run", "empty"], "error: the folder empty holds no images"),
        (["run", "clip.mp4", "-l", "5"], "error: label 5 is out of range: this model has 5 classes"),
        (["run", "clip.mp4", "-l", "bowlign"], "error: no class is called 'bowlign'; the closest names are 'bowling'"),
        (["run", "clip.mp4", "--top-k", "6"], "error: top_k is 6: expected a number from 0 to 5"),
        (
            ["run", "clip.mp4", "-m", "nowhere.onnx"],
            "error: no model file at nowhere.onnx: make one with `tubes export",
        ),
        (["run", "clip.mp4", "-m", "clip.mp4"], "error: clip.mp4 is not a model that onnxruntime"),
        (["run", "clip.mp4", "-m", "plain.onnx"], "error: this ONNX file carries no saliency-tubes metadata"),
        (["run", "clip.mp4", "--out", "clip.mp4"], "error: cannot write to clip.mp4/clip/"),
        (["info", "plain.onnx"], "error: this ONNX file carries no saliency-tubes metadata"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_code_1(
    workplace: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_tiny(workplace / "plain.onnx", metadata={})
    (workplace / "empty").mkdir()
    before = sorted(workplace.rglob("*"))

    code = call(*arguments, *(["--device", "cpu"] if arguments[0] == "run" else []), monkeypatch=monkeypatch)

    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.startswith(message)
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "clip.mp4", "--device", "tpu"], ["run", "clip.mp4", "--top-k", "x"], ["fly"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(*arguments, monkeypatch=monkeypatch) == 2


def test_debug_shows_the_traceback(workplace: Path) -> None:
    assert "Traceback" not in tubes("run", "nowhere.mp4", expect=1).stderr
    assert "Traceback" in tubes("run", "nowhere.mp4", "--debug", expect=1).stderr


def test_names_cannot_steer_the_terminal(workplace: Path) -> None:
    result = tubes("run", "evil\x1b[2J.mp4", expect=1)

    assert "\x1b" not in result.stderr
    assert "evil?[2J.mp4" in result.stderr


def test_what_the_system_refuses_is_a_message_too(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", refuse)

    assert call("run", "clip.mp4", "--device", "cpu", monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err == (
        "error: clip.mp4 cannot be read (Permission denied): check the path and its permissions\n"
    )


def test_a_file_name_that_is_not_utf8_is_explained_all_the_same(workplace: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_folder(workplace / "plain", moving_square(8)).rename(workplace / name)

    tubes("run", name, "-l", "1", "--device", "cpu")

    info = json.loads((workplace / "visualisations" / name / "1" / "info.json").read_text())
    assert info["clip"]["name"] == name


def test_export_without_torch_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "saliency_tubes_export"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)

    assert call("export", "weights.pth", monkeypatch=monkeypatch) == 1

    assert capsys.readouterr().err == (
        "error: `tubes export` needs torch, which is not installed: pip install 'saliency-tubes[export]'\n"
    )


def test_export_refuses_a_precision_of_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("torch")

    assert call("export", "weights.pth", "--precision", "tf32", monkeypatch=monkeypatch) == 1

    assert capsys.readouterr().err.startswith(
        "error: a file is exported in fp32 or fp16, and tf32 is for the time when"
    )


@pytest.mark.parametrize("limit", [1_000, 2_400, 5_000])
def test_a_disk_that_fills_up_leaves_nothing(workplace: Path, limit: int) -> None:
    """Files may not grow past a limit, so that writing really fails: the PNGs, the GIF, the arrays."""

    def full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = tubes("run", "clip.mp4", "--device", "cpu", expect=1, preexec_fn=full_disk)

    assert result.stderr.startswith("error: cannot write to visualisations/clip/")
    assert "Traceback" not in result.stderr
    assert not (workplace / "visualisations").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_the_old_folder_and_no_litter(workplace: Path, signum: signal.Signals) -> None:
    tubes("run", "clip.mp4", "-l", "1", "--device", "cpu")
    target = workplace / "visualisations" / "clip" / "1"
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    script = (
        "import time; from saliency_tubes import cli, writers\n"
        "writers.write_json = lambda *_: (print('half way', flush=True), time.sleep(60))\n"
        "cli.main()"
    )
    command = [sys.executable, "-c", script, "run", "clip.mp4", "-l", "1", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half way\n"
        assert len(list(target.parent.iterdir())) == 2
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=30)

    assert process.returncode == 128 + signum
    assert "Traceback" not in stderr
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert list(target.parent.iterdir()) == [target]


def test_a_killed_run_leaves_the_old_folder_whole(workplace: Path) -> None:
    tubes("run", "clip.mp4", "-l", "1", "--device", "cpu")
    target = workplace / "visualisations" / "clip" / "1"
    command = [sys.executable, "-c", "from saliency_tubes.cli import main; main()", "run", "clip.mp4", "-l", "1"]
    for delay in np.linspace(0.3, 0.8, 6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.kill()
        info = json.loads((target / "info.json").read_text())
        assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()) == info["files"]


@pytest.mark.skipif(not COMMAND.exists(), reason="the package is not installed as a command here")
def test_the_installed_command_runs() -> None:
    result = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True)

    assert result.stdout == "saliency-tubes 0.1.0\n"


def test_doctor_lists_every_device(workplace: Path) -> None:
    result = tubes("doctor", "--model", "tubes.onnx")

    assert [line.split()[0] for line in result.stdout.splitlines()][:5] == [
        "cuda", "tensorrt", "openvino", "cpu", "auto",
    ]  # fmt: skip
    assert "cpu        ready (fp32): " in result.stdout
    assert result.stderr == ""


def test_doctor_prints_json(workplace: Path) -> None:
    document = json.loads(tubes("doctor", "--json").stdout)

    assert {finding["device"]: finding["ready"] for finding in document["findings"]}["cpu"] is True
    assert document["chosen"] in ("cuda", "openvino", "cpu")


def test_only_what_is_asked_for_is_written(workplace: Path) -> None:
    tubes("run", "clip.mp4", "-l", "1", "--save", "heatmap", "--save", "gif", "--device", "cpu")

    folder = workplace / "visualisations" / "clip" / "1"
    assert {file.name for file in folder.iterdir()} == {"heatmap", "overlay.gif", "info.json"}
    assert len(list((folder / "heatmap").iterdir())) == FRAMES
    listed = json.loads((folder / "info.json").read_text())["files"]
    assert set(listed) == {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}


def test_a_precision_that_is_not_to_be_had_is_one_clear_message(workplace: Path) -> None:
    result = tubes("run", "clip.mp4", "--device", "cpu", "--precision", "bf16", expect=1)

    assert result.stderr == "error: the CPU computes in fp32, not in bf16: leave --precision out\n"


@pytest.fixture
def installed() -> Path:
    """The command as it is installed, which ends its process by itself."""
    if not COMMAND.exists():
        pytest.skip("the command is not installed beside this interpreter")
    return COMMAND


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["--version"], 0, "saliency-tubes ", ""),
        (["run", "clip.mp4", "-l", "1", "--device", "cpu"], 0, "predicted  ", ""),
        pytest.param(
            ["run", "clip.mp4", "-l", "1", "--device", "openvino"],
            0,
            "predicted  ",
            "",
            marks=pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed"),
        ),
        (["doctor"], 0, "cuda  ", ""),
        (["run", "clip.mp4", "-l", "9", "--device", "cpu"], 1, "", "error: label 9 is out of range"),
        (["run"], 2, "", "Usage: "),
    ],
)
def test_the_installed_command_says_everything_before_it_ends(
    workplace: Path, installed: Path, arguments: list[str], code: int, out: str, err: str
) -> None:
    # Into pipes, where what was not flushed would be lost.
    result = subprocess.run([installed, *arguments], capture_output=True, text=True, timeout=60)

    assert result.returncode == code, result.stderr
    assert result.stdout.startswith(out)
    assert bool(result.stdout) == bool(out)
    assert result.stderr.startswith(err)
    assert bool(result.stderr) == bool(err)


def test_the_installed_command_keeps_the_graph_before_it_ends(workplace: Path, installed: Path, tmp_path: Path) -> None:
    cache = tmp_path / "graphs"
    environment = os.environ | {"SALIENCY_TUBES_CACHE": str(cache)}
    time.sleep(2.1)  # a model file that was written just now is not kept

    for _ in range(2):
        command = [installed, "run", "clip.mp4", "-l", "1", "--device", "cpu"]
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
        (entry,) = cache.iterdir()
        assert sorted(file.name for file in entry.iterdir()) == ["content.json", "graph.bin", "graph.onnx"]


@pytest.mark.parametrize(("stopped", "code"), [(None, 0), (0, 0), (1, 1), (143, 143)])
def test_the_process_ends_when_all_is_written(stopped: int | None, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[object] = []

    def main() -> None:
        def publish() -> None:
            time.sleep(0.2)
            events.append("published")

        threading.Thread(target=publish, name=PUBLISHER).start()
        threading.Thread(target=threading.Event().wait, args=(1,), daemon=True).start()  # nobody waits for others
        raise SystemExit(stopped)

    monkeypatch.setattr(cli, "main", main)
    monkeypatch.setattr(sys.stdout, "flush", lambda: events.append("flushed"))
    monkeypatch.setattr(cli.os, "_exit", lambda code: events.append(code))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")

    cli.entry()

    assert events == ["published", "flushed", code]
    assert os.environ["OPENBLAS_NUM_THREADS"] == "4"  # what the user said stands


def test_a_sentence_as_exit_code_is_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise SystemExit("no")

    monkeypatch.setattr(cli, "main", main)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")

    with pytest.raises(SystemExit, match="no"):
        cli.entry()
