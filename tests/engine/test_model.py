import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from clips import moving_square, write_folder, write_video
from onnx import helper
from saliency_tubes import TubeModel, load_model
from saliency_tubes.choices import Artifact
from saliency_tubes.errors import LabelError, ModelFileError, OptionError, OutputError, SourceError
from saliency_tubes.preprocess import crop
from saliency_tubes.products import pace
from saliency_tubes.sampling import uniform
from tiny import FRAMES, LABELS, SIZE, tiny_graph, tiny_spec, write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    return load_model(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "square.mp4", moving_square(20), faststart=True)


def test_an_explanation_holds_what_the_network_saw_and_said(model: TubeModel) -> None:
    frames = moving_square(20)

    explanation = model.explain(frames, label="bowling")

    seen = [crop(frames[i], model.spec.preprocessing) for i in uniform(20, FRAMES)]
    np.testing.assert_array_equal(explanation.frames, seen)
    assert explanation.frame_indices.tolist() == [0, 6, 12, 19]
    assert explanation.logits.shape == (5,)
    assert explanation.probabilities.sum() == pytest.approx(1)
    assert explanation.tube.label == 1
    assert explanation.tube.values.shape == (FRAMES, SIZE, SIZE)
    assert explanation.tube.values.min() == 0
    assert explanation.tube.values.max() == 1


def test_a_label_may_be_numpys(model: TubeModel) -> None:
    assert model.explain(moving_square(20), np.argmax([0, 0, 1])).tube.label == 2


def test_maps_add_up_to_the_logits(model: TubeModel) -> None:
    explanation = model.explain(moving_square(20), label=range(5))

    for tube in explanation.tubes:
        total = tube.map.mean() + model.spec.head.bias[tube.label]
        assert total == pytest.approx(explanation.logits[tube.label], abs=1e-5)
    assert explanation.completeness < 1e-5


def test_the_evidence_is_where_the_picture_is(model: TubeModel) -> None:
    """A bright block in one corner, late in the clip, changes the map there and nowhere else."""
    plain = np.full((4, 36, 36, 3), 100, dtype=np.uint8)
    marked = plain.copy()
    marked[2:, 18:, :18] = 255

    difference = model.explain(marked, 0).tube.map - model.explain(plain, 0).tube.map

    where = np.argwhere(np.abs(difference) > 1e-6)
    assert where[:, 0].min() == 1
    assert where[:, 1].min() >= 2
    assert where[:, 2].max() <= 1


def test_no_label_means_the_predicted_class(model: TubeModel) -> None:
    explanation = model.explain(moving_square(20))

    assert [tube.label for tube in explanation.tubes] == [int(explanation.logits.argmax())]
    assert explanation.predicted.index == explanation.tube.label
    assert explanation.predicted.name == LABELS[explanation.tube.label]


def test_several_labels_cost_one_forward_pass(model: TubeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    run = model._session.backend.run
    monkeypatch.setattr(model._session.backend, "run", lambda frames: runs.append(1) or run(frames))

    explanation = model.explain(moving_square(20), label=[4, "archery", 4], top_k=2)

    top = [score.index for score in explanation.top(2)]
    assert [tube.label for tube in explanation.tubes] == list(dict.fromkeys([4, 0, *top]))
    assert len(runs) == 1


def test_the_top_is_ordered_by_logit(model: TubeModel) -> None:
    explanation = model.explain(moving_square(20))

    logits = [score.logit for score in explanation.top(5)]
    assert logits == sorted(explanation.logits.tolist(), reverse=True)


@pytest.mark.parametrize("label", [5, -1, "5", "swimming", [0, "swimming"]])
def test_a_wrong_label_is_an_error_before_the_clip_is_opened(model: TubeModel, label: object) -> None:
    with pytest.raises(LabelError, match=r"out of range|no class is called"):
        model.explain("nowhere.mp4", label)  # type: ignore[arg-type]


@pytest.mark.parametrize("top_k", [-1, 6])
def test_a_wrong_top_k_is_an_error(model: TubeModel, top_k: int) -> None:
    with pytest.raises(LabelError, match=rf"top_k is {top_k}: expected a number from 0 to 5"):
        model.explain(moving_square(4), top_k=top_k)


def test_a_video_a_folder_and_an_array_of_the_same_pixels_agree(model: TubeModel, tmp_path: Path) -> None:
    frames = moving_square(20)
    folder = model.explain(write_folder(tmp_path / "clip", frames), 0)
    array = model.explain(frames, 0)
    video = model.explain(write_video(tmp_path / "clip.mp4", frames), 0)

    np.testing.assert_array_equal(folder.tube.values, array.tube.values)
    assert folder.clip.input_sha256 == array.clip.input_sha256 != video.clip.input_sha256
    assert np.abs(video.frames.astype(int) - array.frames).mean() < 6
    assert video.timestamps == pytest.approx([0, 0.6, 1.2, 1.9])
    assert np.isnan(folder.timestamps).all()


def test_a_fallback_of_the_device_is_part_of_the_explanation(model: TubeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model._explainer, "_session", replace(model._session, note="running on the CPU: no driver"))

    assert model.explain(moving_square(8)).notes == ("running on the CPU: no driver",)


def test_a_short_clip_is_explained_with_a_note(model: TubeModel) -> None:
    explanation = model.explain(moving_square(2))

    assert explanation.frame_indices.tolist() == [0, 0, 0, 1]
    assert explanation.notes == ("the clip has 2 frames and the network takes 4: some are repeated",)


def test_a_truncated_video_is_sampled_over_what_decodes(model: TubeModel, video: Path, tmp_path: Path) -> None:
    data = video.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * 0.7)])

    explanation = model.explain(tmp_path / "cut.mp4")

    assert explanation.clip.length < 20
    assert explanation.frame_indices.tolist() == uniform(explanation.clip.length, FRAMES).tolist()
    assert "announces 20 frames" in explanation.notes[0]


