import cv2
import numpy as np
import pytest
from saliency_tubes.choices import Fit
from saliency_tubes.errors import SourceError
from saliency_tubes.preprocess import CropBox, crop, crop_box, crop_mask
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


def test_short_side_keeps_the_aspect_and_takes_the_centre() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (120, 320, 3), dtype=np.uint8)

    result = crop(rgb, preprocessing((60, 60), (40, 40)), Fit.SHORT_SIDE)

    np.testing.assert_array_equal(result, cv2.resize(rgb, (160, 60))[10:50, 60:100])


def test_whole_squashes_all_of_the_frame() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (120, 320, 3), dtype=np.uint8)

    result = crop(rgb, preprocessing((60, 60), (40, 50)), Fit.WHOLE)

    np.testing.assert_array_equal(result, cv2.resize(rgb, (50, 40)))


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("size_wh", [(640, 360), (360, 640), (101, 99)])
def test_the_box_is_where_the_crop_was_cut(fit: Fit, size_wh: tuple[int, int]) -> None:
    """Colours that are the coordinates of a pixel: those in the crop's corners are the box's."""
    width, height = size_wh
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    rgb = np.stack([x, y, y], axis=-1).astype(np.uint8)
    steps = preprocessing((256, 256), (224, 224))

    cut, box = crop(rgb, steps, fit), crop_box(size_wh, steps, fit)

    assert cut[0, 0, :2] / 255 == pytest.approx((box.left, box.top), abs=0.01)
    assert cut[-1, -1, :2] / 255 == pytest.approx((box.right, box.bottom), abs=0.01)
    assert (box == CropBox(0, 0, 1, 1)) == (fit is Fit.WHOLE)


@pytest.mark.parametrize("size_wh", [(1920, 1080), (3001, 40), (40, 3001), (224, 224)])
def test_a_mask_of_one_pixel_is_never_lost(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    steps = preprocessing((224, 224), (224, 224))
    for x, y in np.random.default_rng(0).integers(0, size_wh, (40, 2)):
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[y, x] = True

        found = np.argwhere(crop_mask(mask, steps, Fit.WHOLE))

        assert len(found) > 0
        exact = np.array([(y + 0.5) * 224 / height, (x + 0.5) * 224 / width])
        assert np.abs(found + 0.5 - exact).max() <= 0.5 + max(0.5, 112 / min(size_wh))


def test_a_mask_that_is_shrunk_keeps_its_place() -> None:
    mask = np.zeros((448, 672), dtype=np.bool_)
    mask[101:200, 60:90] = True  # rows 50.5 to 100, columns 20 to 30

    found = crop_mask(mask, preprocessing((224, 224), (224, 224)))

    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (50, 99, 20, 29)


def test_a_frame_that_is_one_long_line_is_refused_by_its_short_side() -> None:
    with pytest.raises(SourceError, match=r"frames of 9000x2 are too long and thin for the fit short-side.*fit whole"):
        crop(np.zeros((2, 9000, 3), dtype=np.uint8), preprocessing((256, 256), (224, 224)), Fit.SHORT_SIDE)
