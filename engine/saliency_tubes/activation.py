"""The class-activation product: how much each place of the feature map speaks for a class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def class_activation_map(features: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The raw class-activation map: ``map_k[t,h,w] = sum_c W[k,c] * A[c,t,h,w]``.

    No ReLU, no threshold, no bias: Stergiou et al., "Saliency Tubes", ICIP 2019 (arXiv 1902.01078), after
    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.

    Args:
        features: A, (C, t, h, w) float32, what the network averages before its linear classifier; (N, C, t, h, w) for
            a batch of clips.
        weight: the classifier's row(s), (C,) or (L, C) float32; (N, L, C), each clip's own, for a batch.

    Returns:
        (t, h, w), (L, t, h, w), or (N, L, t, h, w) float32.
    """
    *clips, channels, t, h, w = features.shape
    product = weight @ features.reshape(*clips, channels, t * h * w)
    return product.reshape(*weight.shape[:-1], t, h, w)


def completeness_error(
    maps: NDArray[np.float32], bias: NDArray[np.float32], logits: NDArray[np.float32]
) -> NDArray[np.float64]:
    """How far the maps are from adding up to the logits: ``|mean(map_k) + b_k - logit_k|``.

    For global average pooling followed by a linear classifier this is an identity, so anything beyond rounding
    means that the features, the weights or the pooling are not the ones the network used.

    Args:
        maps: (L, t, h, w) float32 raw class-activation maps.
        bias: (L,) float32, the classifier's bias of the same classes.
        logits: (L,) float32, the network's logits of the same classes.

    Returns:
        (L,) float64, in units of the logit.
    """
    means = maps.mean(axis=(-3, -2, -1), dtype=np.float64)
    errors: NDArray[np.float64] = np.abs(means + bias - logits)
    return errors


def relative_completeness(errors: Sequence[NDArray[np.float64]], logits: NDArray[np.float32]) -> float:
    """The largest `completeness_error` over the largest magnitude of these logits."""
    return float(np.max(errors)) / max(float(np.abs(logits).max()), float(np.finfo(np.float32).tiny))
