"""How many steps of time a tube has, which frames each stands for, and what is said where they cannot tell when."""

import json
from pathlib import Path

import numpy as np
import pytest
from clips import moving_square, write_video
from saliency_tubes import load_model
from saliency_tubes.cells import Cells
from saliency_tubes.choices import Align, Artifact
from saliency_tubes.model import TubeModel
from saliency_tubes.report_page import report_of
from saliency_tubes.sampling import Sampling
from saliency_tubes.statistics import tube_statistics
from saliency_tubes.style import Style
from saliency_tubes.time_steps import TimeSteps
from saliency_tubes.tube import build_tubes
from tiny import CHANNELS, tiny_spec, write_tiny

CENTERS, CORNERS = Align


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    """Four frames in, two steps of time."""
    return load_model(write_tiny(tmp_path_factory.mktemp("model") / "tubes.onnx"), "cpu")


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    """Two frames in, one step of time."""
    spec = tiny_spec(frames=2, features_shape=(CHANNELS, 1, 4, 4))
    return load_model(write_tiny(tmp_path_factory.mktemp("coarse") / "tubes.onnx", spec), "cpu")


@pytest.mark.parametrize(
    ("steps", "frames", "align", "spans"),
    [
        (8, 16, CENTERS, [(2 * i, 2 * i + 1) for i in range(8)]),
        (3, 16, CENTERS, [(0, 5), (5, 10), (10, 15)]),  # borders at 5 1/3 and 10 2/3
        (3, 15, CENTERS, [(0, 4), (5, 9), (10, 14)]),
        (1, 16, CENTERS, [(0, 15)]),
        (16, 16, CENTERS, [(i, i) for i in range(16)]),
        (4, 2, CENTERS, [(0, 0), (0, 0), (1, 1), (1, 1)]),
        (3, 7, CORNERS, [(0, 1), (2, 4), (5, 6)]),  # at frames 0, 3 and 6: borders in the middle of 1.5 and 4.5
        (2, 5, CORNERS, [(0, 2), (2, 4)]),
        (1, 16, CORNERS, [(0, 15)]),
        (16, 16, CORNERS, [(i, i) for i in range(16)]),
        (2, 1, CORNERS, [(0, 0), (0, 0)]),
    ],
)
def test_each_step_stands_for_the_frames_next_to_it(
    steps: int, frames: int, align: Align, spans: list[tuple[int, int]]
) -> None:
    assert TimeSteps.of(steps, range(frames), align).spans == tuple(spans)


@pytest.mark.parametrize(("steps", "frames"), [(8, 16), (3, 16), (5, 13), (1, 7), (7, 7), (4, 64)])
def test_the_steps_are_where_the_tubes_cells_are(steps: int, frames: int) -> None:
    cells = Cells.of_equal_shares((steps, 1, 1), (frames, 1, 1))
    places = cells.offset[0] + cells.stride[0] * np.arange(steps)

    spans = TimeSteps.of(steps, range(frames)).spans

    for frame in range(frames):
        first, last = spans[int(np.abs(places - frame).argmin())]
        assert first <= frame <= last


def test_words_name_the_frames() -> None:
    assert TimeSteps.of(2, range(4)).words == "2 steps, of frames 0-1, 2-3"
    assert TimeSteps.of(2, (0, 6, 12, 19)).words == "2 steps, of frames 0-6, 12-19"
    assert TimeSteps.of(2, (0, 0, 0, 1)).words == "2 steps, of frames 0, 0-1"
    assert TimeSteps.of(16, range(32)).words == "16 steps, of frames 0-1, 2-3, 4-5, ..., 30-31"
    assert TimeSteps.of(16, range(16)).words == "16 steps, one for each frame"
    assert TimeSteps.of(4, (0, 0, 0, 1)).words == "4 steps, of frames 0, 0, 0, 1"
    assert TimeSteps.of(1, range(16)).words == "1 step for all 16 frames"
    assert TimeSteps.of(1, range(1)).words == "none: the network takes one frame at a time"
    assert TimeSteps.of(2, (0, 2, 4, 6), slides=True).words == "2 steps, of frames 0-2, 4-6 of a window"


def test_one_step_of_time_is_warned_of_with_what_may_help() -> None:
    note = TimeSteps.of(1, range(16)).note
    sliding = TimeSteps.of(1, range(0, 32, 2), slides=True).note

    assert note is not None
    assert sliding is not None
    assert note.startswith("one step of time stands for all 16 frames: the tube cannot localise in time.")
    assert "cannot localise in time within a window" in sliding
    for text in (note, sliding):
        assert "--frames 32" in text
        assert "--layer NAME" in text
    assert "--sampling dense" in note
    assert "--sampling dense" not in sliding
    for fine in (TimeSteps.of(2, range(16)), TimeSteps.of(16, range(16)), TimeSteps.of(1, (7, 7, 7))):
        assert fine.note is None
        assert not fine.is_flat


def test_a_network_of_one_frame_has_no_time_unless_windows_slide() -> None:
    alone = TimeSteps.of(1, (0,))

    assert alone.note is not None
    assert "takes one frame at a time" in alone.note
    assert "--sampling dense" in alone.note
    sliding = TimeSteps.of(1, (0,), slides=True)
    assert sliding.note is None
    assert sliding.sentence == "The network takes one frame at a time; what is between those it saw is interpolated."


