import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.choices import Colormap
from saliency_tubes.preprocess import CropBox
from saliency_tubes.render import blend, box_pixels, colormap_table, colour_bar, focusmap, heatmap, place, shown
from saliency_tubes.style import Style

WHOLE = CropBox(0, 0, 1, 1)


@pytest.fixture
def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)


@pytest.fixture
def values() -> NDArray[np.float32]:
    return np.linspace(0, 1, 3 * 8 * 10, dtype=np.float32).reshape(3, 8, 10)


def test_a_heatmap_is_half_the_colour_plus_half_the_frame(
    values: NDArray[np.float32], frames: NDArray[np.uint8]
) -> None:
    image = heatmap(values, frames)

    for tube_frame, frame, drawn in zip(values, frames, image, strict=True):
        jet_bgr = cv2.applyColorMap((255 * tube_frame).astype(np.uint8), cv2.COLORMAP_JET)
        np.testing.assert_array_equal(drawn, jet_bgr[..., ::-1] // 2 + frame // 2)


def test_low_is_blue_and_high_is_red_in_rgb_order(frames: NDArray[np.uint8]) -> None:
    values = np.zeros((1, 1, 2), dtype=np.float32)
    values[..., 1] = 1

    low, high = heatmap(values, np.zeros((1, 1, 2, 3), dtype=np.uint8))[0, 0].astype(int)

    assert low[2] > 50 > low[0] == low[1]
    assert high[0] > 50 > high[1] == high[2]


def test_a_focusmap_is_the_frame_with_each_frames_own_alpha(
    values: NDArray[np.float32], frames: NDArray[np.uint8]
) -> None:
    image = focusmap(values, frames)

    assert image.shape == (3, 8, 10, 4)
    np.testing.assert_array_equal(image[..., :3], frames)
    for tube_frame, drawn in zip(values, image, strict=True):
        low, high = tube_frame.min(), tube_frame.max()
        expected = 20 + 235 * (tube_frame - low) / (high - low)
        np.testing.assert_allclose(drawn[..., 3], expected, atol=0.51)


def test_a_frame_on_which_the_tube_is_flat_gets_the_lowest_alpha(frames: NDArray[np.uint8]) -> None:
    assert (focusmap(np.full((3, 8, 10), 0.4, dtype=np.float32), frames)[..., 3] == 20).all()


@pytest.mark.parametrize("style", [Style(), Style.keras(), Style(opacity=0.3, threshold=0.4)])
def test_renderers_leave_their_inputs_alone(
    values: NDArray[np.float32], frames: NDArray[np.uint8], style: Style
) -> None:
    values.flags.writeable = False
    frames.flags.writeable = False
    frames_before = frames.copy()

    heatmap(values, frames)
    focusmap(values, frames)
    blend(frames, values, style)
    place(frames[0], values[0], WHOLE, style)
    place(frames[0], values[0, :4, :5], CropBox(0, 0, 0.5, 0.5), style)
    place(frames[0], None, WHOLE, style)

    np.testing.assert_array_equal(frames, frames_before)


@pytest.mark.parametrize("size_hw", [(1080, 1920), (1, 1), (3, 301), (700, 1)])
def test_the_default_blend_is_the_reference_bit_for_bit_at_any_size(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    tube_frame = rng.random(size_hw, dtype=np.float32)

    jet = cv2.applyColorMap((255 * tube_frame).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]

    np.testing.assert_array_equal(blend(frame, tube_frame), jet // 2 + frame // 2)


@pytest.mark.parametrize("opacity", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_opacity_weighs_colours_against_the_frame(
    values: NDArray[np.float32], frames: NDArray[np.uint8], opacity: float
) -> None:
    colours = colormap_table(Colormap.TURBO)[(255 * values).astype(np.uint8)]

    image = blend(frames, values, Style(colormap=Colormap.TURBO, opacity=opacity))

    exact = colours * opacity + frames * (1 - opacity)
    assert (image <= exact + 1e-6).all()
    assert (image > exact - 2).all()
    if opacity in (0, 1):
        np.testing.assert_array_equal(image, frames if opacity == 0 else colours)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
def test_below_the_threshold_the_frame_stays_as_it_is(
    values: NDArray[np.float32], frames: NDArray[np.uint8], threshold: float
) -> None:
    bare = np.floor(255 * values) < 255 * threshold

    image = blend(frames, values, Style(threshold=threshold))

    np.testing.assert_array_equal(image[bare], frames[bare])
    np.testing.assert_array_equal(image[~bare], heatmap(values, frames)[~bare])
    assert bare.any()
    assert (~bare).any()


def test_the_keras_style_saturates_where_colour_and_frame_exceed_white() -> None:
    white = np.full((1, 1, 3), 250, dtype=np.uint8)

    image = blend(white, np.ones((1, 1), dtype=np.float32), Style.keras())

    assert image.tolist() == [[[255, 250, 250]]]


def test_one_frame_is_drawn_as_many_are(values: NDArray[np.float32], frames: NDArray[np.uint8]) -> None:
    style = Style.of("keras", colormap="viridis", opacity=0.8)

    many = blend(frames[..., ::-1], values, style)  # not contiguous, either

    for one, frame, tube_frame in zip(many, frames, values, strict=True):
        np.testing.assert_array_equal(one, blend(frame[..., ::-1], tube_frame, style))


@pytest.mark.parametrize("name", Colormap)
def test_every_colour_map_is_256_colours_nobody_can_change(name: Colormap) -> None:
    table = colormap_table(name)

    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert len(np.unique(table, axis=0)) > 128
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0


def test_colour_maps_are_rgb_and_run_from_0_to_1() -> None:
    assert colormap_table("jet")[0].tolist() == [0, 0, 128]
    assert colormap_table("viridis")[0].tolist() == [68, 1, 84]
    assert colormap_table("viridis")[255].tolist() == [253, 231, 37]
    np.testing.assert_array_equal(colormap_table("gray")[:, 2], np.arange(256))


def test_raw_values_are_stretched_from_low_to_high() -> None:
    raw = np.array([-9, -2, 0, 1.5, 5, 6], dtype=np.float32)

    stretched = shown(raw, -2.0, 5.0)

    assert stretched.dtype == np.float32
    np.testing.assert_allclose(stretched, [0, 0, 2 / 7, 0.5, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(shown(raw, -2.0, 5.0, Style.keras()), [0, 0, 0, 0.3, 1, 1], rtol=1e-6)
    assert raw[0] == -9


@pytest.mark.parametrize(
    ("low", "high", "style"),
    [(3.0, 3.0, Style()), (-2.0, 0.0, Style.keras()), (-2.0, -1.0, Style.keras())],
)
def test_where_nothing_is_to_be_shown_there_are_zeros(low: float, high: float, style: Style) -> None:
    assert shown(np.full((2, 3), high, dtype=np.float32), low, high, style).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_crop_in_pixels() -> None:
    assert box_pixels(WHOLE, (1080, 1920)) == (0, 1080, 0, 1920)
    assert box_pixels(CropBox(1 / 16, 0.25, 15 / 16, 0.75), (240, 320)) == (60, 180, 20, 300)


@pytest.mark.parametrize("box", [CropBox(0.5, 0.5, 0.5, 0.5), CropBox(1, 1, 1, 1), CropBox(-1, -1, 2, 2), WHOLE])
@pytest.mark.parametrize("size_hw", [(1, 1), (7, 5)])
def test_a_crop_has_at_least_a_pixel_and_lies_in_the_frame(box: CropBox, size_hw: tuple[int, int]) -> None:
    top, bottom, left, right = box_pixels(box, size_hw)

    assert 0 <= top < bottom <= size_hw[0]
    assert 0 <= left < right <= size_hw[1]


def test_a_tube_is_placed_where_the_crop_was_and_the_rest_is_dark_and_grey() -> None:
    frame = np.zeros((90, 120, 3), dtype=np.uint8)
    frame[...] = (240, 120, 20)
    box = CropBox(0.25, 0.2, 0.75, 0.8)
    top, bottom, left, right = box_pixels(box, (90, 120))
    tube_frame = np.random.default_rng(0).random((bottom - top, right - left), dtype=np.float32)

    image = place(frame, tube_frame, box)

    np.testing.assert_array_equal(image[top:bottom, left:right], blend(frame[top:bottom, left:right], tube_frame))
    unseen = np.ones((90, 120), dtype=bool)
    unseen[top - 1 : bottom + 1, left - 1 : right + 1] = False
    assert np.ptp(image[unseen], axis=-1).max() == 0  # grey
    assert 20 < image[unseen].max() < 0.5 * frame.mean(axis=-1).max()
    ring = ~unseen
    ring[top:bottom, left:right] = False
    assert (image[ring] > 200).all()


def test_the_outline_follows_only_sides_that_lie_inside_the_frame() -> None:
    frame = np.full((40, 60, 3), 100, dtype=np.uint8)

    image = place(frame, np.zeros((40, 30), dtype=np.float32), CropBox(0, 0, 0.5, 1))

    assert (image[:, 30] > 200).all()
    assert (image[:, 31:] < 60).all()
    np.testing.assert_array_equal(image[:, :30], blend(frame[:, :30], np.zeros((40, 30), dtype=np.float32)))


def test_a_crop_of_the_whole_frame_leaves_no_mark() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    tube_frame = np.random.default_rng(1).random((31, 47), dtype=np.float32)

    np.testing.assert_array_equal(place(frame, tube_frame, WHOLE), blend(frame, tube_frame))


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (31, 47)])
def test_a_frame_that_the_network_never_saw_is_all_marked(size_hw: tuple[int, int]) -> None:
    frame = np.full((*size_hw, 3), (240, 120, 20), dtype=np.uint8)

    image = place(frame, None, CropBox(0.25, 0.25, 0.75, 0.75))

    assert image.shape == frame.shape
    assert len(np.unique(image)) == 1
    assert image.max() < 80


def test_a_colour_bar_runs_from_0_to_1_and_is_white_where_frames_stay_bare() -> None:
    bar = colour_bar(Style(threshold=0.5), (256, 7))

    assert bar.shape == (7, 256, 3)
    assert (bar[:, :128] == 255).all()
    np.testing.assert_array_equal(bar[3, 128:], colormap_table("jet")[128:])
