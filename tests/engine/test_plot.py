import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("matplotlib")

from saliency_tubes.cells import Cells
from saliency_tubes.plot import TubeFigure
from saliency_tubes.plot import plot_tube as plot_slices
from saliency_tubes.sampling import Window
from saliency_tubes.style import Style
from saliency_tubes.tube import build_tubes, merged_tube


@pytest.fixture
def values() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((16, 12, 14), dtype=np.float32)


def plot_tube(values: NDArray[np.float32], *ends: float, **options: Any) -> TubeFigure:
    """All of a tube's steps, and their means as its energy."""
    return plot_slices(values, range(len(values)), values.mean(axis=(1, 2)), *ends, **options)


def png(figure: TubeFigure) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(figure._repr_png_(), dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(image, dtype=np.uint8)


def test_slices_energy_and_a_colour_bar(values: NDArray[np.float32]) -> None:
    times = np.arange(16) / 8

    figure = plot_tube(values, -2.0, 5.0, title="bowling $5 a_b", times=times)

    *slices, energy, bar = figure.axes
    assert len(slices) == 16
    assert [axes.get_title() for axes in (slices[0], slices[-1])] == ["0.00 s", "1.88 s"]
    np.testing.assert_array_equal(slices[0].images[0].get_array(), values[0])
    np.testing.assert_array_equal(slices[-1].images[0].get_array(), values[-1])
    assert slices[3].images[0].get_clim() == (0, 1)
    (line,) = energy.lines
    np.testing.assert_allclose(line.get_xdata(), times)
    np.testing.assert_allclose(line.get_ydata(), values.mean(axis=(1, 2)), rtol=1e-5)
    assert energy.get_xlabel() == "time (s)"
    assert energy.get_ylim()[0] == 0
    assert [tick.get_text() for tick in bar.get_yticklabels()] == ["0 = \u22122", "1 = 5"]
    assert figure.get_suptitle() == "bowling $5 a_b"


@pytest.mark.parametrize("length", [1, 2, 7])
def test_short_tubes_show_every_step(values: NDArray[np.float32], length: int) -> None:
    figure = plot_tube(values[:length], 0.0, 1.0)

    *slices, energy, _ = figure.axes
    assert [axes.get_title() for axes in slices] == [f"step {step}" for step in range(length)]
    assert energy.get_xlabel() == "step"
    assert png(figure).ndim == 3


def test_times_that_are_not_all_known_are_not_shown(values: NDArray[np.float32]) -> None:
    times = np.arange(16.0)
    times[3] = np.nan

    figure = plot_tube(values, 0.0, 1.0, times=times)

    assert figure.axes[0].get_title() == "step 0"


def test_a_notebook_shows_the_figure_by_itself_in_the_styles_colours(values: NDArray[np.float32]) -> None:
    values[:] = 1

    image = png(plot_tube(values[:8], 0.0, 1.0, style=Style(colormap="viridis")))  # type: ignore[arg-type]

    assert image.shape[1] > 1000
    assert (np.abs(image.astype(int) - (253, 231, 37)).max(axis=-1) < 4).mean() > 0.2


def test_what_the_style_leaves_bare_is_white() -> None:
    image = png(plot_tube(np.full((2, 9, 9), 0.1, dtype=np.float32), 0.0, 1.0, style=Style.keras()))

    assert (image[30:200, 100:900] > 250).mean() > 0.95


def test_a_tube_of_zeros_has_a_flat_line_at_the_bottom() -> None:
    figure = plot_tube(np.zeros((4, 3, 3), dtype=np.float32), 1.5, 1.5)

    assert figure.axes[-2].get_ylim() == (0, 1)
    assert png(figure).ndim == 3


@pytest.mark.parametrize("title", ["W" * 5000, "a\nb\x00\u202ec", "$\\frac{$", "\udcff"])
def test_hostile_titles_are_drawn_without_complaint(values: NDArray[np.float32], title: str) -> None:
    plain = png(plot_tube(values, 0.0, 1.0, title="plain"))

    image = png(plot_tube(values, 0.0, 1.0, title=title))

    assert image.shape == plain.shape
    assert (image[:30] < 128).any()
    assert (image[:30, :20] == 255).all()
    assert (image[:30, -20:] == 255).all()


def test_it_saves_as_any_figure_does(values: NDArray[np.float32]) -> None:
    buffer = io.BytesIO()

    plot_tube(values, 0.0, 1.0, title="bowling").savefig(buffer, format="pdf")

    assert buffer.getvalue().startswith(b"%PDF")


def test_pyplot_and_its_state_are_not_needed(values: NDArray[np.float32]) -> None:
    script = (
        "import sys, numpy as np; from saliency_tubes.plot import plot_tube\n"
        "plot_tube(np.ones((3, 4, 4), dtype=np.float32), [0, 1, 2], np.ones(3, dtype=np.float32), 0.0, 1.0)._repr_png_()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "False"


def test_where_matplotlib_is_missing_the_error_names_the_mend(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('no such thing')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from saliency_tubes.plot import plot_tube"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (
        "DependencyError: plots need matplotlib, which does not load here (no such thing): pip install matplotlib"
        in (result.stderr)
    )


@pytest.mark.parametrize("cells", [None, Cells((0, 0, 3), (2, 4, 4))])
def test_a_tube_plots_eight_of_its_steps(values: NDArray[np.float32], cells: Cells | None) -> None:
    (tube,) = build_tubes([3], values[None, :8, :7, :7], (16, 28, 28), cells)

    *slices, energy, _ = tube.plot(times=np.arange(16) / 8).axes

    assert len(slices) == 8
    np.testing.assert_allclose(slices[0].images[0].get_array(), tube.values[0], atol=1e-6)
    np.testing.assert_allclose(slices[-1].images[0].get_array(), tube.values[-1], atol=1e-6)
    np.testing.assert_allclose(energy.lines[0].get_ydata(), tube.energy)


def test_a_whole_videos_tube_is_not_made_to_be_plotted() -> None:
    tube = merged_tube(0, [Window((0, 1999))], [np.eye(4, dtype=np.float32)[None].repeat(2, 0)], 2000, (224, 224))

    assert len(tube.plot("long").axes) == 10
    assert "values" not in vars(tube)
