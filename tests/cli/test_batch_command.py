import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clips import moving_square, write_folder, write_video
from tiny import tiny_spec, write_tiny

CLIPS = 30
MAIN = "from saliency_tubes.cli import entry; entry()"
# Files take their time, so that there is a middle to stop in.
SLOWLY = (
    "import time; from saliency_tubes import writers; whole = writers.write_json\n"
    "writers.write_json = lambda *parts: (time.sleep(0.1), whole(*parts))\n" + MAIN
)
ENVIRONMENT = os.environ | {"COLUMNS": "80", "TERM": "xterm"}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `tubes.onnx` and clips in `v`, which is also the current one."""
    write_tiny(tmp_path / "tubes.onnx")
    (tmp_path / "v").mkdir()
    first = write_video(tmp_path / "v" / "clip0.mp4", moving_square(8))
    for number in range(1, CLIPS):
        (tmp_path / "v" / f"clip{number}.mp4").write_bytes(first.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str, script: str = MAIN) -> list[str]:
    return [sys.executable, "-c", script, "batch", *arguments, "--device", "cpu", "--save", "gif"]


def batch(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command(*arguments), capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert result.returncode == expect, result.stderr
    return result


@contextmanager
def half_way(*arguments: str, lines: int = 3) -> Iterator["subprocess.Popen[str]"]:
    """A batch that has recorded a few clips and has many before it."""
    with subprocess.Popen(
        command(*arguments, script=SLOWLY), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not Path("out/results.jsonl").exists() or Path("out/results.jsonl").read_bytes().count(b"\n") < lines:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def recorded() -> list[dict[str, object]]:
    return list(map(json.loads, Path("out/results.jsonl").read_text().splitlines()))


def written() -> dict[str, int]:
    """When each clip that is on record was written."""
    return {
        str(line["name"]): next(Path("out", str(line["name"])).glob("*/info.json")).stat().st_mtime_ns
        for line in recorded()
    }


def goes_on_from(before: dict[str, int]) -> None:
    """The same command does the rest, and only the rest."""
    result = batch("v", "--out", "out")

    assert f"{CLIPS - len(before)} explained, {len(before)} were done before: see out/results.jsonl" in result.stdout
    after = written()
    assert set(after) == {f"clip{number}" for number in range(CLIPS)}
    assert {name: after[name] for name in before} == before
    assert max(Counter(str(line["source"]) for line in recorded()).values()) == 1
    assert '"clip29"' in Path("out/index.html").read_text()


def test_a_batch_that_is_killed_goes_on_where_it_was(workplace: Path) -> None:
    with half_way("v", "--out", "out") as process:
        process.kill()
        process.wait()
    before = written()
    assert 3 <= len(before) < CLIPS
    with Path("out/results.jsonl").open("ab") as file:
        file.write(b'{"schema": "saliency-tubes/results/1", "status": "done", "source": "' + str(workplace).encode())

    goes_on_from(before)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_batch_that_is_stopped_says_how_to_go_on(workplace: Path, signum: signal.Signals) -> None:
    with half_way("v", "--out", "out") as process:
        process.send_signal(signum)
        stdout, stderr = process.communicate(timeout=30)

    assert process.returncode == 128 + signum
    assert stdout == ""
    assert "stopping when the clips in hand are finished; Ctrl-C again stops at once" in stderr
    assert "stopped. What is finished is on record; the same command goes on from there" in stderr
    assert "Traceback" not in stderr
    before = written()
    assert 3 <= len(before) < CLIPS
    assert not list(Path("out").rglob(".*.partial"))
    page = Path("out/index.html").read_text()
    assert all(f'"{name}"' in page for name in before)
    goes_on_from(before)


def test_what_is_true_of_all_clips_is_said_once(workplace: Path) -> None:
    spec = tiny_spec(frames=2, features_shape=(6, 1, 4, 4), approximate="two layers are not linear")
    write_tiny(workplace / "tubes.onnx", spec)

    result = batch("v", "--out", "out")

    assert result.stderr.count("note: approximate: two layers are not linear\n") == 1
    assert result.stderr.count("note: one step of time stands for all 2 frames: ") == 1
    for line in recorded():
        (note,) = line["notes"]  # how far off they are is each clip's own
        assert note.startswith("approximate: two layers are not linear; the maps miss the logit by ")
        assert line["approximate"] == "two layers are not linear"
        assert line["labels"][0]["statistics"]["peak_frame"] is None
    assert (
        "note: one step of time stands for all 2 frames of a window"
        in batch("v", "--out", "dense", "--sampling", "dense").stderr
    )
    assert {len(line["notes"]) for line in map(json.loads, Path("dense/results.jsonl").read_text().splitlines())} == {1}


def test_two_batches_do_not_share_a_folder(workplace: Path) -> None:
    with half_way("v", "--out", "out") as process:
        result = batch("v", "--out", "out", expect=1)

        assert "error: another `tubes batch` is writing to out: wait for it, or choose another --out" in result.stderr
        assert process.poll() is None


def test_a_bad_clip_among_good_ones(workplace: Path) -> None:
    Path("v/clip7.mp4").write_bytes(b"nonsense")
    (workplace / "v" / "evil\x1b[31m.mp4").write_bytes(b"")

    result = batch("v", "--out", "out", expect=1)

    assert f"{CLIPS - 1} explained, 2 failed: see out/results.jsonl" in result.stdout
    assert "gallery in out/index.html" in result.stdout
    assert "clip7.mp4 cannot be opened as a video" in result.stderr
    assert "\x1b" not in result.stderr
    result = batch("v", "--out", "out", "--json", expect=1)
    assert json.loads(result.stdout) == {
        "explained": 0,
        "before": CLIPS - 1,
        "failed": 2,
        "results": "out/results.jsonl",
        "gallery": "out/index.html",
    }


def test_clips_of_one_name_and_a_folder_of_frames(workplace: Path) -> None:
    for name in ("archery", "bowling"):
        Path("w", name).mkdir(parents=True)
        Path("w", name, "1.mp4").write_bytes(Path("v/clip0.mp4").read_bytes())
    write_folder(Path("w/frames"), moving_square(6))

    batch("w", "--out", "out", "-l", "eating", "--top-k", "1")

    assert {line["name"] for line in recorded()} == {"archery_1", "bowling_1", "frames"}
    assert all(Path("out", name, "4", "info.json").is_file() for name in ("archery_1", "bowling_1", "frames"))


def test_changed_options_are_done_again(workplace: Path) -> None:
    clip = "v/clip0.mp4"
    batch(clip, "--out", "out")
    assert "0 explained, 1 was done before" in batch(clip, "--out", "out").stdout
    assert "1 explained: see" in batch(clip, "--out", "out", "--save", "npz").stdout
    assert len(recorded()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list.csv"], "error: list.csv has the columns 'file', 'label': expected a first line that names 'path'"),
        (["nowhere"], "error: nowhere does not exist: expected a video, a folder, a glob"),
        (["empty"], "error: no clips in empty: expected videos"),
        (["v", "--label", "flying"], "flying"),
        (["v", "--model", "no.onnx"], "no.onnx"),
    ],
)
def test_what_cannot_begin_leaves_nothing_behind(workplace: Path, arguments: list[str], message: str) -> None:
    Path("list.csv").write_text("file,label\nv/clip0.mp4,1\n")
    Path("empty").mkdir()

    assert message in batch(*arguments, "--out", "out", expect=1).stderr
    assert not Path("out").exists() or list(Path("out").glob("*/*")) == []


def test_a_terminal_shows_a_bar_with_rate_and_time_left(workplace: Path) -> None:
    Path("v/clip3.mp4").rename("v/clip3\x1b[31m.mp4")
    Path("v/clip3\x1b[31m.mp4").write_bytes(b"nonsense")
    leader, follower = pty.openpty()
    with subprocess.Popen(
        command("v", "--out", "out", script=SLOWLY), stdout=subprocess.DEVNULL, stderr=follower, env=ENVIRONMENT
    ) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                shown += (part := os.read(leader, 65536))
            except OSError:  # the other end is closed
                break
            if not part:
                break
        process.wait(timeout=60)
    os.close(leader)

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert process.returncode == 1
    assert re.search(rf"\d+ of {CLIPS} clips, 1 failed, [\d.]+ clips/s, \d s left", text)
    assert "clip3?[31m.mp4 cannot be opened as a video" in text.replace("\r\n", "")
