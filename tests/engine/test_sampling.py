import numpy as np
import pytest
from saliency_tubes.sampling import uniform


@pytest.mark.parametrize("length", [16, 17, 40, 280, 54_000])
def test_uniform_sampling_is_the_references_truncated_linspace(length: int) -> None:
    indices = uniform(length, 16)

    assert indices.tolist() == [int(i * (length - 1) / 15 + 1e-9) for i in range(16)]
    assert (indices[0], indices[-1]) == (0, length - 1)


def test_a_short_clip_repeats_frames_in_order() -> None:
    assert uniform(3, 8).tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert uniform(1, 4).tolist() == [0, 0, 0, 0]


def test_indices_are_integers() -> None:
    assert uniform(10, 4).dtype == np.int64
