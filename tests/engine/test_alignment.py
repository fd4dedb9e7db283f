"""From `align` to what comes of it: tubes, notes, what is written, what is recorded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import moving_square, write_video
from saliency_tubes import TubeModel, load_model
from saliency_tubes.batch import command
from saliency_tubes.batch.command import Order, run_command
from saliency_tubes.batch.results import Record
from saliency_tubes.cells import Cells
from saliency_tubes.choices import Align, Device, Fit
from saliency_tubes.errors import OptionError
from saliency_tubes.report_page import report_of
from saliency_tubes.sampling import Sampling
from saliency_tubes.style import Style
from saliency_tubes.tube import build_tubes, merge
from saliency_tubes.upsample import upsample
from tiny import FRAMES, SIZE, write_tiny

CELLS = Cells((0.5, 3.5, 3.5), (2, 8, 8))  # of (2, 4, 4) in (4, 32, 32)
SHAPE = (FRAMES, SIZE, SIZE)
CLIP = moving_square(30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    return load_model(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


def test_cells_are_in_the_middle_of_their_shares_unless_asked_otherwise(model: TubeModel) -> None:
    for sampling in ("uniform", "dense"):
        default, centers = (model.explain(CLIP, 1, sampling=sampling, **how) for how in ({}, {"align": "centers"}))

        assert default.align is centers.align is Align.CENTERS
        assert default.tube.cells == centers.tube.cells is not None
        np.testing.assert_array_equal(default.tube.values, centers.tube.values)


def test_corners_are_the_published_upsampling(model: TubeModel) -> None:
    explanation = model.explain(CLIP, 1, align="corners")

    assert explanation.tube.cells is None
    volume = upsample(explanation.tube.map, SHAPE)
    np.testing.assert_allclose(explanation.tube.values, (volume - volume.min()) / np.ptp(volume), atol=1e-5)


@pytest.mark.parametrize("align", ["centers", Align.CENTERS])
def test_centers_upsample_the_same_map_by_equal_shares(model: TubeModel, align: Align | str) -> None:
    explanation = model.explain(CLIP, [1, 3], align=align)

    assert explanation.align is Align.CENTERS
    assert explanation.notes == ()
    for tube, corners in zip(explanation.tubes, model.explain(CLIP, [1, 3], align="corners").tubes, strict=True):
        np.testing.assert_array_equal(tube.map, corners.map)
        assert tube.cells == CELLS
        (expected,) = build_tubes([tube.label], tube.map[None], SHAPE, CELLS)
        np.testing.assert_allclose(tube.values, expected.values, atol=1e-6)
        assert np.abs(tube.values - corners.values).max() > 0.1


def test_a_whole_video_is_merged_from_windows_whose_cells_lie_in_their_places(model: TubeModel) -> None:
    sampling = Sampling.dense(3, 0.5)

    explanation = model.explain(CLIP, 1, sampling=sampling, align="centers")

    maps = [model.explain(CLIP[list(window.indices)], 1).tube.map for window in explanation.windows]
    np.testing.assert_allclose(explanation.tube.map, merge(explanation.windows, maps, 30, CELLS), atol=1e-5)
    assert explanation.align is Align.CENTERS
    assert explanation.tube.cells == Cells((0, 3.5, 3.5), (1, 8, 8))


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
def test_many_clips_are_aligned_as_one_is(model: TubeModel, sampling: str) -> None:
    clips = [CLIP, CLIP[::-1].copy(), CLIP[5:]]

    many = model.explain_many(clips, 1, sampling=sampling, align="centers", batch=2)

    for clip, explanation in zip(clips, many, strict=True):
        alone = model.explain(clip, 1, sampling=sampling, align="centers")
        np.testing.assert_allclose(explanation.tube.values, alone.tube.values, atol=1e-4)
        assert explanation.tube.cells == alone.tube.cells is not None


def test_an_unknown_alignment_is_told_which_there_are(model: TubeModel) -> None:
    for call in (model.explain, model.explain_many):
        with pytest.raises(OptionError, match=r"there is no alignment 'middle': choose among centers, corners"):
            call(CLIP, 1, align="middle")


def test_info_and_arrays_say_where_cells_lie(model: TubeModel, tmp_path: Path) -> None:
    (folder,) = model.explain(CLIP, 1, align="centers").save(tmp_path, artifacts=["npz"])
    info = json.loads((folder / "info.json").read_text())

    assert info["align"] == "centers"
    assert info["tube"]["cells"] == {"offset": [0.5, 3.5, 3.5], "stride": [2, 8, 8]}
    with np.load(folder / "tube.npz") as arrays:
        assert (arrays["cells_offset"].tolist(), arrays["cells_stride"].tolist()) == ([0.5, 3.5, 3.5], [2, 8, 8])

    (folder,) = model.explain(CLIP, 1, align="corners").save(tmp_path, artifacts=["npz"])
    info = json.loads((folder / "info.json").read_text())
    assert (info["align"], info["tube"]["cells"]) == ("corners", None)
    with np.load(folder / "tube.npz") as arrays:
        assert not {"cells_offset", "cells_stride"} & set(arrays.files)


def test_a_report_says_how_it_is_aligned_and_where_cells_lie_in_the_crop(model: TubeModel) -> None:
    report = report_of(model.explain(CLIP, 1, align="centers"), Style())

    assert report.cells == ((4 / SIZE, 8 / SIZE), (4 / SIZE, 8 / SIZE))
    assert dict(report.facts)["alignment"] == "centers: each cell of the map in the middle of its share of the crop"
    report = report_of(model.explain(CLIP, 1, align="corners"), Style())
    assert report.cells is None
    assert dict(report.facts)["alignment"].startswith(
        "corners: the first and last cells of the map at the crop's edges"
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: TubeModel) -> Path:
    write_video(tmp_path / "clip.mp4", moving_square(8))
    monkeypatch.chdir(tmp_path)
    return model.path


def order(align: Align) -> Order:
    return Order((), 0, None, Fit.SQUASH_CROP, align, (), None)


def test_a_batch_records_the_alignment_and_does_another_anew(place: Path) -> None:
    def run(align: Align) -> tuple[tuple[int, int], dict[str, Any]]:
        summary = run_command(["clip.mp4"], Path("out"), place, Device.CPU, None, order(align), print)
        (line,) = Path("out/results.jsonl").read_text().splitlines()
        return (summary.explained, summary.before), json.loads(line)

    assert run(Align.CORNERS)[1]["align"] == "corners"
    done, line = run(Align.CENTERS)
    assert (done, line["align"], line["notes"]) == ((1, 0), "centers", [])
    assert run(Align.CENTERS)[0] == (0, 1)


def test_what_was_done_before_there_was_a_choice_need_not_be_done_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = []
    monkeypatch.setattr(command, "run_batch", lambda *given: settings.append(given[3].settings))
    for align in Align:
        run_command(["clip.mp4"], Path("out"), place, Device.CPU, None, order(align), print)

    centers, corners = settings
    assert centers == corners | {"align": "centers"}
    assert "align" not in corners


@pytest.mark.parametrize(("error", "align"), [(None, Align.CORNERS), ("broken", None)])
def test_a_line_from_before_there_was_a_choice_is_read(error: str | None, align: Align | None) -> None:
    record = Record("/clip.mp4", "clip", None, (), None, (), error, 1.0, "f", align)
    document = json.loads(record.line())
    assert document.pop("align") == align

    assert Record.from_line(json.dumps(document).encode()) == record


def test_a_line_of_another_alignment_is_not_ours() -> None:
    record = Record("/clip.mp4", "clip", None, (), None, (), None, 1.0, "f", Align.CENTERS)
    assert Record.from_line(record.line()) == record

    with pytest.raises(ValueError, match="'middle' is not a valid Align"):
        Record.from_line(record.line().replace(b"centers", b"middle"))
