"""Whether tubes are right: what the field measures of explanations, on video and without gradients.

- `localisation`: does the volume lie where, and when, the evidence is known to be?
- `perturbation`: does the network need what the volume marks?
- `agreement`: how alike are two volumes?
- `baselines`: volumes that know nothing of the classifier, to compare with.

- `cases`, `evaluation`: all of these over many clips, as `tubes evaluate` does.

Completeness, which is exact for a tube, is `saliency_tubes.activation.completeness_error`.
"""

from ..choices import Fill
from .agreement import rank_correlation
from .baselines import centre_volume, feature_mean, frame_difference, random_volume
from .localisation import energy_ratio, pointing_game, temporal_pointing_game, top_iou
from .perturbation import Curve, Score, average_drop, deletion_insertion, filled, increase, masked_by

__all__ = [
    "Curve",
    "Fill",
    "Score",
    "average_drop",
    "centre_volume",
    "deletion_insertion",
    "energy_ratio",
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
