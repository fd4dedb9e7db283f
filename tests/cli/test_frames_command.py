import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clips import moving_square, write_video
from tiny import write_tiny


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `clip.mp4`, which is also the current one."""
    write_video(tmp_path / "clip.mp4", moving_square(40))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tubes(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from saliency_tubes.cli import main; main()", *arguments]
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == expect, result.stderr
    return result


def test_frames_are_written_and_told(workplace: Path) -> None:
    result = tubes("frames", "clip.mp4", "--step", "6", "--max-frames", "5", "--crop", "32", "--out", "taken")

    assert result.stdout == "wrote frames 5 to 29 of the clip to taken as 000.jpg to 004.jpg (5 in all)\n"
    assert result.stderr == ""
    assert len(list((workplace / "taken").glob("*.jpg"))) == 5


def test_too_few_frames_are_noted(workplace: Path) -> None:
    result = tubes("frames", "clip.mp4", "--format", "png", "--step", "30", "--out", "taken")

    assert result.stdout == "wrote frame 29 of the clip to taken as 000.png (1 in all)\n"
    assert result.stderr == "note: the clip has 40 frames: 1 were taken, where 24 are the most\n"


def test_what_was_taken_can_be_explained(workplace: Path) -> None:
    write_tiny(workplace / "tubes.onnx")
    tubes("frames", "clip.mp4", "--step", "1", "--max-frames", "40", "--out", "taken")

    document = json.loads(tubes("run", "taken", "--device", "cpu", "--json").stdout)

    assert document["clip"] == "taken"
    assert document["notes"] == []


@pytest.mark.parametrize(
    ("option", "value", "code", "message"),
    [
        ("--step", "0", 2, "--step"),
        ("--max-frames", "0", 2, "--max-frames"),
        ("--crop", "0", 2, "--crop"),
        ("--format", "bmp", 2, "--format"),
        ("--crop", "300", 1, "error: a crop of 300x300 does not fit into frames of 64x48: choose at most 48"),
        ("--step", "99", 1, "error: the clip has 40 frames, fewer than the step of 99: choose a smaller step"),
    ],
)
def test_what_cannot_be_taken_says_why(workplace: Path, option: str, value: str, code: int, message: str) -> None:
    result = tubes("frames", "clip.mp4", option, value, "--out", "taken", expect=code)

    assert message in result.stderr
    assert not (workplace / "taken").exists()


def test_a_folder_of_other_peoples_files_is_left_alone(workplace: Path) -> None:
    (workplace / "taken").mkdir()
    (workplace / "taken" / "thesis.txt").write_text("years of work")

    result = tubes("frames", "clip.mp4", "--out", "taken", expect=1)

    assert "holds files that this program did not write (thesis.txt)" in result.stderr
    assert [file.name for file in (workplace / "taken").iterdir()] == ["thesis.txt"]
