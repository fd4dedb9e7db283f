import math

import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.timeline import HEIGHT, PALETTE, WIDTH, Timeline, draw_timeline, tick_step, tick_text, ticks

NAN = float("nan")
LEFT, RIGHT, BOTTOM = 84, 1168, 530  # of the plots


def timeline(
    energy: object = ((0.1, 0.4, 0.2),),
    times: object = (0.0, 1.0, 2.0),
    probabilities: object = ((0.5,),),
    windows: object = ((0, 2),),
    labels: tuple[str, ...] = ("bowling",),
) -> Timeline:
    times = np.array(times, dtype=np.float64)
    return Timeline(
        labels,
        times,
        np.arange(len(times)),
        np.array(energy, dtype=np.float64),
        np.array(windows),
        np.array(probabilities, dtype=np.float64),
    )


def where(image: NDArray[np.uint8], line: int = 0) -> NDArray[np.bool_]:
    return (np.abs(image.astype(int) - PALETTE[line]) < 30).all(axis=-1)


def panels(image: NDArray[np.uint8], line: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the line is, in the upper and in the lower plot."""
    hit = where(image, line)
    return hit[106:322], hit[322:560]


def height_at(hit: NDArray[np.bool_], x: int) -> float:
    return float(np.flatnonzero(hit[:, x]).mean())


def ink(image: NDArray[np.uint8]) -> int:
    return int((image.max(axis=-1) < 160).sum())


def test_a_timeline_is_a_picture_of_a_known_size() -> None:
    image = draw_timeline(timeline(), "clip.mp4")

    assert image.shape == (HEIGHT, WIDTH, 3) == (600, 1200, 3)
    assert image.dtype == np.uint8
    assert ink(image[:60]) > 200  # the title
    assert ink(image[BOTTOM + 8 : BOTTOM + 32]) > 50  # numbers
    assert ink(image[BOTTOM + 38 : BOTTOM + 64, 560:700]) > 50  # "time (s)"
    assert (image[:, -12:] == 255).all()


def test_energy_goes_from_left_to_right_and_upwards() -> None:
    upper, _ = panels(draw_timeline(timeline(energy=[[0.0, 0.4, 0.2]]), ""))

    columns = np.flatnonzero(upper.any(axis=0))
    assert abs(columns[0] - LEFT) < 6
    assert abs(columns[-1] - RIGHT) < 6
    zero, peak, half = (height_at(upper, x) for x in (LEFT + 4, (LEFT + RIGHT) // 2, RIGHT - 4))
    assert peak < half < zero
    assert (zero - half) / (zero - peak) == pytest.approx(0.5, abs=0.02)


def test_windows_step_half_way_between_their_centres() -> None:
    times = np.arange(41) / 10
    chart = timeline(
        energy=np.full((1, 41), 0.2),
        times=times,
        windows=[(20, 40), (0, 20), (10, 30)],  # in any order
        probabilities=[[0.25, 0.75, 1.0]],
    )

    _, lower = panels(draw_timeline(chart, ""))

    assert height_at(lower, LEFT + 1084 * 1 // 8) == pytest.approx(height_at(lower, LEFT + 1084 * 3 // 8 - 6), abs=1)
    first, middle, last = (height_at(lower, x) for x in (200, 626, 1100))
    assert middle < first < last
    assert (last - first) / (last - middle) == pytest.approx(2 / 3, abs=0.02)
    steps = np.flatnonzero(lower.sum(axis=0) > 20)
    assert np.abs(steps - (LEFT + 1084 * 3 / 8)).min() < 3  # 1.5 s of 4
    assert np.abs(steps - (LEFT + 1084 * 5 / 8)).min() < 3
    assert len(steps) < 10


def test_one_window_is_a_dot_on_its_span() -> None:
    chart = timeline(times=np.arange(11.0), energy=np.full((1, 11), 0.2), windows=[(2, 6)], probabilities=[[0.5]])

    _, lower = panels(draw_timeline(chart, ""))

    columns = np.flatnonzero(lower.any(axis=0))
    assert columns[0] == pytest.approx(LEFT + 1084 * 0.2, abs=4)
    assert columns[-1] == pytest.approx(LEFT + 1084 * 0.6, abs=4)
    thick = np.flatnonzero(lower.sum(axis=0) > 6)
    assert thick.mean() == pytest.approx(LEFT + 1084 * 0.4, abs=2)
    assert len(thick) < 14


def test_gaps_stay_gaps_and_a_lone_point_is_a_dot() -> None:
    energy = [[0.2, 0.2, 0.2, NAN, 0.2, NAN, NAN, NAN, 0.2, 0.2, 0.2]]

    upper, _ = panels(draw_timeline(timeline(energy=energy, times=np.arange(11.0)), ""))

    drawn = upper.any(axis=0)[LEFT : RIGHT + 1]
    at = [int(1084 * step / 10) for step in (1, 3, 4, 6, 9)]
    assert drawn[at].tolist() == [True, False, True, False, True]
    assert 8 < drawn[at[1] : at[3]].sum() < 14
    assert drawn[: at[1]].sum() == pytest.approx(217, abs=4)


@pytest.mark.parametrize("times", [(NAN, 1.0, 2.0), (NAN, NAN, NAN), (0.0, 2.0, 1.0), (0.0, math.inf, 3.0)])
def test_without_usable_times_the_plot_goes_by_frames(times: tuple[float, ...]) -> None:
    chart = timeline(times=times)

    assert not chart.has_times
    assert chart.steps.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(draw_timeline(chart, "c"), draw_timeline(timeline(times=[NAN] * 3), "c"))
    by_seconds = draw_timeline(timeline(), "c")
    name = slice(BOTTOM + 38, BOTTOM + 64)
    assert (draw_timeline(chart, "c")[name] != by_seconds[name]).any()


@pytest.mark.parametrize(
    "energy", [[[0.0, 0.0, 0.0]], [[0.3, 0.3, 0.3]], [[1e-9, 0.0, 1e-12]], [[NAN, NAN, NAN]], [[1.0, 1.0, 1.0]]]
)
def test_constants_are_flat_lines(energy: list[list[float]]) -> None:
    upper, _ = panels(draw_timeline(timeline(energy=energy), ""))

    rows = np.flatnonzero(upper.any(axis=1))
    if math.isnan(energy[0][0]):
        assert len(rows) == 0
    else:
        assert np.ptp(rows) <= 3
        assert upper.any(axis=0).sum() > 1000


@pytest.mark.parametrize("times", [[3.5], [NAN]])
def test_one_step_is_a_dot_in_the_middle(times: list[float]) -> None:
    chart = timeline(energy=[[0.4]], times=times, windows=[(0, 0)], probabilities=[[0.9]])

    for panel in panels(draw_timeline(chart, "one frame")):
        columns = np.flatnonzero(panel.any(axis=0))
        assert columns.mean() == pytest.approx((LEFT + RIGHT) / 2, abs=1)
        assert len(columns) < 14


def test_each_label_has_a_line_of_its_own_colour_and_a_legend() -> None:
    chart = timeline(energy=[[0.1] * 3, [0.3] * 3], probabilities=[[0.2], [0.7]], labels=("bowling", "arm wrestling"))

    image = draw_timeline(chart, "clip.mp4")

    for line in range(2):
        assert where(image, line)[66:90].sum() > 50
        assert all(panel.any(axis=0).sum() > 1000 for panel in panels(image, line))
    assert height_at(where(image, 0)[120:322], 600) > height_at(where(image, 1)[120:322], 600)
    assert ink(image[62:92, 70:200]) > 100
    assert not where(draw_timeline(timeline(), "clip.mp4"))[60:100].any()  # one label needs no legend


def test_what_is_too_much_for_one_plot_is_counted_not_hidden() -> None:
    count = 40
    chart = timeline(
        energy=np.full((count, 3), 0.2), probabilities=np.full((count, 1), 0.5), labels=tuple(map(str, range(count)))
    )
    seven = timeline(energy=np.full((7, 3), 0.2), probabilities=np.full((7, 1), 0.5), labels=tuple("abcdefg"))

    note = slice(92, 122), slice(880, 1168)

    assert (draw_timeline(chart, "")[note] < 200).sum() > 100
    assert (draw_timeline(seven, "")[note] == 255).all()


@pytest.mark.parametrize("name", ["W" * 5000, "😀" * 99, "\u202eexe.gnp", "a\nb\x00", "\udcff", ""])
def test_hostile_names_stay_inside(name: str) -> None:
    chart = timeline(energy=[[0.1] * 3, [0.3] * 3], probabilities=[[0.2], [0.7]], labels=(name, name))
    plain = timeline(energy=[[0.1] * 3, [0.3] * 3], probabilities=[[0.2], [0.7]], labels=("a", "b"))

    image = draw_timeline(chart, name)

    np.testing.assert_array_equal(image[112:], draw_timeline(plain, "c")[112:])
    assert (image[:, :24] == 255).all()
    assert (image[:, -12:] == 255).all()


@pytest.mark.parametrize(
    ("length", "about", "step"), [(10, 8, 1), (10, 4, 2), (1, 4, 0.2), (1800, 7, 200), (0.3, 4, 0.05), (50, 10, 5)]
)
def test_ticks_go_by_1_2_5(length: float, about: int, step: float) -> None:
    assert tick_step(length, about) == pytest.approx(step)


def test_ticks_lie_within_the_axis() -> None:
    assert ticks(0.3, 2.1, 0.5) == [0.5, 1.0, 1.5, 2.0]
    assert ticks(0, 0.3, 0.1) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [tick_text(value, 0.05) for value in (0, 0.15)] == ["0.00", "0.15"]
    assert [tick_text(value, 200) for value in (0, 1800, -200)] == ["0", "1800", "\u2212200"]


def test_ticks_stand_where_they_say() -> None:
    image = draw_timeline(timeline(times=(0.0, 5.0, 10.0)), "")

    marks = np.flatnonzero(image[BOTTOM + 4, LEFT:].max(axis=-1) < 160)

    np.testing.assert_allclose(marks, 108.4 * np.arange(11), atol=1)


@pytest.mark.parametrize("first", [0, 10**9])
def test_numbers_on_the_time_axis_do_not_touch(first: int) -> None:
    chart = Timeline(
        ("a",),
        np.full(280, NAN),
        np.arange(first, first + 280),
        np.full((1, 280), 0.2),
        np.array([[first, first + 279]]),
        np.array([[0.5]]),
    )

    numbers = (draw_timeline(chart, "")[BOTTOM + 8 : BOTTOM + 32].max(axis=-1) < 200).any(axis=0)

    edges = np.flatnonzero(np.diff(numbers.astype(int)))
    gaps = edges[2::2] - edges[1:-1:2]
    assert (gaps > 20).sum() >= 2  # between numbers; those within a number are a few pixels
    assert not ((gaps > 8) & (gaps < 20)).any()


def test_small_probabilities_have_an_axis_on_which_they_show() -> None:
    """0.04 on an axis to 0.05 stands where 0.8 stands on one to 1."""
    heights = []
    for value in (0.04, 0.8):
        _, lower = panels(draw_timeline(timeline(probabilities=[[value]]), ""))
        heights.append(height_at(lower, (LEFT + RIGHT) // 2))

    assert heights[0] == pytest.approx(heights[1], abs=1)