def test_a_clip_that_keeps_changing_is_an_error_not_a_loop(model: TubeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Growing:
        name, path, notes, length = "live", None, (), 10

        def read(self, _: list[int]) -> object:
            self.length += 1
            return (frame for frame in ())

    monkeypatch.setattr("saliency_tubes.model.open_clip", lambda _: Growing())

    with pytest.raises(SourceError, match="live decodes to another number of frames each time"):
        model.explain("live")


def test_a_constant_map_is_noted(tmp_path: Path) -> None:
    spec = tiny_spec(weight=np.zeros((5, 6), dtype=np.float32))
    explanation = load_model(write_tiny(tmp_path / "flat.onnx", spec), "cpu").explain(moving_square(8), 2)

    assert not explanation.tube.values.any()
    assert explanation.notes == ("the map of class 2 is the same everywhere: its tube is zero and points nowhere",)


def test_a_network_that_overflows_is_an_error(tmp_path: Path) -> None:
    spec = tiny_spec(weight=np.full((5, 6), 3e38, dtype=np.float32))
    model = load_model(write_tiny(tmp_path / "huge.onnx", spec), "cpu")

    with pytest.raises(ModelFileError, match=r"infinite or undefined \(NaN\) values on this clip"):
        model.explain(moving_square(8))


def test_a_plain_onnx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="carries no saliency-tubes metadata"):
        load_model(write_tiny(tmp_path / "plain.onnx", metadata={}), "cpu")


def test_metadata_of_another_graph_is_refused(tmp_path: Path) -> None:
    graph = tiny_graph(tiny_spec())
    helper.set_model_props(graph, tiny_spec(frames=8).to_metadata())
    onnx.save(graph, tmp_path / "swapped.onnx")

    with pytest.raises(ModelFileError, match=r"contradicts its metadata: expected .*\(8, 32, 32, 3\).*found"):
        load_model(tmp_path / "swapped.onnx", "cpu")


def test_saving_writes_everything_under_the_clips_name(model: TubeModel, video: Path, tmp_path: Path) -> None:
    explanation = model.explain(video, [1, 3])

    folders = explanation.save(tmp_path / "out", artifacts=Artifact)

    assert folders == tuple(tmp_path / "out" / "square" / name for name in ("1", "3", "1+3"))
    for folder, tube in zip(folders, explanation.tubes, strict=False):
        info = json.loads((folder / "info.json").read_text())
        written = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        assert written == info["files"]
        assert {name.partition("/")[0] for name in written} == {
            *("heatmap", "focusmap", "overlay.gif", "overlay.mp4", "sheet.png", "timeline.png", "tube.npz", "info.json")
        }
        assert info["label"]["index"] == tube.label
        assert info["label"]["name"] == LABELS[tube.label]
        with np.load(folder / "tube.npz") as arrays:
            np.testing.assert_array_equal(arrays["tube"], tube.values)
            np.testing.assert_array_equal(arrays["map"], tube.map)
            assert arrays["frame_indices"].tolist() == [0, 6, 12, 19]
            assert arrays["timestamps"] == pytest.approx([0, 0.6, 1.2, 1.9])
            assert arrays["label"] == tube.label
            assert arrays["logit"] == explanation.logits[tube.label]
            assert arrays["probability"] == explanation.probabilities[tube.label]


def test_info_tells_clip_model_device_times_and_versions(model: TubeModel, video: Path, tmp_path: Path) -> None:
    (folder,) = model.explain(video, 1).save(tmp_path)

    info = json.loads((folder / "info.json").read_text())

    assert info["clip"]["path"] == str(video)
    assert info["clip"]["length"] == 20
    assert len(info["clip"]["input_sha256"]) == 64
    assert info["model"]["device"] == "cpu"
    assert info["model"]["precision"] == "fp32"
    assert info["model"]["runtime"] == f"onnxruntime {info['versions']['onnxruntime']}"
    assert info["model"]["path"] == str(model.path)
    assert set(info["timings_s"]) == {"decode_and_crop", "network", "tube", "save"}
    assert all(seconds > 0 for seconds in info["timings_s"].values())
    assert len(info["top5"]) == 5
    assert info["top5"][0] == info["predicted"]
    assert set(info["versions"]) >= {"saliency_tubes", "onnxruntime", "numpy", "opencv", "av"}
    assert info["tube"]["completeness_error"] < 1e-5


