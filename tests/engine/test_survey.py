"""Whole videos, window by window."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from clips import moving_square, write_video
from numpy.typing import NDArray
from saliency_tubes import TubeModel, load_model
from saliency_tubes.choices import Fit
from saliency_tubes.errors import ModelFileError, SourceError
from saliency_tubes.preprocess import CropBox, crop
from saliency_tubes.sampling import Sampling
from saliency_tubes.session import Activations
from saliency_tubes.survey import Survey, Surveyor
from saliency_tubes.tube import merge
from saliency_tubes.video import FrameArray, VideoFile
from saliency_tubes.view import View, Wanted
from tiny import CHANNELS, CLASSES, FEATURES, FRAMES, tiny_spec, write_tiny

DENSE = Sampling.dense(2, 0.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    return load_model(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


def test_a_whole_videos_explanation_is_that_of_its_windows_merged(model: TubeModel) -> None:
    frames = moving_square(41)

    explanation = model.explain(frames, [3, 0], sampling=DENSE, align="corners")

    windows = DENSE.windows(41, FRAMES)
    assert explanation.windows == windows
    alone = [model.explain(frames[list(window.indices)], [3, 0]) for window in windows]
    np.testing.assert_allclose(explanation.window_logits, [one.logits for one in alone], atol=1e-6)
    np.testing.assert_allclose(explanation.logits, np.mean([one.logits for one in alone], axis=0), atol=1e-6)
    for position, label in enumerate([3, 0]):
        tube = explanation.tubes[position]
        assert tube.label == label
        merged = merge(windows, [one.tubes[position].map for one in alone], 41)
        np.testing.assert_allclose(tube.map, merged, atol=1e-5)
    assert explanation.completeness < 1e-5
    assert explanation.frames is None
    assert explanation.frame_indices.tolist() == list(range(41))


def test_a_video_shorter_than_a_window_is_noted(model: TubeModel) -> None:
    explanation = model.explain(moving_square(10), 1, sampling=Sampling.dense(5, 0))

    assert explanation.notes == (
        "the clip has 10 frames, fewer than a window of 4 at stride 5: one window covers all of it, its frames 3.0 apart",
    )
    assert model.explain(moving_square(16), 1, sampling=Sampling.dense(5, 0)).notes == ()


def test_every_frame_of_a_video_has_its_time(model: TubeModel, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_square(41), rate=10)

    explanation = model.explain(clip, sampling=Sampling.dense(3, 0))

    np.testing.assert_allclose(explanation.timestamps, np.arange(41) / 10, atol=1e-3)


def test_the_class_explained_is_the_highest_over_the_whole_video(model: TubeModel) -> None:
    explanation = model.explain(moving_square(41), sampling="dense", top_k=2)

    assert [tube.label for tube in explanation.tubes] == np.argsort(-explanation.logits)[:2].tolist()


class Network:
    """A network whose logits are told beforehand, by the brightness of a window's first frame."""

    def __init__(self, logits: Sequence[NDArray[np.float32]], classes: int) -> None:
        self.logits, self.classes = logits, classes
        self.seen: list[int] = []
        self.spec = tiny_spec(
            weight=np.zeros((classes, CHANNELS), np.float32), bias=np.zeros(classes, np.float32), labels=None
        )

    def run(self, frames: NDArray[np.uint8]) -> Activations:
        numbers = [int(one[0, 0, 0, 0]) for one in frames]
        self.seen += numbers
        features = np.ones((len(frames), *FEATURES), dtype=np.float32)
        return Activations(np.stack([self.logits[n] for n in numbers]), features)

    def survey(self, clip: FrameArray | VideoFile, wanted: Wanted, batch: int = 1) -> Survey:
        view = View(Sampling.dense(1, 0), Fit.WHOLE, wanted)
        return Surveyor(clip, self.spec, view, self.run, batch, lambda _: None).survey()


def numbered(windows: int) -> FrameArray:
    """A clip whose frames are as bright as the number of the window of four frames that begins there."""
    length = 3 * windows + 1
    values = np.arange(length, dtype=np.uint8) // 3
    return FrameArray(np.broadcast_to(values[:, None, None, None], (length, 8, 8, 3)).copy())


def test_windows_that_did_not_keep_the_winners_map_are_run_again() -> None:
    """Every window has favourites of its own; class 39, never among them, is the highest on average."""
    logits = []
    for window in range(4):
        row = np.zeros(40, dtype=np.float32)
        row[window * 8 : window * 8 + 8] = 10
        row[39] = 9
        logits.append(row)
    network = Network(logits, 40)

    found = network.survey(numbered(4), Wanted())

    assert found.labels == [39]
    assert len(found.maps[0]) == 4
    assert network.seen[:4] == [0, 1, 2, 3]
    assert set(network.seen[4:]) <= {0, 1, 2, 3}
    assert len(network.seen) > 4
    assert found.logits.tolist() == np.stack(logits).tolist()


