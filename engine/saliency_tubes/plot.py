"""A tube as a matplotlib figure. Imported only where a plot is asked for."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import lettering, render
from .errors import DependencyError
from .style import Style

try:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise DependencyError(
        f"plots need matplotlib, which does not load here ({error}): pip install matplotlib"
    ) from error

MOST_SLICES = 8
_TITLE_ROOM, _TITLE_SIZE = 1000, 18  # about what fits on the figure
_LINE = "#0072b2"  # Okabe and Ito's blue, the first of the timeline's colours


class TubeFigure(Figure):
    """A figure outside pyplot: no state, no window, nothing to close; a notebook shows it by itself.

    It is a matplotlib `Figure` in everything else: ``figure.savefig("tube.pdf")``, ``figure.axes``.
    """

    def _repr_png_(self) -> bytes:
        """What IPython shows when pyplot, which teaches it about figures, was never imported."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def plot_tube(
    slices: NDArray[np.float32],
    steps: Sequence[int],
    energy: NDArray[np.float32],
    low: float,
    high: float,
    *,
    title: str = "",
    times: NDArray[np.float64] | None = None,
    style: Style = render.REFERENCE,
) -> TubeFigure:
    """Slices of a tube in a row, a colour bar in units of the logit, and the tube's energy over time.

    Args:
        slices: (n, H, W) float32 in [0, 1], some steps of a tube.
        steps: which of its T steps they are.
        energy: (T,) float32, the tube's energy; see `Tube.energy`.
        low: the raw value shown as 0, in units of the logit.
        high: the raw value shown as 1.
        title: above all, without mathematical notation; what does not fit is left out.
        times: (T,) float64, seconds of the steps; None, or a NaN among them, numbers the steps instead.
        style: the colours.

    Returns:
        The figure. Its axes are the slices, then energy, then the colour bar.
    """
    seconds = times if times is not None and np.isfinite(times).all() else None
    figure = TubeFigure(figsize=(1.4 * MOST_SLICES, 3.8), layout="constrained")
    if title := lettering.shorten(title, _TITLE_ROOM, _TITLE_SIZE):
        figure.suptitle(title, parse_math=False)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
    colours = ListedColormap(render.colour_bar(style, (256, 1))[0] / 255)
    row = upper.subplots(1, len(steps), squeeze=False)[0]
    for axes, step, values in zip(row, steps, slices, strict=True):
        axes.imshow(values, cmap=colours, vmin=0, vmax=1)
        axes.set_title(f"step {step}" if seconds is None else f"{seconds[step]:.2f} s", fontsize="medium")
        axes.set_axis_off()
    _plot_energy(lower.subplots(), energy, seconds)
    bar = upper.colorbar(ScalarMappable(cmap=colours), ax=list(row), ticks=(0, 1), fraction=0.03, pad=0.01)
    bottom, top = style.ends(low, high)
    bar.ax.set_yticklabels([f"0 = {lettering.number(bottom)}", f"1 = {lettering.number(top)}"])
    bar.set_label("logit units", labelpad=-20)
    return figure


def _plot_energy(axes: Axes, energy: NDArray[np.float32], seconds: NDArray[np.float64] | None) -> None:
    steps = np.arange(len(energy)) if seconds is None else seconds
    axes.plot(steps, energy, color=_LINE, marker="o" if len(energy) <= 4 * MOST_SLICES else "", markersize=4)
    axes.set_ylim(0, 1.1 * energy.max() if energy.max() > 0 else 1)
    axes.set_ylabel("mean of the tube")
    if seconds is None:
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xlabel("time (s)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
