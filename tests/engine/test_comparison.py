import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.choices import Colormap
from saliency_tubes.comparison import MOST_COMPARED, Caption, Comparison
from saliency_tubes.errors import OptionError
from saliency_tubes.render import colormap_table
from saliency_tubes.style import Style

NOTE = "one colour scale for all: 0 = -1.2, 1 = 7.9 logit units"
HOSTILE = ["W" * 5000, "😀" * 300, "\u202eexe.gnp", "a\nb\x00\tc", "\udcff", "腕相撲" * 500, ""]


def panels(count: int, size_wh: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Each of its own shade of green."""
    return [np.full((size_wh[1], size_wh[0], 3), (0, 250 - 4 * n, 0), dtype=np.uint8) for n in range(count)]


def comparison(count: int, size_wh: tuple[int, int], label: str = "bowling", note: str = NOTE) -> Comparison:
    return Comparison(size_wh, [Caption(label, 0.93)] * count, note, Style(colormap=Colormap.GRAY))


def boxes(image: NDArray[np.uint8], count: int) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of every panel."""
    found = []
    for n in range(count):
        hit = (image[..., 1] == 250 - 4 * n) & (image[..., 0] == 0)
        rows, columns = np.flatnonzero(hit.any(axis=1)), np.flatnonzero(hit.any(axis=0))
        found.append((int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1))
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, MOST_COMPARED])
@pytest.mark.parametrize(
    "size_wh",
    [(340, 256), (1920, 1080), (405, 721), (1, 1), (64, 48), (1, 1000), (1000, 1)],
)
def test_every_panel_is_there_and_the_picture_is_even_and_not_too_large(count: int, size_wh: tuple[int, int]) -> None:
    chart = comparison(count, size_wh)

    image = chart.draw(panels(count, size_wh))

    assert image.shape == (chart.size_wh[1], chart.size_wh[0], 3)
    assert max(chart.size_wh) <= 1920
    assert chart.size_wh[0] % 2 == chart.size_wh[1] % 2 == 0
    places = boxes(image, count)
    width, height = places[0][3] - places[0][2], places[0][1] - places[0][0]
    assert all((b - t, r - le) == (height, width) for t, b, le, r in places)
    assert abs(width * size_wh[1] - height * size_wh[0]) <= 2 * sum(size_wh)  # the aspect, but for two pixels
    covered = (image[..., 1] > 105) & (image[..., 0] == 0)
    assert sum((b - t) * (r - le) for t, b, le, r in places) == covered.sum()  # none covers another


def test_two_labels_stand_side_by_side_at_their_own_size() -> None:
    first, second = boxes(comparison(2, (340, 256)).draw(panels(2, (340, 256))), 2)

    assert first[:2] == second[:2]
    assert second[2] > first[3]
    assert (first[1] - first[0], first[3] - first[2]) == (256, 340)


@pytest.mark.parametrize(
    ("size_wh", "count", "columns"),
    [((1920, 1080), 2, 2), ((1920, 1080), 4, 2), ((1080, 1920), 3, 3), ((340, 256), 6, 3)],
)
def test_more_make_a_grid(size_wh: tuple[int, int], count: int, columns: int) -> None:
    places = boxes(comparison(count, size_wh).draw(panels(count, size_wh)), count)

    assert len({left for _, _, left, _ in places}) == columns
    assert [place[2] for place in places[:columns]] == sorted(place[2] for place in places[:columns])
    assert len({top for top, *_ in places}) == count // columns


def test_large_frames_use_the_width_that_there_is() -> None:
    chart = comparison(2, (1920, 1080))

    first, second = boxes(chart.draw(panels(2, (1920, 1080))), 2)

    assert chart.size_wh[0] > 1900
    assert second[3] - first[2] > 1860


def test_small_frames_are_enlarged_so_that_captions_can_be_read() -> None:
    ((top, bottom, left, right),) = boxes(comparison(1, (64, 48)).draw(panels(1, (64, 48))), 1)

    assert (bottom - top, right - left) == (150, 200)


