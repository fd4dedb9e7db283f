import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.render import focusmap, heatmap


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


def test_renderers_leave_their_inputs_alone(values: NDArray[np.float32], frames: NDArray[np.uint8]) -> None:
    values.flags.writeable = False
    frames.flags.writeable = False
    frames_before = frames.copy()

    heatmap(values, frames)
    focusmap(values, frames)

    np.testing.assert_array_equal(frames, frames_before)
