"""How a tube looks when it is drawn: its colours, how strong they are, and from which value on they show."""

from dataclasses import dataclass
from typing import Any, Self

from .choices import Colormap, StyleName, choice
from .errors import OptionError


@dataclass(frozen=True)
class Style:
    """How a tube is drawn on frames. The default has the colours of the published PyTorch script.

    Attributes:
        name: whose rules hold. ``reference``: raw values are stretched from the tube's smallest to its largest, and
            colours replace a part of the frame, ``colour * opacity + frame * (1 - opacity)``. ``keras``: raw values
            are divided by the largest, and colours are added to the whole frame, ``colour * opacity + frame``.
        colormap: the colours of 0 to 1.
        opacity: in [0, 1], the weight of the colours.
        threshold: in [0, 1]; where the tube is below it, the frame is left as it is.

    Raises:
        OptionError: a name is unknown, or a number is not in [0, 1].
    """

    name: StyleName = StyleName.REFERENCE
    colormap: Colormap = Colormap.JET
    opacity: float = 0.5
    threshold: float = 0.0

    def __post_init__(self) -> None:
        # Plain strings and integers are taken, too, and become what the annotations promise.
        object.__setattr__(self, "name", choice(StyleName, "style", self.name))
        object.__setattr__(self, "colormap", choice(Colormap, "colour map", self.colormap))
        object.__setattr__(self, "opacity", _fraction("opacity", self.opacity))
        object.__setattr__(self, "threshold", _fraction("threshold", self.threshold))

    @classmethod
    def reference(cls) -> Self:
        """The published PyTorch script's look: JET and the frame, half of each."""
        return cls()

    @classmethod
    def keras(cls) -> Self:
        """The published Keras script's look: divided by the maximum, blank below 0.2, half of JET added to the frame.

        The script divides before it upsamples; here the divisor is the upsampled map's maximum, so that splines that
        overshoot cannot leave [0, 1].
        """
        return cls(StyleName.KERAS, threshold=0.2)

    @classmethod
    def of(
        cls,
        name: StyleName | str = StyleName.REFERENCE,
        *,
        colormap: Colormap | str | None = None,
        opacity: float | None = None,
        threshold: float | None = None,
    ) -> Self:
        """A published look by its name, with what is not None changed.

        Raises:
            OptionError: a name is unknown, or a number is not in [0, 1].
        """
        look = cls.keras() if choice(StyleName, "style", name) is StyleName.KERAS else cls.reference()
        return cls(
            look.name,
            look.colormap if colormap is None else choice(Colormap, "colour map", colormap),
            look.opacity if opacity is None else opacity,
            look.threshold if threshold is None else threshold,
        )

    def ends(self, low: float, high: float) -> tuple[float, float]:
        """The raw values that are drawn as 0 and as 1.

        Args:
            low: the smallest raw value, in units of the logit.
            high: the largest.
        """
        return (0.0 if self.name is StyleName.KERAS else low), high


def _fraction(what: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= 1:
        raise OptionError(f"the {what} is a number from 0 to 1, not {str(value)[:80]}: give one in that range")
    return number
