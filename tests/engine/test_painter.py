from pathlib import Path

import numpy as np
import pytest
from clips import moving_square
from saliency_tubes import Explanation, TubeModel, load_model, render
from saliency_tubes.cells import Cells
from saliency_tubes.painter import UNKNOWN_SECONDS, Painter, Scene, fitted_wh, shrunk
from saliency_tubes.sampling import Sampling
from saliency_tubes.style import Style
from saliency_tubes.upsample import upsample
from saliency_tubes.video import Frame
from tiny import SIZE, write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    return load_model(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


@pytest.fixture(scope="module")
def whole(model: TubeModel) -> Explanation:
    return model.explain(moving_square(30), [1, 3], sampling="dense", fit="whole")


@pytest.fixture(scope="module")
def window(model: TubeModel) -> Explanation:
    return model.explain(moving_square(30), [1, 3])


def test_the_values_of_a_whole_video_are_its_tubes(whole: Explanation) -> None:
    painter = Painter(whole, Style())

    for index in (0, 13, 29):
        values = painter.values(0, index, (SIZE, SIZE))
        assert values is not None
        np.testing.assert_allclose(values, whole.tube.values[index], atol=1e-6)


@pytest.mark.parametrize("sampling", [Sampling.uniform(), Sampling.stepped(3, 8)])
def test_at_the_frames_that_a_window_saw_the_values_are_its_tubes(model: TubeModel, sampling: Sampling) -> None:
    explanation = model.explain(moving_square(27), 2, sampling=sampling)
    painter = Painter(explanation, Style())

    for step, index in enumerate(explanation.frame_indices.tolist()):
        values = painter.values(0, index, (SIZE, SIZE))
        assert values is not None
        np.testing.assert_allclose(values, explanation.tube.values[step], atol=1e-5)


def test_on_the_common_scale_colours_of_two_labels_can_be_compared(whole: Explanation) -> None:
    painter = Painter(whole, Style())
    low, high = painter.common_scale

    assert (low, high) == (min(t.low for t in whole.tubes), max(t.high for t in whole.tubes))
    for position, tube in enumerate(whole.tubes):
        values = painter.values(position, 7, (SIZE, SIZE), common=True)
        raw = tube.values[7] * (tube.high - tube.low) + tube.low
        np.testing.assert_allclose(values, (raw - low) / (high - low), atol=1e-5)


def test_what_was_not_explained_of_a_clip_has_no_values_and_is_marked(model: TubeModel) -> None:
    frames = moving_square(30)
    painter = Painter(model.explain(frames, 1, sampling=Sampling.stepped(2, 5)), Style())

    assert [painter.values(0, index, (4, 4)) is not None for index in (0, 1, 9, 10)] == [False, True, True, False]
    painted = painter.paint(frames[10], 10, 0)
    assert (painted == painted[..., :1]).all()  # grey


def test_a_frame_is_painted_where_the_crop_was(window: Explanation) -> None:
    painter = Painter(window, Style())
    rgb = np.full((480, 640, 3), 200, dtype=np.uint8)

    painted = painter.paint(rgb, 0, 0)

    top, bottom, left, right = render.box_pixels(window.box, (480, 640))
    values = painter.values(0, 0, (bottom - top, right - left))
    assert values is not None
    np.testing.assert_array_equal(painted[top:bottom, left:right], render.blend(rgb[top:bottom, left:right], values))
    assert painted[0, 0].max() < 100
    assert (rgb == 200).all()


def test_the_keras_look_of_a_volume_divides_by_the_largest_value(model: TubeModel) -> None:
    window = model.explain(moving_square(30), range(5))
    position, tube = max(enumerate(window.tubes), key=lambda pair: pair[1].high)
    assert tube.low < 0 < tube.high
    volume = Painter(window, Style.keras()).volume(position)

    raw = tube.values * (tube.high - tube.low) + tube.low
    np.testing.assert_allclose(volume, np.clip(raw / tube.high, 0, 1), atol=1e-5)
    assert Painter(window, Style()).volume(position) is tube.values


def test_a_scene_makes_each_picture_once(whole: Explanation) -> None:
    scene = Scene(Painter(whole, Style()), Frame(3, 0.3, moving_square(30)[3]))

    assert scene.painted(0, 32) is scene.painted(0, 32)
    assert scene.painted(0, 32) is not scene.painted(1, 32)
    assert scene.painted(0, 32).shape == (24, 32, 3)
    assert scene.bare() is scene.rgb
    assert scene.seconds == 0.3


def test_a_frame_without_a_time_gets_one_by_its_place(whole: Explanation) -> None:
    scene = Scene(Painter(whole, Style()), Frame(3, float("nan"), moving_square(30)[3]))

    assert np.isnan(scene.time)
    assert scene.seconds == 3 * UNKNOWN_SECONDS


@pytest.mark.parametrize(
    ("size", "longest", "fitted"),
    [((1920, 1080), 480, (480, 270)), ((100, 50), 480, (100, 50)), ((5000, 1), 100, (100, 1))],
)
def test_pictures_shrink_with_their_aspect_and_never_grow(
    size: tuple[int, int], longest: int, fitted: tuple[int, int]
) -> None:
    assert fitted_wh(size, longest) == fitted
    assert shrunk(np.zeros((size[1], size[0], 3), dtype=np.uint8), longest).shape == (fitted[1], fitted[0], 3)


def test_cells_are_drawn_over_what_they_see_at_any_size(tmp_path: Path) -> None:
    model = load_model(write_tiny(tmp_path / "tiny.onnx"), device="cpu")
    explanation = model.explain(moving_square(30), [1, 3], fit="whole", align="centers")
    painter = Painter(explanation, Style())
    raw, index = explanation.tube.steps[2], int(explanation.frame_indices[2])

    for size_hw in ((SIZE, SIZE), (48, 80)):  # the second three halves as high, and five halves as wide
        values = painter.values(0, index, size_hw)
        assert values is not None
        scale_y, scale_x = (side / SIZE for side in size_hw)
        there = Cells((0, 4 * scale_y - 0.5, 4 * scale_x - 0.5), (1, 8 * scale_y, 8 * scale_x))
        expected = upsample(raw[None], (1, *size_hw), cells=there)[0]
        low, high = explanation.tube.low, explanation.tube.high
        np.testing.assert_allclose(values, np.clip((expected - low) / (high - low), 0, 1), atol=1e-5)
    np.testing.assert_allclose(painter.values(0, index, (SIZE, SIZE)), explanation.tube.values[2], atol=1e-5)
