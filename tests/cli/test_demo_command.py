import json
import subprocess
import sys
from pathlib import Path

import pytest
from clips import moving_square, write_video
from test_cli import tubes


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder: the demo needs nothing of the user's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_demo_needs_no_arguments_and_ends_in_what_to_open(workplace: Path) -> None:
    result = tubes("demo")

    lines = result.stdout.splitlines()
    assert lines[0].startswith("clip       the demo's own: one thing moves from ")
    assert lines[-1].startswith("open       visualisations/planted/")
    assert (workplace / lines[-1].removeprefix("open       ")).is_file()
    assert [path.name for path in workplace.iterdir()] == ["visualisations"]


def test_the_demo_of_a_clip_prints_one_object(workplace: Path) -> None:
    write_video(workplace / "clip.mp4", moving_square(9))

    document = json.loads(tubes("demo", "clip.mp4", "--out", "figures", "--json").stdout)

    assert document["planted"]["verdict"]["truth"] == document["planted"]["predicted"]["name"]
    for one in (document["planted"], document["clip"]):
        assert Path(one["report"]).is_file()
        assert Path(one["report"]).is_relative_to("figures")
    assert len(document["clip"]["top5"]) == 5


def test_a_clip_that_is_not_there_is_an_error_as_of_run(workplace: Path) -> None:
    result = tubes("demo", "nowhere.mp4", expect=1)

    assert result.stderr == "error: nowhere.mp4 does not exist: expected a video file, a GIF, or a folder of frames\n"
    assert not list(workplace.iterdir())


def test_the_help_of_the_demo_needs_nothing_heavy() -> None:
    script = "import sys; from saliency_tubes import cli; print('numpy' in sys.modules, 'saliency_tubes.demo' in sys.modules)"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "False False"
    assert "tubes demo clip.mp4" in tubes("demo", "--help").stdout
