from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.choices import Colormap, StyleName
from saliency_tubes.errors import OptionError
from saliency_tubes.render import blend, shown
from saliency_tubes.style import Style


def keras_script(raw: NDArray[np.float32], frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The Keras reference's formula, written down plainly: raw / max, blank below 0.2, heatmap * 0.5 + frame."""
    cam = raw / np.max(raw)
    heatmap = cv2.applyColorMap(np.uint8(255 * np.maximum(cam, 0)), cv2.COLORMAP_JET)[..., ::-1].astype(np.float64)
    heatmap[cam < 0.2] = 0
    return np.clip(np.rint(heatmap * 0.5 + frame), 0, 255).astype(np.uint8)


def test_the_keras_style_is_the_keras_scripts_formula() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(2, 3, (64, 80)).astype(np.float32)
    raw[0, :3] = np.float32(0.2) * raw.max(), raw.max(), 0
    frame = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    style = Style.keras()

    drawn = blend(frame, shown(raw, float(raw.min()), float(raw.max()), style), style)

    np.testing.assert_array_equal(drawn, keras_script(raw, frame))
    assert 0.2 < (drawn == frame).all(axis=-1).mean() < 0.9  # some of it is blank, some is not


def test_the_default_style_is_the_reference() -> None:
    assert Style() == Style.reference() == Style.of() == Style.of("reference")
    assert Style() == Style(StyleName.REFERENCE, Colormap.JET, 0.5, 0.0)


def test_a_style_by_name_keeps_what_is_not_changed() -> None:
    assert Style.of("keras") == Style.keras()
    assert Style.of("keras", opacity=1) == Style(StyleName.KERAS, Colormap.JET, 1.0, 0.2)
    assert Style.of("reference", colormap="viridis", threshold=0.25) == Style(
        StyleName.REFERENCE, Colormap.VIRIDIS, 0.5, 0.25
    )


def test_plain_strings_become_members() -> None:
    style = Style("keras", "hot", 1)  # type: ignore[arg-type]

    assert (style.name, style.colormap, style.opacity) == (StyleName.KERAS, Colormap.HOT, 1.0)
    assert isinstance(style.colormap, Colormap)
    assert isinstance(style.opacity, float)


@pytest.mark.parametrize("name", ["opacity", "threshold"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf"), "much", None, [0.5]])
def test_numbers_outside_0_to_1_are_refused(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=rf"the {name} is a number from 0 to 1, not "):
        Style(**{name: value})


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_the_ends_of_the_range_are_in_it(value: float) -> None:
    assert Style(opacity=value, threshold=value).threshold == value


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(OptionError, match=r"there is no colour map 'rainbow': choose among jet, turbo, viridis"):
        Style.of(colormap="rainbow")
    with pytest.raises(OptionError, match=r"there is no style 'torch': choose among reference, keras"):
        Style.of("torch")
    with pytest.raises(OptionError, match=r"there is no colour map 'x{80}': choose"):
        Style(colormap="x" * 5000)  # type: ignore[arg-type]


def test_what_is_drawn_as_0_and_1() -> None:
    assert Style.reference().ends(-2.0, 5.0) == (-2.0, 5.0)
    assert Style.keras().ends(-2.0, 5.0) == (0.0, 5.0)
