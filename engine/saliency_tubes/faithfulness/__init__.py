"""Whether tubes are right: what the field measures of explanations, on video and without gradients.

- `localisation`: does the volume lie where, and when, the evidence is known to be?
- `perturbation`: does the network need what the volume marks?
- `agreement`: how alike are two volumes?
- `baselines`: volumes that know nothing of the classifier, to compare with.
- `evaluate`: all of these over many clips, as `tubes evaluate` does.

Completeness, which is exact for a tube, is `saliency_tubes.activation.completeness_error`.
"""

from ..choices import Fill
from .agreement import rank_correlation
from .baselines import centre_volume, feature_mean, frame_difference, random_volume
from .cases import Box, Case, Evidence
from .evaluation import Evaluation, evaluate
from .localisation import energy_ratio, pointing_game, temporal_pointing_game, top_iou
from .options import Method, Metric, Options
from .perturbation import Curve, average_drop, deletion_insertion, filled, increase, masked_by

__all__ = [
    "Box",
    "Case",
    "Curve",
    "Evaluation",
    "Evidence",
    "Fill",
    "Method",
    "Metric",
    "Options",
    "average_drop",
    "centre_volume",
    "deletion_insertion",
    "energy_ratio",
    "evaluate",
    "feature_mean",
    "filled",
    "frame_difference",
    "increase",
    "masked_by",
    "pointing_game",
    "random_volume",
    "rank_correlation",
    "temporal_pointing_game",
    "top_iou",
]