def test_unknown_times_are_null_not_nan(model: TubeModel, tmp_path: Path) -> None:
    (folder,) = model.explain(moving_square(8), 1).save(tmp_path)

    assert folder == tmp_path / "array" / "1"
    assert json.loads((folder / "info.json").read_text())["sampling"]["timestamps_s"] == [None] * FRAMES


def test_saved_heatmaps_show_the_tube_on_the_frames(model: TubeModel, tmp_path: Path) -> None:
    explanation = model.explain(moving_square(8), 1)
    (folder,) = explanation.save(tmp_path, artifacts=["heatmap"])

    image = cv2.imread(str(folder / "heatmap" / "002.png"))

    jet = cv2.applyColorMap((255 * explanation.tube.values[2]).astype(np.uint8), cv2.COLORMAP_JET)
    np.testing.assert_array_equal(image, jet // 2 + explanation.frames[2][..., ::-1] // 2)


def test_saving_twice_replaces_and_somebody_elses_file_stops_it(model: TubeModel, tmp_path: Path) -> None:
    explanation = model.explain(moving_square(8), 1)
    (folder,) = explanation.save(tmp_path)
    explanation.save(tmp_path)
    (folder / "notes.txt").write_text("mine")

    with pytest.raises(OutputError, match=r"did not write \(notes\.txt\)"):
        explanation.save(tmp_path)

    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["..mp4", "...mp4", ".mp4"])
def test_a_clip_name_cannot_lead_out_of_the_folder(model: TubeModel, tmp_path: Path, name: str) -> None:
    write_video(tmp_path / "v.mp4", moving_square(8)).rename(tmp_path / name)

    (folder,) = model.explain(tmp_path / name, 1).save(tmp_path / "a" / "out")

    assert folder.resolve().is_relative_to((tmp_path / "a" / "out").resolve())
    assert folder.parent.parent == tmp_path / "a" / "out"


@pytest.mark.parametrize(("step", "shown"), [(0.001, 1 / 30), (0.1, 0.1), (10.0, 0.5), (0.0, 1 / 8)])
def test_animations_keep_the_clips_pace_within_reason(step: float, shown: float) -> None:
    assert pace([i * step for i in range(4)]) == pytest.approx(shown)
    assert pace([0.0]) == 1 / 8


@pytest.mark.parametrize("artifacts", [[], ["npz"], ["focusmap", "overlay"]])
def test_only_the_chosen_artifacts_are_written(model: TubeModel, tmp_path: Path, artifacts: list[str]) -> None:
    files = {"npz": "tube.npz", "overlay": "overlay.mp4", "focusmap": "focusmap"}

    (folder,) = model.explain(moving_square(8), 1).save(tmp_path, artifacts=artifacts)

    assert {file.name for file in folder.iterdir()} == {"info.json", *(files[name] for name in artifacts)}


def test_an_unknown_artifact_is_refused_before_anything_is_written(model: TubeModel, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is no artifact 'poster': choose among overlay, sheet"):
        model.explain(moving_square(8), 1).save(tmp_path, artifacts=["heatmap", "poster"])
    assert list(tmp_path.iterdir()) == []


def test_activations_are_what_an_explanation_is_made_of(model: TubeModel) -> None:
    explanations = [model.explain(moving_square(20)), model.explain(moving_square(20)[::-1])]

    found = model.activations(np.stack([explanation.frames for explanation in explanations]))

    assert found.features.shape == (2, *model.spec.features_shape)
    assert found.features.dtype == np.float32
    for explanation, logits, features in zip(explanations, found.logits, found.features, strict=True):
        np.testing.assert_allclose(logits, explanation.logits, rtol=1e-5, atol=1e-6)
        own = np.einsum("c,cthw->thw", model.spec.head.weight[explanation.tube.label], features)
        np.testing.assert_allclose(own, explanation.tube.map, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8),
        np.zeros((1, FRAMES, SIZE, SIZE + 1, 3), np.uint8),
        np.zeros((0, FRAMES, SIZE, SIZE, 3), np.uint8),
        np.zeros((1, FRAMES, SIZE, SIZE, 3), np.float32),
        np.uint8(0),
    ],
)
def test_activations_of_other_frames_are_refused(model: TubeModel, frames: np.ndarray) -> None:
    with pytest.raises(OptionError, match=rf"\(N, {FRAMES}, {SIZE}, {SIZE}, 3\) uint8, got \("):
        model.activations(frames)


def test_activations_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    spec = tiny_spec(bias=np.full(5, np.nan, np.float32))
    model = load_model(write_tiny(tmp_path / "nan.onnx", spec, tiny_spec().to_metadata()), device="cpu")

    with pytest.raises(ModelFileError, match="gave infinite or undefined"):
        model.activations(np.zeros((1, FRAMES, SIZE, SIZE, 3), np.uint8))