@pytest.mark.parametrize("label", HOSTILE)
@pytest.mark.parametrize("size_wh", [(64, 48), (340, 256)])
def test_captions_stay_over_their_own_panel(label: str, size_wh: tuple[int, int]) -> None:
    image = comparison(2, size_wh, label).draw(panels(2, size_wh))

    (top, _, left, right), (_, _, second_left, second_right) = boxes(image, 2)
    bright = image[:top].max(axis=-1) > 60
    assert not bright[:, : left - 2].any()
    assert not bright[:, right + 2 : second_left - 2].any()
    assert not bright[:, second_right + 2 :].any()
    assert bright[:, right - 40 : right].sum() > 50  # the probability is never left out
    assert (bright[:, left : left + 40].sum() > 30) == (label != "")


def test_over_a_narrow_panel_the_name_has_the_room_and_the_probability_is_a_number() -> None:
    image = comparison(1, (64, 48), "arm wrestling").draw(panels(1, (64, 48)))

    ((top, _, left, right),) = boxes(image, 1)
    bright = (image[:top].max(axis=-1) > 60).any(axis=0)
    assert bright[left + 90 : left + 118].any()  # the whole name
    assert not bright[left + 125 : right - 52].any()
    assert bright[right - 50 : right].any()


def test_captions_stand_over_the_panel_that_they_name() -> None:
    captions = [Caption("W", 0.5), Caption("", 0.5)]

    image = Comparison((340, 256), captions, NOTE).draw(panels(2, (340, 256)))

    (top, _, left, _), (_, _, second_left, _) = boxes(image, 2)
    assert (image[:top, left : left + 40] > 200).any()
    assert not (image[:top, second_left : second_left + 40] > 200).any()


def test_the_note_and_the_colours_stand_below() -> None:
    image = comparison(2, (340, 256)).draw(panels(2, (340, 256)))
    bottom = boxes(image, 2)[0][1]
    silent = comparison(2, (340, 256), note="").draw(panels(2, (340, 256)))

    foot = image[bottom + 4 :]
    gray = colormap_table("gray")
    bar = np.flatnonzero((foot[:, -18] == gray[255]).all(axis=-1))
    assert len(bar) >= 10
    row = foot[bar[4], 16:-16].astype(int)
    assert row[0, 0] == 0
    assert (np.diff(row[:, 0]) >= 0).all()
    words = foot[bar[-1] + 2 :, 60:-60]
    assert (words > 200).sum() > 1000
    assert not (silent[bottom + 4 :][bar[-1] + 2 :, 60:-60] > 200).any()


@pytest.mark.parametrize("size_wh", [(64, 48), (1, 1), (340, 256)])
def test_a_note_that_is_too_wide_goes_on_in_the_next_line(size_wh: tuple[int, int]) -> None:
    short, whole = comparison(1, size_wh, note="one scale"), comparison(1, size_wh)

    assert whole.size_wh[0] == short.size_wh[0]
    assert whole.size_wh[1] > short.size_wh[1] + 15
    image = whole.draw(panels(1, size_wh))
    assert (image[-6:].max(axis=-1) < 60).all()
    assert (image[-45:-10, 20:-20] > 200).sum() > 100


@pytest.mark.parametrize("note", HOSTILE)
def test_hostile_notes_stay_inside(note: str) -> None:
    image = comparison(1, (340, 256), note=note).draw(panels(1, (340, 256)))

    foot = image[boxes(image, 1)[0][1] + 2 :]
    assert (foot[:, :14].max(axis=-1) < 60).all()
    assert (foot[:, -14:].max(axis=-1) < 60).all()


@pytest.mark.parametrize("count", [0, MOST_COMPARED + 1, 400])
def test_too_few_or_too_many_labels_are_refused(count: int) -> None:
    with pytest.raises(OptionError, match=rf"a comparison shows 1 to 36 labels, not {count}: name as many"):
        comparison(count, (340, 256))


def test_drawing_leaves_no_traces() -> None:
    chart = comparison(2, (340, 256))
    first = panels(2, (340, 256))
    for panel in first:
        panel.flags.writeable = False

    before = chart.draw(first)
    copy = before.copy()
    chart.draw([panel // 2 for panel in first])

    np.testing.assert_array_equal(before, copy)
    np.testing.assert_array_equal(chart.draw(first), copy)


def test_a_panel_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        comparison(2, (340, 256)).draw(panels(1, (340, 256)))


def test_reduced_panels_are_averages_not_samples() -> None:
    stripes = np.zeros((1080, 1920, 3), dtype=np.uint8)
    stripes[:, ::2] = 200

    image = comparison(2, (1920, 1080)).draw([stripes, stripes])

    inside = image[100:500, 40:900].astype(int)
    assert np.abs(inside - 100).max() < 20