def test_a_winner_that_is_never_first_costs_no_second_pass() -> None:
    """Class 9 comes behind one other in each window; class 39 is the highest so far, if never in any window's eight."""
    logits = []
    for window in range(4):
        row = np.zeros(40, dtype=np.float32)
        row[window], row[9] = 10, 9
        logits.append(row)
    network = Network(logits, 40)
    assert network.survey(numbered(4), Wanted()).labels == [9]
    assert network.seen == [0, 1, 2, 3]

    first = np.full(40, -1, dtype=np.float32)
    first[39] = 200
    network = Network([first, *([np.arange(40, 0, -1, dtype=np.float32)] * 3)], 40)
    assert network.survey(numbered(4), Wanted()).labels == [39]
    assert network.seen == [0, 1, 2, 3]


def test_completeness_is_measured_over_all_windows() -> None:
    """Features of ones and weights of zeros make maps of zeros: what is missing to a logit of 5 is 5."""
    logits = [np.zeros(CLASSES, dtype=np.float32) for _ in range(3)]
    logits[1][2] = 5

    assert Network(logits, CLASSES).survey(numbered(3), Wanted((2,))).completeness == pytest.approx(1)
    assert Network(logits, CLASSES).survey(numbered(3), Wanted((1,))).completeness == 0


def test_wanted_labels_cost_one_pass_and_one_map_a_window() -> None:
    network = Network([np.zeros(40, dtype=np.float32)] * 4, 40)

    found = network.survey(numbered(4), Wanted((7,)))

    assert found.labels == [7]
    assert network.seen == [0, 1, 2, 3]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_windows_run_in_batches(batch: int) -> None:
    rng = np.random.default_rng(0)
    logits = [rng.standard_normal(CLASSES).astype(np.float32) for _ in range(7)]

    found = Network(logits, CLASSES).survey(numbered(7), Wanted(), batch)

    np.testing.assert_array_equal(found.logits, logits)


def test_a_video_that_breaks_off_is_explained_as_far_as_it_goes(model: TubeModel, tmp_path: Path) -> None:
    """The moov atom in front announces all frames; the file ends in the middle of them."""
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "cut.mp4", noisy, faststart=True)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])

    explanation = model.explain(path, sampling="dense")

    assert 20 < explanation.clip.length < 50
    assert explanation.windows[-1].last == explanation.clip.length - 1
    assert len(explanation.tube.map) == explanation.clip.length
    assert any("cut short" in note for note in explanation.notes)


def test_a_clip_that_is_never_twice_as_long_is_an_error(model: TubeModel) -> None:
    class Growing(FrameArray):
        def read(self, indices):  # type: ignore[no-untyped-def]
            yield from super().read(indices)
            self.length += 1

    clip = Growing(moving_square(200))
    clip.length = 30

    with pytest.raises(SourceError, match="decodes to another number of frames each time"):
        model.explain(clip, 0, sampling="dense")


def test_an_error_on_the_way_leaves_no_thread_and_no_open_file(model: TubeModel, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_square(60))
    network = Network([np.zeros(5, dtype=np.float32)], 5)
    before = threading.active_count()

    with pytest.raises(IndexError, match="out of range") as kept:
        network.survey(VideoFile(clip), Wanted())

    assert kept.value
    assert threading.active_count() == before


def test_a_network_that_overflows_says_so(tmp_path: Path) -> None:
    broken = load_model(
        write_tiny(
            tmp_path / "t.onnx",
            tiny_spec(bias=np.full(CLASSES, 3e38, np.float32), weight=np.full((CLASSES, CHANNELS), 3e38, np.float32)),
        ),
        device="cpu",
    )

    with pytest.raises(ModelFileError, match="infinite or undefined"):
        broken.explain(moving_square(20), sampling="dense")


@pytest.mark.parametrize("fit", Fit)
def test_windows_are_fitted_as_asked(model: TubeModel, fit: Fit) -> None:
    frames = moving_square(20)

    explanation = model.explain(frames, 1, fit=fit)

    seen = [crop(frames[i], model.spec.preprocessing, fit) for i in explanation.frame_indices]
    np.testing.assert_array_equal(explanation.frames, seen)
    assert (explanation.box == CropBox(0, 0, 1, 1)) == (fit is Fit.WHOLE)


def test_the_memory_of_a_survey_hardly_grows_with_the_video(model: TubeModel) -> None:
    """What is kept of each window is small maps; the crops of a thousand windows would be 12 MB each hundred."""
    import tracemalloc

    def peak(length: int) -> int:
        frames = np.broadcast_to(moving_square(1), (length, 48, 64, 3))
        clip = FrameArray(frames)
        tracemalloc.start()
        try:
            model.explain(clip, 0, sampling="dense")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short, long = peak(100), peak(2100)

    assert long - short < 2000 * 1000  # a crop has 3 kB, a step of the tube (32, 32) 4 kB
