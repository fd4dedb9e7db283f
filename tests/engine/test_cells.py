import numpy as np
import pytest
from saliency_tubes.cells import Cells


def test_equal_shares_have_their_cells_in_their_middles() -> None:
    cells = Cells.of_equal_shares((8, 7, 2), (16, 224, 5))

    assert cells == Cells((0.5, 15.5, 0.75), (2, 32, 2.5))  # frames 0 and 1, pixels 0 to 31, -0.5 to 2


@pytest.mark.parametrize(("size_hw", "to_hw"), [((4, 6), (8, 6)), ((32, 32), (50, 50)), ((224, 224), (1080, 607))])
def test_on_another_size_a_cell_stays_over_the_same_of_the_picture(
    size_hw: tuple[int, int], to_hw: tuple[int, int]
) -> None:
    cells = Cells((0.5, 1, 0), (2, 8, 3))

    there = cells.resized(size_hw, to_hw)

    assert (there.offset[0], there.stride[0]) == (0.5, 2)
    for axis in (1, 2):
        places = cells.offset[axis] + cells.stride[axis] * np.arange(5)
        moved = there.offset[axis] + there.stride[axis] * np.arange(5)
        share, of = (places + 0.5) / size_hw[axis - 1], (moved + 0.5) / to_hw[axis - 1]
        np.testing.assert_allclose(of, share)
    (first_y, step_y), (first_x, step_x) = cells.in_shares(size_hw)
    assert (first_y, step_y) == pytest.approx((1.5 / size_hw[0], 8 / size_hw[0]))
    assert (first_x, step_x) == pytest.approx((0.5 / size_hw[1], 3 / size_hw[1]))


def test_twice_the_size_by_hand() -> None:
    """Pixel 1 of four becomes pixels 2 and 3 of eight."""
    assert Cells((0, 1, 0), (1, 2, 2)).resized((4, 4), (8, 4)) == Cells((0, 2.5, 0), (1, 4, 2))


def test_frames_further_apart_are_cells_further_apart() -> None:
    assert Cells((0.5, 1, 2), (2, 3, 4)).at_spacing(2.5) == Cells((1.25, 1, 2), (5, 3, 4))
    assert Cells((0.5, 1, 2), (2, 3, 4)).on_every_frame == Cells((0, 1, 2), (1, 3, 4))
