from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes import lettering

HOSTILE = [
    "W" * 5000,
    "腕相撲" * 1000,
    "\u202e" + "exe.gnp" * 40,
    "a\nb" * 400,
    "😀" * 300,
    "\udcff" * 90,
    "שלום " * 100,
]


def ink(text: str, **options: object) -> NDArray[np.bool_]:
    image = np.full((60, 400, 3), 255, dtype=np.uint8)
    lettering.draw(image, text, (200, 40), 28, **options)  # type: ignore[arg-type]
    return (image < 128).all(axis=-1)


def test_invisible_characters_are_removed_and_white_space_is_one_space() -> None:
    assert lettering.clean("  a\x00\u202eb\u2066c\u200d\n\t d\ufe0f\x1b ") == "abc d"
    assert lettering.clean("stray \udcff byte") == "stray ? byte"
    assert lettering.clean("Ünïcode 腕相撲 שלום") == "Ünïcode 腕相撲 שלום"
    assert lettering.clean("\u202e\n\x00") == ""


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("room", [0, 5, 60, 301])
def test_shortened_text_fits(text: str, room: int) -> None:
    short = lettering.shorten(text, room, 22)

    assert lettering.width_of(short, 22) <= room
    assert short == "" or short.endswith("…") or short == lettering.clean(text)
    if room > 50:
        assert len(short) > 1
        rest = lettering.clean(text)[len(short) - 1 :]
        longer = short[:-1] + rest[: 1 + rest.startswith(" ")] + "…"
        assert lettering.width_of(longer, 22) > room  # as much as fits


def test_text_that_fits_is_whole() -> None:
    assert lettering.shorten("arm wrestling", 400, 28) == "arm wrestling"


def test_text_is_broken_between_words_and_ends_with_what_fits() -> None:
    text = "one colour scale\nfor all of the labels that are here"

    assert lettering.wrap(text, 2000, 20, 3) == ["one colour scale for all of the labels that are here"]
    two = lettering.wrap(text, 200, 20, 2)
    many = lettering.wrap(text, 200, 20, 9)
    assert len(two) == 2
    assert two[1].endswith("…")
    assert " ".join(many) == lettering.clean(text)
    assert len(many) == 3
    assert all(lettering.width_of(line, 20) <= 200 for line in two + many)
    assert lettering.wrap("W" * 999, 200, 20, 4)[0].endswith("…")
    assert lettering.wrap("", 200, 20, 4) == []


def test_text_is_as_wide_as_it_is_said_to_be() -> None:
    columns = np.flatnonzero(ink("wrestling").any(axis=0))

    assert abs(columns[-1] + 1 - 200 - lettering.width_of("wrestling", 28)) <= 2


@pytest.mark.parametrize(("align", "low", "high"), [(0, 200, 345), (0.5, 128, 272), (1, 55, 200)])
def test_text_begins_ends_or_is_centred_at_its_point(align: float, low: int, high: int) -> None:
    columns = np.flatnonzero(ink("wrestling", align=align).any(axis=0))

    assert low <= columns[0]
    assert columns[-1] <= high
    assert columns[-1] - columns[0] > 100


def test_bold_text_has_more_ink() -> None:
    assert ink("wrestling", weight=lettering.BOLD).sum() > 1.3 * ink("wrestling").sum()


def test_hebrew_runs_from_right_to_left() -> None:
    """Its first letter stands at the right, where the same letter alone, at the end of a line, would."""
    mixed = ink("ab שלום")
    columns = np.flatnonzero(mixed.any(axis=0))
    first_letter = ink("ש", align=1)
    first_columns = np.flatnonzero(first_letter.any(axis=0))
    width = first_columns[-1] - first_columns[0] + 1

    drawn = mixed[:, columns[-1] + 1 - width : columns[-1] + 1]

    assert (drawn == first_letter[:, first_columns[0] : first_columns[-1] + 1]).mean() > 0.95


def test_threads_do_not_mix_up_their_weights() -> None:
    expected = {weight: ink("wrestling", weight=weight) for weight in (400, 650)}

    def right(index: int) -> bool:
        weight = (400, 650)[index % 2]
        return bool((ink("wrestling", weight=weight) == expected[weight]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, range(1000)))


def test_numbers() -> None:
    texts = [lettering.number(value) for value in (-1.2345, 7.9, 0, 123456)]

    assert texts == ["\u22121.23", "7.9", "0", "1.23e+05"]
