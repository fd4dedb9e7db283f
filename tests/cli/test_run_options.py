"""What `tubes run` is told, and what comes of it."""

import json
from pathlib import Path
from typing import Any

import av
import pytest
from clips import moving_square, write_folder, write_video
from test_cli import call, tubes
from tiny import LABELS, tiny_spec, write_tiny


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `tubes.onnx` and `clip.mp4`, which is also the current one."""
    write_tiny(tmp_path / "tubes.onnx")
    write_video(tmp_path / "clip.mp4", moving_square(31), faststart=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return call("run", "clip.mp4", "--device", "cpu", *arguments, monkeypatch=monkeypatch)


def info(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "info.json").read_text())
    return document


def test_a_whole_video_with_two_labels_compared(workplace: Path) -> None:
    result = tubes(
        *("run", "clip.mp4", "-l", "bowl", "-l", "3", "--sampling", "dense", "--stride", "1", "--overlap", "0.25"),
        *("--fit", "whole", "--compare", "--save", "overlay,html", "--device", "cpu"),
    )

    out = workplace / "visualisations" / "clip"
    assert {folder.name for folder in out.iterdir()} == {"1", "3", "1+3"}
    assert f"open       {Path('visualisations/clip/1+3/report.html')}" in result.stdout
    assert "together   written to visualisations/clip/1+3" in result.stdout
    sampling = info(out / "1")["sampling"]
    assert isinstance(sampling, dict)
    assert (sampling["method"], sampling["stride"], sampling["overlap"], sampling["fit"]) == ("dense", 1, 0.25, "whole")
    with av.open(str(out / "1+3" / "comparison.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 31


def test_json_names_what_was_written_together(workplace: Path) -> None:
    document = json.loads(
        tubes("run", "clip.mp4", "--top-k", "2", "--save", "html", "--device", "cpu", "--json").stdout
    )

    first, second = (label["index"] for label in document["labels"])
    assert document["together"] == f"visualisations/clip/{first}+{second}"
    assert Path(document["report"]).is_file()
    assert document["windows"] == 1


def test_all_is_everything(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "-l", "2", "--save", "all") == 0

    written = {file.name for file in (workplace / "visualisations" / "clip" / "2").iterdir()}
    assert written == {
        *("overlay.mp4", "sheet.png", "timeline.png", "report.html", "heatmap", "focusmap"),
        *("overlay.gif", "tube.npz", "info.json"),
    }


def test_styles_reach_the_pictures(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for out, style in (("a", []), ("b", ["--style", "keras"]), ("c", ["--colormap", "viridis", "--opacity", "0.9"])):
        assert run(monkeypatch, "-l", "0", "--save", "heatmap", "--out", out, *style) == 0

    pictures = [(workplace / out / "clip" / "0" / "heatmap" / "001.png").read_bytes() for out in "abc"]
    assert len(set(pictures)) == 3
    assert info(workplace / "c" / "clip" / "0")["style"] == {
        "name": "reference",
        "colormap": "viridis",
        "opacity": 0.9,
        "threshold": 0.0,
    }


@pytest.mark.parametrize(
    ("options", "align"),
    [
        ([], "centers"),
        (["--colormap", "hot"], "centers"),
        (["--style", "reference"], "corners"),
        (["--style", "keras"], "corners"),
        (["--align", "corners"], "corners"),
        (["--style", "reference", "--align", "centers"], "centers"),
    ],
)
def test_maps_are_aligned_as_a_published_script_has_it_where_its_style_is_asked_for(
    workplace: Path, options: list[str], align: str
) -> None:
    tubes("run", "clip.mp4", "-l", "2", *options, "--save", "npz", "--device", "cpu")

    document = info(workplace / "visualisations" / "clip" / "2")
    assert document["align"] == align
    assert (document["tube"]["cells"] is None) == (align == "corners")


def test_a_label_that_is_given_twice_is_explained_once(workplace: Path) -> None:
    result = tubes("run", "clip.mp4", "-l", "1", "-l", "bowling", "--save", "sheet", "--device", "cpu")

    assert result.stderr == "note: class 1 was asked for 2 times: it is explained once\n"
    assert result.stdout.count("written to") == 1


def test_sound_that_cannot_be_kept_is_told(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from saliency_tubes import video_sink

    monkeypatch.setattr(
        video_sink.VideoSink, "notes", property(lambda _: ("the sound is left out",), lambda *_: None), raising=False
    )
    assert run(monkeypatch, "-l", "1", "--save", "overlay") == 0

    assert capsys.readouterr().err == "note: the sound is left out\n"
    assert "the sound is left out" in str(info(workplace / "visualisations" / "clip" / "1")["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampling", "dense", "--overlap", "1"], "overlap is 1.0: expected a number from 0 to below 1"),
        (["--sampling", "dense", "--overlap", "-0.5"], "overlap is -0.5: expected"),
        (["--sampling", "dense", "--overlap", "nan"], "overlap is nan: expected"),
        (["--sampling", "dense", "--stride", "0"], "stride is 0: expected a whole number of at least 1"),
        (["--sampling", "stepped", "--step", "0"], "step is 0: expected"),
        (["--sampling", "stepped", "--max-frames", "0"], "max_frames is 0: expected"),
        (
            ["--stride", "3"],
            "stride is an option of dense sampling, and this is uniform: ask for dense sampling, or leave stride out",
        ),
        (["--sampling", "dense", "--step", "3"], "step is an option of stepped sampling, and this is dense"),
        (["--opacity", "1.5"], "the opacity is a number from 0 to 1, not 1.5"),
        (["--threshold", "nan"], "the threshold is a number from 0 to 1, not nan"),
        (["--save", "heatmap,poster"], "there is no artifact 'poster': choose among overlay, sheet"),
        (["--save", ","], "--save names nothing: choose among overlay"),
        (["--compare"], "a comparison takes two labels or more"),
        (["--compare", "-l", "1"], "a comparison takes two labels or more"),
        (["--save", "sheet,comparison", "-l", "1"], "a comparison takes two labels or more"),
        (["--colormap", "rainbow"], "rainbow"),
        (["--fit", "stretch"], "stretch"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_done(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run(monkeypatch, *arguments) == 2

    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (workplace / "visualisations").exists()


def test_a_beginning_of_two_names_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    write_tiny(tmp_path / "tubes.onnx", tiny_spec(labels=("kick ball", "kick goal", *LABELS[2:])))
    write_video(tmp_path / "clip.mp4", moving_square(8))
    monkeypatch.chdir(tmp_path)

    result = tubes("run", "clip.mp4", "-l", "kick", "--device", "cpu", expect=1)

    assert result.stderr == (
        "error: label 'kick' begins the names of classes 0 (kick ball), 1 (kick goal): "
        "give more of the name, or the number\n"
    )


def test_frames_taken_out_of_a_video_are_a_clip(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tubes("frames", "clip.mp4", "--step", "3", "--out", "taken")

    assert call("run", "taken", "--device", "cpu", "-l", "1", "--sampling", "dense", monkeypatch=monkeypatch) == 0
    assert info(workplace / "visualisations" / "taken" / "1")["clip"]["length"] == 10  # type: ignore[index]


def test_a_folder_of_frames_whole(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(workplace / "frames", moving_square(23))

    assert (
        call("run", "frames", "--device", "cpu", "--sampling", "dense", "--save", "all", monkeypatch=monkeypatch) == 0
    )
    (folder,) = (workplace / "visualisations" / "frames").iterdir()
    assert len(list((folder / "heatmap").iterdir())) == 23