@pytest.mark.parametrize(
    ("steps", "frames", "sentence"),
    [
        (
            8,
            range(0, 48, 3),
            "A window of 46 frames has 8 steps of time, so each step stands for about 5.8 frames; what is between them "
            "is interpolated.",
        ),
        (16, range(16), "Each of the 16 steps of time is one frame that the network saw."),
        (
            16,
            range(0, 32, 2),
            "Each of the 16 steps of time is one frame that the network saw; what is between them is interpolated.",
        ),
        (
            8,
            (0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2),
            "The 3 frames that the network saw have 8 steps of time: several fall on one frame.",
        ),
        (
            8,
            (4,) * 16,
            "The network saw one frame of the clip: there is no time in it, and nothing to tell about when.",
        ),
    ],
)
def test_a_sentence_says_how_finely_it_can_tell(steps: int, frames: range, sentence: str) -> None:
    assert TimeSteps.of(steps, frames).sentence == sentence


def test_info_names_the_frames_of_the_clip(model: TubeModel, tmp_path: Path) -> None:
    video = write_video(tmp_path / "square.mp4", moving_square(20))

    (folder,) = model.explain(video, 1).save(tmp_path / "centers", artifacts=[])
    (corners,) = model.explain(video, 1, align="corners").save(tmp_path / "corners", artifacts=[])

    info = json.loads((folder / "info.json").read_text())
    assert info["sampling"]["frame_indices"] == [0, 6, 12, 19]
    assert info["time"] == {
        "counted_from": "clip",
        "steps": 2,
        "frames": [{"first": 0, "last": 6}, {"first": 12, "last": 19}],
    }
    assert json.loads((corners / "info.json").read_text())["time"]["frames"] == info["time"]["frames"]
    assert info["notes"] == []


def test_a_whole_videos_frames_are_counted_in_the_window(model: TubeModel, tmp_path: Path) -> None:
    explanation = model.explain(moving_square(30), 1, sampling=Sampling.dense(stride=3))

    assert explanation.describe_run()["time"] == {
        "counted_from": "window",
        "steps": 2,
        "frames": [{"first": 0, "last": 3}, {"first": 6, "last": 9}],
    }
    assert explanation.notes == ()
    stepped = model.explain(moving_square(30), 1, sampling=Sampling.stepped(4, 4))
    assert stepped.describe_run()["time"]["frames"] == [{"first": 3, "last": 7}, {"first": 11, "last": 15}]


def test_one_step_is_noted_in_every_sampling(coarse: TubeModel) -> None:
    clip = moving_square(20)

    (uniform,) = coarse.explain(clip, 1).notes
    (dense,) = coarse.explain(clip, 1, sampling="dense").notes

    assert uniform.startswith("one step of time stands for all 2 frames: the tube cannot localise in time.")
    assert dense.startswith("one step of time stands for all 2 frames of a window: the tube cannot localise in time w")
    (alone,) = coarse.explain(clip[:1], 1).notes
    assert alone == "the clip has one frame and the network takes 2: some are repeated"


def test_the_report_says_it_too(model: TubeModel, coarse: TubeModel) -> None:
    clip = moving_square(20)

    fine, flat = (report_of(one.explain(clip, 1), Style()) for one in (model, coarse))

    assert fine.time_note.startswith("A window of 20 frames has 2 steps of time, so each step stands for about 10.0")
    assert dict(fine.facts)["steps of time"] == "2 steps, of frames 0-6, 12-19"
    assert flat.time_note.startswith("One step of time stands for all 2 frames: the tube cannot localise in time.")
    assert dict(flat.facts)["map of a window"] == "1 step of time, 4x4 places"
    assert dict(flat.facts)["steps of time"] == "1 step for all 2 frames"


def test_the_timeline_of_one_step_says_why_it_is_flat(
    model: TubeModel, coarse: TubeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import saliency_tubes.timeline as module

    drawn: list[tuple[str, ...]] = []
    draw = module.draw_timeline
    monkeypatch.setattr(module, "draw_timeline", lambda one, title: (drawn.append(one.remarks), draw(one, title))[1])
    for one, sampling in ((coarse, "uniform"), (coarse, "dense"), (model, "uniform")):
        one.explain(moving_square(20), 1, sampling=sampling).save(tmp_path, artifacts=[Artifact.TIMELINE])

    assert drawn == [("flat: one step of time",), (), ()]


def test_a_tube_of_one_step_peaks_at_no_time() -> None:
    maps = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    (tube,) = build_tubes([0], maps, (4, 12, 12))
    seconds = np.arange(4) / 2

    found = tube_statistics(tube, np.arange(4), seconds)
    still = tube_statistics(tube, np.full(4, 7), np.full(4, 3.5))

    of_time = ("peak_frame", "peak_s", "centre_frame", "centre_s", "spread_frames", "spread_s")
    assert [getattr(found, name) for name in of_time] == [None] * 6
    assert (found.peak_x, found.peak_y) == (0.99, 0.99)
    assert (still.peak_frame, still.peak_s) == (7, 3.5)
