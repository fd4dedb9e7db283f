"""What is measured: which volumes, with which metrics."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from ..choices import Align, Fill, Fit, SamplingName, choice
from ..errors import OptionError
from ..sampling import Sampling


class Method(StrEnum):
    """Where a volume comes from: the tube, or a baseline that knows nothing of the class."""

    TUBE = "tube"
    RANDOM = "random"
    CENTRE = "centre"
    FRAME_DIFFERENCE = "frame-difference"
    FEATURES = "features"


class Better(StrEnum):
    """Which values of a metric speak for a volume."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    ZERO = "nearer to 0 is better"


class Metric(StrEnum):
    """What is measured of a volume over a clip; the modules of this package say how."""

    POINTING_GAME = "pointing_game"
    ENERGY_RATIO = "energy_ratio"
    TOP_IOU = "top_iou"
    TEMPORAL_POINTING_GAME = "temporal_pointing_game"
    INSERTION_BLUR = "insertion_blur"
    INSERTION_MEAN = "insertion_mean"
    INCREASE = "increase"
    DELETION_BLUR = "deletion_blur"
    DELETION_MEAN = "deletion_mean"
    AVERAGE_DROP = "average_drop"
    COMPLETENESS_ERROR = "completeness_error"
    RANDOMISED_CORRELATION = "randomised_correlation"

    @classmethod
    def deletion(cls, fill: Fill) -> Self:
        """The area under the deletion curve with this fill."""
        return cls(f"deletion_{fill}")

    @classmethod
    def insertion(cls, fill: Fill) -> Self:
        """The area under the insertion curve with this fill."""
        return cls(f"insertion_{fill}")

    @property
    def words(self) -> str:
        """For people, in 17 characters at most: what is measured has room beside it."""
        return _TITLES.get(self, self.replace("_", " "))

    @property
    def better(self) -> Better:
        """Which values are."""
        if self in (Metric.COMPLETENESS_ERROR, Metric.RANDOMISED_CORRELATION):
            return Better.ZERO
        lower = (Metric.DELETION_BLUR, Metric.DELETION_MEAN, Metric.AVERAGE_DROP)
        return Better.LOWER if self in lower else Better.HIGHER


_TITLES = {
    Metric.TOP_IOU: "top IoU",
    Metric.TEMPORAL_POINTING_GAME: "temporal pointing",
    Metric.INSERTION_BLUR: "insertion, blur",
    Metric.INSERTION_MEAN: "insertion, mean",
    Metric.DELETION_BLUR: "deletion, blur",
    Metric.DELETION_MEAN: "deletion, mean",
    Metric.COMPLETENESS_ERROR: "completeness",
    Metric.RANDOMISED_CORRELATION: "shuffled weights",
}
LOCALISATION = (Metric.POINTING_GAME, Metric.ENERGY_RATIO, Metric.TOP_IOU, Metric.TEMPORAL_POINTING_GAME)


@dataclass(frozen=True)
class Options:
    """What is measured of every case, and how its clip is explained. All values are checked.

    Localisation is cheap. Perturbation costs ``2 * steps`` forward passes for each clip, method and fill, and one more
    for each clip and method.

    Attributes:
        methods: the volumes to measure.
        fills: what removed parts of a clip are filled with; none: no perturbation at all.
        steps: in how many parts a clip is removed or inserted.
        batch: how many clips the network takes at once there; None for what suits the device.
        sampling: which frames the network sees; None for what the model file says.
        fit: how they are brought to the network's input.
        align: where the cells of the maps lie; baselines that are made of cells have theirs there, too.
        seed: of random volumes and of the bootstrap.

    Raises:
        OptionError: a value is unknown or out of its range.
    """

    methods: tuple[Method, ...] = tuple(Method)
    fills: tuple[Fill, ...] = tuple(Fill)
    steps: int = 10
    batch: int | None = None
    sampling: Sampling | None = None
    fit: Fit = Fit.SQUASH_CROP
    align: Align = Align.CENTERS
    seed: int = 0

    def __post_init__(self) -> None:
        taken = {
            "methods": tuple(dict.fromkeys(choice(Method, "method", one) for one in self.methods)),
            "fills": tuple(dict.fromkeys(choice(Fill, "fill", one) for one in self.fills)),
            "fit": choice(Fit, "fit", self.fit),
            "align": choice(Align, "alignment", self.align),
        }
        if isinstance(self.sampling, str):
            taken["sampling"] = Sampling(choice(SamplingName, "sampling", self.sampling))
        for name, value in taken.items():  # plain strings are taken, too
            object.__setattr__(self, name, value)
        if not self.methods:
            raise OptionError(f"no method to measure: name one or more of {', '.join(Method)}")
        for name, least in (("steps", 1), ("batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} is {value}: expected a whole number of at least {least}")
