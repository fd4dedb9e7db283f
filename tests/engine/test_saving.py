"""What `save` writes, read back from the files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import moving_square, write_folder, write_video
from numpy.typing import NDArray
from saliency_tubes import TubeModel, load_model, render, saving, timeline
from saliency_tubes.choices import USEFUL, Artifact, Fit
from saliency_tubes.errors import OutputError, SourceError
from saliency_tubes.painter import Painter
from saliency_tubes.preprocess import crop
from saliency_tubes.products import spread
from saliency_tubes.sampling import Sampling
from saliency_tubes.style import Style
from saliency_tubes.timeline import Timeline
from saliency_tubes.video_sink import VideoSink
from tiny import write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    return load_model(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "square.mp4", moving_square(31, 96, 128), rate=10)


def decoded(path: Path) -> tuple[list[float], list[NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(frame.time or 0) for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_unless_told_otherwise_a_useful_few_are_written(model: TubeModel, video: Path, tmp_path: Path) -> None:
    (folder,) = model.explain(video, 1).save(tmp_path)

    assert names(folder) == {"overlay.mp4", "sheet.png", "timeline.png", "report.html", "info.json"}
    assert set(USEFUL) == {"overlay", "sheet", "timeline", "html"}


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
def test_the_overlay_is_the_whole_video_at_its_own_size_and_times(
    model: TubeModel, video: Path, tmp_path: Path, sampling: str
) -> None:
    explanation = model.explain(video, 1, sampling=sampling)
    (folder,) = explanation.save(tmp_path, artifacts=["overlay"])

    times, frames = decoded(folder / "overlay.mp4")
    assert times == pytest.approx([i / 10 for i in range(31)], abs=1e-3)
    assert frames[0].shape == (96, 128, 3)
    painter = Painter(explanation, Style())
    _, source = decoded(video)
    for index in (0, 14, 30):
        difference = np.abs(frames[index].astype(int) - painter.paint(source[index], index, 0))
        assert difference.mean() < 4


def test_labels_together_get_a_folder_of_their_own(model: TubeModel, video: Path, tmp_path: Path) -> None:
    folders = model.explain(video, [3, 1]).save(tmp_path, artifacts=["html", "comparison", "timeline", "sheet"])

    assert [folder.name for folder in folders] == ["3", "1", "3+1"]
    assert names(folders[0]) == {"sheet.png", "timeline.png", "info.json"}
    assert names(folders[2]) == {"report.html", "comparison.mp4", "timeline.png", "info.json"}
    info = json.loads((folders[2] / "info.json").read_text())
    assert [label["index"] for label in info["labels"]] == [3, 1]
    times, _ = decoded(folders[2] / "comparison.mp4")
    assert len(times) == 31


def test_a_comparison_is_on_one_scale(model: TubeModel, video: Path, tmp_path: Path) -> None:
    """Class 4 reaches far below class 2, so that all of class 2 is high, and red, on the scale of both."""
    pair = model.explain(video, [4, 2], sampling="dense")
    below, above = pair.tubes
    assert below.low < above.low - 2 * (above.high - above.low)

    frames = decoded(pair.save(tmp_path, artifacts=["comparison"])[-1] / "comparison.mp4")[1]
    right = np.array_split(frames[15].astype(int), 2, axis=1)[1][60:150, 40:160]
    own = Painter(pair, Style()).paint(decoded(video)[1][15], 15, 1).astype(int)
    assert (right[..., 0] - right[..., 2]).mean() > (own[..., 0] - own[..., 2]).mean() + 30


def test_energies_of_several_labels_are_on_one_scale(
    model: TubeModel, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Timeline, str]] = []
    real = timeline.draw_timeline
    monkeypatch.setattr(timeline, "draw_timeline", lambda *parts: (drawn.append(parts), real(*parts))[1])
    explanation = model.explain(video, [4, 2], sampling="dense")

    explanation.save(tmp_path, artifacts=["timeline"])

    titles = {title: one for one, title in drawn}
    assert set(titles) == {"eating, square", "crying, square", "square"}
    low = min(tube.low for tube in explanation.tubes)
    high = max(tube.high for tube in explanation.tubes)
    means = [(tube.map.mean(axis=(1, 2)) - low) / (high - low) for tube in explanation.tubes]
    np.testing.assert_allclose(titles["square"].energy, means, atol=1e-5)
    np.testing.assert_allclose(titles["eating, square"].energy[0], explanation.tube.energy)


def test_nothing_together_is_no_folder(model: TubeModel, video: Path, tmp_path: Path) -> None:
    folders = model.explain(video, [3, 1]).save(tmp_path, artifacts=["sheet"])

    assert [folder.name for folder in folders] == ["3", "1"]
    assert names(tmp_path / "square") == {"3", "1"}


def test_very_many_labels_have_a_folder_name_that_fits(tmp_path: Path) -> None:
    from tiny import CHANNELS, tiny_spec

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((60, CHANNELS)).astype(np.float32)
    spec = tiny_spec(weight=weight, bias=np.zeros(60, np.float32), labels=None)
    many = load_model(write_tiny(tmp_path / "many.onnx", spec), "cpu").explain(moving_square(8), range(60))

    a = many.save(tmp_path / "a", artifacts=["timeline"])[-1]
    assert len(a.name) <= 100
    assert a.name.startswith("0+1+2+")
    other = load_model(tmp_path / "many.onnx", "cpu").explain(moving_square(8), range(59))
    assert other.save(tmp_path / "b", artifacts=["timeline"])[-1].name != a.name


def test_every_picture_of_a_whole_video_is_its_crop(model: TubeModel, video: Path, tmp_path: Path) -> None:
    explanation = model.explain(video, 1, sampling="dense", fit="short-side")
    (folder,) = explanation.save(tmp_path, artifacts=["heatmap", "focusmap"])

    files = sorted((folder / "heatmap").iterdir())
    assert [file.name for file in files] == [f"{index:03d}.png" for index in range(31)]
    _, source = decoded(video)
    seen = crop(source[17], explanation.spec.preprocessing, Fit.SHORT_SIDE)
    heat = cv2.imread(str(files[17]))[..., ::-1]
    np.testing.assert_array_equal(heat, render.heatmap(explanation.tube.values[17:18], seen[None])[0])
    focus = cv2.imread(str(folder / "focusmap" / "017.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(focus[..., 2::-1], seen)
    assert (focus[..., 3].min(), focus[..., 3].max()) == (20, 255)


def test_a_whole_videos_arrays_are_its_map_and_scale(model: TubeModel, video: Path, tmp_path: Path) -> None:
    explanation = model.explain(video, 1, sampling="dense")
    (folder,) = explanation.save(tmp_path, artifacts=["npz"])

    with np.load(folder / "tube.npz") as arrays:
        assert "tube" not in arrays
        np.testing.assert_array_equal(arrays["map"], explanation.tube.map)
        assert (arrays["low"], arrays["high"]) == pytest.approx((explanation.tube.low, explanation.tube.high))
        assert arrays["windows"].tolist() == [list(window.indices) for window in explanation.windows]
        np.testing.assert_array_equal(arrays["window_logits"], explanation.window_logits)


def test_info_tells_sampling_fit_and_style(model: TubeModel, video: Path, tmp_path: Path) -> None:
    explanation = model.explain(video, 1, sampling=Sampling.dense(3, 0.25), fit="short-side")
    (folder,) = explanation.save(tmp_path, artifacts=[], style=Style.of(colormap="turbo", opacity=0.3))

    info = json.loads((folder / "info.json").read_text())
    assert info["label"]["window_logits"] == explanation.window_logits[:, 1].tolist()
    assert info["sampling"].pop("box") == asdict(explanation.box)
    assert info["sampling"] == {
        "method": "dense",
        "stride": 3,
        "overlap": 0.25,
        "fit": "short-side",
        "windows": [{"first": w.first, "last": w.last} for w in explanation.windows],
    }
    assert info["style"] == {"name": "reference", "colormap": "turbo", "opacity": 0.3, "threshold": 0.0}
    assert info["clip"]["size_wh"] == [128, 96]


def test_a_folder_of_frames_becomes_a_video_at_a_leisurely_pace(model: TubeModel, tmp_path: Path) -> None:
    clip = write_folder(tmp_path / "frames", moving_square(9))
    (folder,) = model.explain(clip, 1).save(tmp_path / "out", artifacts=["overlay", "gif"])

    times, frames = decoded(folder / "overlay.mp4")
    assert times == pytest.approx([i / 8 for i in range(9)], abs=1e-3)
    assert frames[0].shape == (48, 64, 3)
    assert len(decoded(folder / "overlay.gif")[0]) == 4  # the frames that the network saw


def test_the_keras_look_reaches_every_picture(model: TubeModel, video: Path, tmp_path: Path) -> None:
    explanation = model.explain(video, 1)
    (folder,) = explanation.save(tmp_path, artifacts=["heatmap"], style=Style.keras())

    assert explanation.frames is not None
    volume = Painter(explanation, Style.keras()).volume(0)
    picture = cv2.imread(str(folder / "heatmap" / "001.png"))[..., ::-1]
    np.testing.assert_array_equal(picture, render.blend(explanation.frames[1], volume[1], Style.keras()))


def test_a_clip_that_vanished_is_an_error_and_leaves_nothing(model: TubeModel, video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    explanation = model.explain(copy, 1)
    copy.unlink()

    with pytest.raises(SourceError, match=r"copy\.mp4 cannot be opened"):
        explanation.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_clip_that_changed_is_an_error_and_leaves_nothing(model: TubeModel, video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    explanation = model.explain(copy, 1)
    write_video(copy, moving_square(12))

    with pytest.raises(SourceError, match=r"copy\.mp4 has changed since it was opened: wait until it is whole"):
        explanation.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("artifact", ["overlay", "sheet", "html", "gif"])
def test_frames_that_are_missing_when_it_is_drawn_are_an_error(
    model: TubeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifact: str
) -> None:
    explanation = model.explain(moving_square(20), 1)
    whole = explanation.source.read
    monkeypatch.setattr(
        explanation.source, "read", lambda indices: (frame for frame in whole(indices) if frame.index < 9)
    )

    with pytest.raises(
        SourceError, match=r"array gave \d+ frames when it was explained, and \d when it was to be drawn"
    ):
        explanation.save(tmp_path / "out", artifacts=[artifact])
    assert not (tmp_path / "out").exists()


def test_many_labels_are_drawn_in_groups(
    model: TubeModel, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now, most = [0], [0]
    enter, leave = VideoSink.__enter__, VideoSink.__exit__

    def entered(sink: VideoSink) -> VideoSink:
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        return enter(sink)

    def left(sink: VideoSink, *error: Any) -> None:
        open_now[0] -= 1
        leave(sink, *error)

    monkeypatch.setattr(saving, "_AT_ONCE", 2)
    monkeypatch.setattr(VideoSink, "__enter__", entered)
    monkeypatch.setattr(VideoSink, "__exit__", left)

    folders = model.explain(video, range(5)).save(tmp_path, artifacts=["overlay", "html"])

    assert most == [2]
    assert all(len(decoded(folder / "overlay.mp4")[0]) == 31 for folder in folders[:5])
    assert (folders[5] / "report.html").is_file()


@pytest.mark.parametrize(("labels", "count"), [([3], 1), (range(5), 5)])
def test_a_comparison_that_cannot_be_is_left_out_and_told(
    model: TubeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: list[int], count: int
) -> None:
    monkeypatch.setattr(saving, "MOST_COMPARED", 4)
    notes: list[str] = []

    model.explain(moving_square(8), labels).save(tmp_path, artifacts=["comparison"], on_note=notes.append)

    assert notes == [f"comparison.mp4 is left out: it takes 2 to 4 labels, here are {count}"]


def test_frames_longer_than_a_video_can_be_are_made_smaller(model: TubeModel, tmp_path: Path) -> None:
    frames = np.zeros((2, 20, 17_000, 3), dtype=np.uint8)

    (folder,) = model.explain(frames, 1).save(tmp_path, artifacts=["overlay"])

    assert decoded(folder / "overlay.mp4")[1][0].shape[1] == 16_384


def test_one_artifact_may_come_as_its_name(model: TubeModel, tmp_path: Path) -> None:
    (folder,) = model.explain(moving_square(8), 1).save(tmp_path, artifacts="timeline")

    assert names(folder) == {"timeline.png", "info.json"}


def test_somebody_elses_folder_for_all_labels_stops_it_before_anything_is_replaced(
    model: TubeModel, video: Path, tmp_path: Path
) -> None:
    (tmp_path / "square" / "1+3").mkdir(parents=True)
    (tmp_path / "square" / "1+3" / "thesis.txt").write_text("mine")

    with pytest.raises(OutputError, match=r"did not write \(thesis\.txt\)"):
        model.explain(video, [1, 3]).save(tmp_path)
    assert names(tmp_path / "square") == {"1+3"}
    assert names(tmp_path / "square" / "1+3") == {"thesis.txt"}


def test_the_report_of_a_run_carries_its_maps(model: TubeModel, video: Path) -> None:
    from saliency_tubes.report_page import report_of

    explanation = model.explain(video, [1, 3], sampling="dense")
    report = report_of(explanation, Style())

    assert report.times == pytest.approx(np.arange(31) / 10, abs=1e-3)
    assert report.video[4:8] == b"ftyp"
    assert [label.index for label in report.labels] == [1, 3]
    for label, tube in zip(report.labels, explanation.tubes, strict=True):
        np.testing.assert_array_equal(label.maps, tube.map)
        assert (label.low, label.high) == (tube.low, tube.high)
        assert label.probabilities.shape == (len(explanation.windows),)
    assert report.spans[0].tolist() == pytest.approx([0, 0.6], abs=1e-3)


def test_what_was_not_explained_is_missing_from_the_report(model: TubeModel, video: Path) -> None:
    from saliency_tubes.report_page import report_of

    report = report_of(model.explain(video, 1, sampling=Sampling.stepped(2, 5)), Style())

    maps = report.labels[0].maps
    assert np.isnan(maps[0]).all()
    assert not np.isnan(maps[1:10]).any()
    assert np.isnan(maps[10:]).all()


def test_a_notebook_shows_the_viewer(model: TubeModel, video: Path) -> None:
    html = model.explain(video, 1)._repr_html_()

    assert html.startswith("<iframe")
    assert 'sandbox="allow-scripts"' in html


@pytest.mark.parametrize("artifact", Artifact)
def test_every_artifact_is_listed_in_info(model: TubeModel, video: Path, tmp_path: Path, artifact: Artifact) -> None:
    folder = model.explain(video, [1, 2], sampling="dense").save(tmp_path, artifacts=[artifact])[-1]

    written = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert len(written) > 1
    assert json.loads((folder / "info.json").read_text())["files"] == written


def test_indices_are_spread_evenly_without_repeats() -> None:
    assert spread(range(100), 4) == [0, 33, 66, 99]
    assert spread([0, 0, 0, 1], 8) == [0, 1]
    assert spread([5], 3) == [5]
