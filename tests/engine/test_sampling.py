import numpy as np
import pytest
from saliency_tubes.choices import SamplingName
from saliency_tubes.errors import OptionError, SourceError
from saliency_tubes.sampling import Sampling, uniform


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


def test_stepped_takes_every_step_th_frame_and_spreads_the_window_over_them() -> None:
    (window,) = Sampling.stepped(6, 24).windows(280, 16)

    taken = list(range(5, 280, 6))[:24]
    assert window.indices == tuple(taken[int(i * 23 / 15 + 1e-9)] for i in range(16))
    assert (window.first, window.last) == (5, 143)


def test_stepped_on_a_short_clip_takes_what_there_is() -> None:
    (window,) = Sampling.stepped(6, 24).windows(13, 4)

    assert set(window.indices) == {5, 11}


def test_a_clip_shorter_than_a_step_is_an_error() -> None:
    with pytest.raises(SourceError, match="the clip has 5 frames, fewer than the step of 6: choose a smaller step"):
        Sampling.stepped(6, 24).windows(5, 4)


@pytest.mark.parametrize(("stride", "overlap"), [(1, 0.0), (2, 0.5), (2, 0.0), (3, 0.9), (1, 0.99)])
@pytest.mark.parametrize("length", [47, 48, 49, 280, 1001])
def test_dense_windows_leave_no_frame_out_and_end_with_the_video(stride: int, overlap: float, length: int) -> None:
    windows = Sampling.dense(stride, overlap).windows(length, 16)

    covered = np.zeros(length, dtype=int)
    for window in windows:
        assert np.diff(window.indices).tolist() == [stride] * 15
        covered[window.first : window.last + 1] += 1
    assert covered.min() >= 1
    assert windows[0].first == 0
    assert windows[-1].last == length - 1
    starts = [window.first for window in windows]
    assert starts == sorted(set(starts))


def test_the_overlap_is_the_share_of_a_window_that_the_next_covers_too() -> None:
    first, second, *_ = Sampling.dense(2, 0.5).windows(1000, 16)

    assert second.first - first.first == 16  # half of 15 steps of 2, rounded to whole steps
    first, second, *_ = Sampling.dense(2, 0.8).windows(1000, 16)
    assert second.first - first.first == 6  # a fifth of 15 steps of 2


@pytest.mark.parametrize("length", [1, 5, 30])
def test_a_video_shorter_than_a_window_is_one_window_over_all_of_it(length: int) -> None:
    (window,) = Sampling.dense(2, 0.5).windows(length, 16)

    assert window.indices == tuple(uniform(length, 16).tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride is 0: expected a whole number of at least 1"),
        ({"step": 0}, "step is 0: expected"),
        ({"max_frames": -1}, "max_frames is -1: expected"),
        ({"stride": 2.5}, "stride is 2.5: expected a whole number"),
        ({"step": "2"}, "step is 2: expected a whole number"),
        ({"overlap": "half"}, "overlap is half: expected a number from 0"),
        ({"name": "random"}, "there is no sampling 'random': choose among uniform, stepped, dense"),
        ({"overlap": 1.0}, "overlap is 1.0: expected a number from 0 to below 1.*stand still"),
        ({"overlap": -0.1}, "overlap is -0.1: expected"),
        ({"overlap": float("nan")}, "overlap is nan: expected"),
    ],
)
def test_values_that_mean_nothing_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Sampling(**{"name": SamplingName.DENSE} | options)  # type: ignore[arg-type]


def test_a_name_may_come_as_plain_text() -> None:
    assert Sampling("dense").windows(1000, 16) == Sampling.dense().windows(1000, 16)  # type: ignore[arg-type]
