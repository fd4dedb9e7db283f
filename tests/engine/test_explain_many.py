import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import moving_square, write_folder, write_video
from numpy.typing import NDArray
from saliency_tubes import Explanation, TubeModel, head, load_model, model
from saliency_tubes.errors import LabelError, ModelFileError, OptionError, OutputError, SaliencyTubesError, SourceError
from saliency_tubes.session import Activations, Session

pytest.importorskip("onnx")

from tiny import CLASSES, tiny_spec, write_tiny


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tubes.onnx")


@pytest.fixture
def loaded(model_file: Path) -> TubeModel:
    return load_model(model_file, "cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(2)
    # Of different colours, so that different classes are their highest.
    return [
        write_video(folder / f"clip{i}.mp4", moving_square(20) // 4 + rng.integers(0, 192, 3, dtype=np.uint8))
        for i in range(7)
    ]


def assert_same(one: Explanation, other: Explanation) -> None:
    assert one.clip == other.clip
    assert [tube.label for tube in one.tubes] == [tube.label for tube in other.tubes]
    np.testing.assert_allclose(one.logits, other.logits, rtol=1e-5, atol=1e-6)
    assert one.completeness < 1e-5
    for ours, theirs in zip(one.tubes, other.tubes, strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)
        np.testing.assert_allclose(ours.map, theirs.map, rtol=1e-4, atol=1e-5)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_it_explains_as_one_by_one_and_in_order(loaded: TubeModel, videos: list[Path], batch: int | None) -> None:
    together = list(loaded.explain_many(videos, [4, "bowling"], top_k=2, batch=batch))

    alone = [loaded.explain(video, [4, "bowling"], top_k=2) for video in videos]
    assert len({len(explanation.tubes) for explanation in alone}) > 1  # or nothing here tells their tubes apart
    for ours, theirs in zip(together, alone, strict=True):
        assert_same(ours, theirs)


def test_without_a_label_each_clip_gets_its_own_prediction(loaded: TubeModel, videos: list[Path]) -> None:
    for explanation in loaded.explain_many(videos, batch=4):
        assert [tube.label for tube in explanation.tubes] == [int(explanation.logits.argmax())]


def test_a_batch_costs_one_run_and_one_set_of_products(
    loaded: TubeModel, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, products = [], []
    real_run, real_map = Session.run, head.class_activation_map

    def run(session: Session, frames: NDArray[np.uint8]) -> Activations:
        runs.append(len(frames))
        return real_run(session, frames)

    monkeypatch.setattr(Session, "run", run)
    monkeypatch.setattr(head, "class_activation_map", lambda *a: products.append(1) or real_map(*a))

    list(loaded.explain_many(videos[:6], 0, batch=3))

    assert runs == [3, 3]
    assert len(products) == 2


def test_it_saves_what_one_by_one_saves(loaded: TubeModel, videos: list[Path], tmp_path: Path) -> None:
    for explanation in loaded.explain_many(videos[:3], 2, out=tmp_path / "together", artifacts=["heatmap", "sheet"]):
        assert (tmp_path / "together" / explanation.clip.name / "2" / "info.json").is_file()  # before it is handed out
    for video in videos[:3]:
        loaded.explain(video, 2).save(tmp_path / "alone", artifacts=["heatmap", "sheet"])

    ours, theirs = (
        {file.relative_to(tmp_path / name): file for file in sorted((tmp_path / name).rglob("*.png"))}
        for name in ("together", "alone")
    )
    assert ours.keys() == theirs.keys()
    for name, file in ours.items():
        a, b = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (file, theirs[name]))
        assert np.mean(a == b) > 0.99


def test_without_out_nothing_is_written(
    loaded: TubeModel, videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(list(loaded.explain_many(videos[:2], 2))) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_bad_clip_is_raised_where_its_turn_is(loaded: TubeModel, videos: list[Path]) -> None:
    results = loaded.explain_many([videos[0], "nowhere.mp4", videos[1]], 0)

    assert next(results).clip.path == videos[0]
    with pytest.raises(SourceError, match=r"nowhere\.mp4 does not exist"):
        next(results)


def test_bad_clips_go_to_on_error_and_the_others_go_on(loaded: TubeModel, videos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    failed: list[tuple[object, str]] = []

    def on_error(source: object, error: SaliencyTubesError) -> None:
        failed.append((source, type(error).__name__))

    sources = ["nowhere.mp4", videos[0], tmp_path / "empty.mp4", videos[1]]
    results = list(loaded.explain_many(sources, 0, batch=2, on_error=on_error))

    assert [explanation.clip.path for explanation in results] == videos[:2]
    assert failed == [("nowhere.mp4", "SourceError"), (tmp_path / "empty.mp4", "SourceError")]


def test_a_clip_that_overflows_does_not_spoil_its_batch(
    loaded: TubeModel, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Session.run

    def run(session: Session, frames: NDArray[np.uint8]) -> Activations:
        activations = real(session, frames)
        activations.features[1, 0, 0, 0, 0] = np.nan
        return activations

    expected = [loaded.explain(video, 1) for video in videos[:3]]
    monkeypatch.setattr(Session, "run", run)
    failed: list[SaliencyTubesError] = []

    results = list(loaded.explain_many(videos[:3], 1, batch=3, on_error=lambda _, error: failed.append(error)))

    assert_same(results[0], expected[0])
    assert_same(results[1], expected[2])
    (error,) = failed
    assert isinstance(error, ModelFileError)
    assert "infinite or undefined (NaN) values" in str(error)


def test_two_clips_of_one_name_do_not_replace_each_other(loaded: TubeModel, videos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / videos[0].name
    twin.write_bytes(videos[1].read_bytes())

    results = loaded.explain_many([videos[0], twin], 0, out=tmp_path / "out")
    first = next(results)
    with pytest.raises(
        OutputError, match=r"a second clip is called clip0, and would replace the first in .*out: renam"
    ):
        next(results)

    assert str(first.clip.path) in (tmp_path / "out" / "clip0" / "0" / "info.json").read_text()
    assert len(list(loaded.explain_many([videos[0], twin], 0))) == 2  # nothing is saved, so nothing is replaced


@pytest.mark.parametrize(("one", "other"), [("...", "clip"), ("Clip", "clip")])
def test_names_that_become_one_folder_are_one_name(
    loaded: TubeModel, videos: list[Path], tmp_path: Path, one: str, other: str
) -> None:
    folders = [write_folder(tmp_path / str(i) / name, moving_square(8)) for i, name in enumerate((one, other))]

    results = loaded.explain_many(folders, 0, out=tmp_path / "out")
    next(results)
    with pytest.raises(OutputError, match="a second clip is called clip"):
        next(results)


def test_a_path_that_the_system_refuses_is_a_bad_clip_like_others(loaded: TubeModel, videos: list[Path]) -> None:
    failed: list[SaliencyTubesError] = []

    sources = ["a" * 300, videos[0]]
    results = list(loaded.explain_many(sources, 0, on_error=lambda _, error: failed.append(error)))

    assert len(results) == 1
    (error,) = failed
    assert isinstance(error, SourceError)
    assert "cannot be read (File name too long): check the path" in str(error)


def test_a_tube_does_not_keep_its_batch(loaded: TubeModel, videos: list[Path]) -> None:
    for explanation in loaded.explain_many(videos[:4], [0, 1], batch=4):
        for tube in explanation.tubes:
            assert tube.values.base is None or tube.values.base.nbytes == tube.values.nbytes


def test_wrong_arguments_are_errors_before_a_clip_is_opened(loaded: TubeModel) -> None:
    with pytest.raises(LabelError, match="label 5 is out of range"):
        loaded.explain_many(["nowhere.mp4"], CLASSES)
    with pytest.raises(LabelError, match="top_k is 9"):
        loaded.explain_many(["nowhere.mp4"], top_k=9)
    with pytest.raises(OptionError, match="there is no artifact 'poster'"):
        loaded.explain_many(["nowhere.mp4"], artifacts=["poster"])
    with pytest.raises(OptionError, match="batch is 0: expected a whole number of at least 1"):
        loaded.explain_many(["nowhere.mp4"], batch=0)


def test_no_clips_are_no_explanations(loaded: TubeModel) -> None:
    assert list(loaded.explain_many([])) == []


def test_a_model_file_that_changed_under_it_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "usable_cores", lambda: 2)
    path = write_tiny(tmp_path / "tubes.onnx")
    loaded = load_model(path, "cpu")
    write_tiny(path, tiny_spec(bias=tiny_spec().head.bias + np.float32(1)))

    with pytest.raises(ModelFileError, match="has changed since it was loaded: load it again"):
        loaded.explain_many([moving_square(8)], 0)


def test_leaving_early_ends_all_threads(loaded: TubeModel, videos: list[Path]) -> None:
    list(loaded.explain_many(videos[:1], 0))
    before = threading.active_count()

    results = loaded.explain_many(videos, 0)
    next(results)
    results.close()  # type: ignore[attr-defined]

    assert threading.active_count() == before


def test_memory_does_not_grow_with_the_number_of_clips(loaded: TubeModel) -> None:
    def clips(count: int) -> Iterator[NDArray[np.uint8]]:
        for i in range(count):
            yield np.roll(moving_square(8), i, axis=0)

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in loaded.explain_many(clips(count), 0):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(60) < 2 * peak(6)
