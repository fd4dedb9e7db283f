import cv2
import numpy as np
import pytest
from saliency_tubes.preprocess import crop
from saliency_tubes.spec import Preprocessing


def preprocessing(resize: tuple[int, int], size: tuple[int, int]) -> Preprocessing:
    return Preprocessing("test", resize, size, (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("shape", [(240, 320), (1080, 1920), (256, 256), (33, 41), (1, 1)])
def test_the_centre_of_the_squashed_frame_is_cut_out(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)

    result = crop(rgb, preprocessing((256, 256), (224, 224)))

    np.testing.assert_array_equal(result, cv2.resize(rgb, (256, 256))[16:240, 16:240])


def test_height_and_width_are_not_confused() -> None:
    rgb = np.zeros((100, 50, 3), dtype=np.uint8)
    rgb[:, 25:] = 200

    result = crop(rgb, preprocessing((60, 40), (20, 30)))

    assert result.shape == (20, 30, 3)
    assert result[:, :14].max() == 0
    assert result[:, 16:].min() == 200
