import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.choices import Colormap
from saliency_tubes.render import colormap_table
from saliency_tubes.sheet import Cell, contact_sheet
from saliency_tubes.style import Style

RED, GREEN = (250, 10, 10), (10, 250, 10)
NAN = float("nan")
HOSTILE = ["W" * 5000, "😀" * 50, "\u202eexe.gnp\u2066", "two\nlines\ttab\x00", "\udcff.mp4", "腕相撲" * 400, ""]


def cells(count: int, size_hw: tuple[int, int] = (60, 80), seconds: float | None = None) -> list[Cell]:
    """Red frames over green overlays."""
    return [
        Cell(
            np.full((*size_hw, 3), RED, dtype=np.uint8),
            np.full((*size_hw, 3), GREEN, dtype=np.uint8),
            index,
            0.5 * index if seconds is None else seconds,
        )
        for index in range(count)
    ]


def drawn(
    count: int, size_hw: tuple[int, int] = (60, 80), title: str = "bowling", **options: object
) -> NDArray[np.uint8]:
    return contact_sheet(cells(count, size_hw), title, "clip.mp4", low=-1.0, high=8.0, **options)  # type: ignore[arg-type]


def extents(
    image: NDArray[np.uint8], colour: tuple[int, int, int]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Rows and columns, as half-open spans, that hold pixels of about this colour."""
    near = (np.abs(image.astype(np.int16) - np.array(colour, dtype=np.int16)) < 8).all(axis=-1)

    def spans(hit: NDArray[np.bool_]) -> list[tuple[int, int]]:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], hit.astype(int), [0]])))
        return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]

    return spans(near.any(axis=1)), spans(near.any(axis=0))


def ink(image: NDArray[np.uint8]) -> int:
    return int((image.max(axis=-1) < 160).sum())


def test_frames_stand_over_their_overlays_in_one_row() -> None:
    image = drawn(5)

    red_rows, red_columns = extents(image, RED)
    green_rows, green_columns = extents(image, GREEN)
    assert red_columns == green_columns
    assert [b - a for a, b in red_columns] == [320] * 5
    ((red_top, red_bottom),), ((green_top, green_bottom),) = red_rows, green_rows
    assert red_bottom - red_top == green_bottom - green_top == 240  # 60x80 is 3:4
    assert 0 < green_top - red_bottom < 20


@pytest.mark.parametrize(
    ("count", "bands", "columns"), [(1, 1, 1), (8, 1, 8), (9, 2, 5), (16, 2, 8), (24, 3, 8), (64, 8, 8)]
)
def test_many_cells_wrap_into_even_bands(count: int, bands: int, columns: int) -> None:
    image = drawn(count)

    assert len(extents(image, RED)[0]) == bands
    assert len(extents(image, GREEN)[0]) == bands
    assert len(extents(image, RED)[1]) == columns
    assert image.shape[1] <= 2720


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 999), (999, 1), (61, 33), (1920, 1080)])
def test_the_aspect_of_the_source_is_kept_at_any_size(size_hw: tuple[int, int]) -> None:
    ((top, bottom),), ((left, right),) = extents(drawn(1, size_hw), RED)

    scale = 320 / max(size_hw)
    assert (bottom - top, right - left) == (max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale)))


def test_every_column_has_its_time_under_it() -> None:
    image = drawn(3)

    _, ((_, bottom),) = extents(image, RED)[0], extents(image, GREEN)[0]
    for left, right in extents(image, RED)[1]:
        under = image[bottom : bottom + 45, left:right]
        columns = np.flatnonzero((under < 160).all(axis=-1).any(axis=0))
        assert len(columns) > 20
        assert abs((columns[0] + columns[-1]) / 2 - 160) < 6


def test_times_are_seconds_and_frames_where_these_are_unknown() -> None:
    frame = cells(1)[0].frame

    assert Cell(frame, frame, 17, 1.2351).caption == "1.24 s"
    assert [Cell(frame, frame, 17, t).caption for t in (NAN, float("inf"), 1e300)] == ["frame 17"] * 3


def test_narrow_frames_leave_room_for_whole_captions() -> None:
    few = [Cell(cell.frame, cell.overlay, 10**9 + cell.index, NAN) for cell in cells(3, (999, 1))]

    columns = extents(contact_sheet(few, "t", "s", low=0, high=1), RED)[1]

    gaps = np.diff([left for left, _ in columns])
    assert (gaps > 200).all()  # "frame 1000000000" at 30 pixels


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_inside(name: str) -> None:
    image = contact_sheet(cells(2), name, name, low=-1, high=8)

    assert image.shape == drawn(2).shape
    rows, _ = extents(image, RED)
    for margin in (image[:, :24], image[:, -24:], image[:20], image[-20:]):
        assert (margin == 255).all()
    assert (ink(image[: rows[0][0]]) > 300) == (name != "")


def test_the_title_and_the_subtitle_are_there() -> None:
    with_both = contact_sheet(cells(2), "bowling", "clip.mp4", low=0, high=1)
    top = extents(with_both, RED)[0][0][0]

    without_title = ink(contact_sheet(cells(2), "", "clip.mp4", low=0, high=1)[:top])
    without_subtitle = ink(contact_sheet(cells(2), "bowling", "", low=0, high=1)[:top])

    assert ink(with_both[:top]) == without_title + without_subtitle
    assert without_subtitle > without_title > 200


def test_the_colour_bar_shows_the_styles_colours_from_left_to_right() -> None:
    table = colormap_table(Colormap.PLASMA)

    image = drawn(4, style=Style(colormap=Colormap.PLASMA))

    foot = image[extents(image, GREEN)[0][-1][1] :]
    low_left, _ = extents(foot, tuple(table[0]))[1][0]
    _, high_right = extents(foot, tuple(table[255]))[1][-1]
    assert high_right - low_left == 320
    assert ink(foot[:, high_right + 5 :]) > 300  # "1 = 8 logit units"


@pytest.mark.parametrize(("low", "high", "style"), [(2.0, 2.0, Style()), (-3.0, -1.0, Style.keras())])
def test_a_map_with_nothing_to_show_has_no_colour_bar(low: float, high: float, style: Style) -> None:
    image = contact_sheet(cells(3), "bowling", "clip", low=low, high=high, style=style)

    foot = image[extents(image, GREEN)[0][-1][1] :]
    assert np.ptp(foot.astype(int), axis=-1).max() < 10  # no colour
    assert ink(foot) > 500


def test_cells_are_not_changed() -> None:
    given = cells(2, (320, 320))
    for cell in given:
        cell.frame.flags.writeable = cell.overlay.flags.writeable = False

    contact_sheet(given, "a", "b", low=0, high=1)

    assert (given[0].frame == RED).all()
