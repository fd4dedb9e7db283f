"""How a network's features become its logits, and what each place of them contributes.

Every head here is linear once a clip is given, so that its maps add up to the logits exactly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .activation import class_activation_map


@dataclass(frozen=True, eq=False)
class Hidden:
    """A linear layer with a ReLU behind it, between the average and the classifier, as X3D has one.

    Attributes:
        weight: (D, C) float32.
        bias: (D,) float32; zeros where the layer has none.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Raw class-activation maps, and what of the logits no place speaks for.

    Attributes:
        maps: (L, t, h, w) float32, or (N, L, t, h, w) for a batch of clips.
        bias: (L,) float32, or (N, L). The mean of a map and its bias are the logit.
    """

    maps: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Head:
    """What stands behind the features A, (C, t, h, w): ``logits = W mean(V * A) + b``, the mean over (t, h, w).

    With a hidden layer, ``logits = W relu(W1 mean(V * A) + b1) + b``.

    Attributes:
        weight: W, (K, C) float32; (K, D) with a hidden layer of D units.
        bias: b, (K,) float32; zeros where the classifier has none.
        coverage: V, (t, h, w) float32 of mean 1: how often the pooling's windows cover a place, where they cover some
            more often than others; None where all count alike.
        hidden: W1 and b1; None where there is no such layer.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    coverage: NDArray[np.float32] | None = None
    hidden: Hidden | None = None

    @property
    def kind(self) -> str:
        """A word for it, such as ``"mean-linear"``."""
        mean = "mean" if self.coverage is None else "weighted-mean"
        return f"{mean}-linear" if self.hidden is None else f"{mean}-linear-relu-linear"

    @property
    def words(self) -> str:
        """The same for people, such as ``"average pooling, linear"``."""
        pooling = "average pooling"
        if self.coverage is not None:
            pooling += f" that counts places unevenly ({self.coverage.min():.2g} to {self.coverage.max():.2g} times)"
        hidden = "" if self.hidden is None else f"linear to {len(self.hidden.bias)} units, ReLU, "
        return f"{pooling}, {hidden}linear"

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.bias)

    def maps(self, features: NDArray[np.float32], labels: NDArray[np.intp]) -> ClassMaps:
        """The raw class-activation maps of some classes; see `class_activation_map`.

        Where the pooling covers places unevenly, a map is multiplied by how often. Where there is a hidden layer, the
        units that are above zero for this clip are known, and the others pass nothing on: ``W diag(active) W1`` takes
        the place of W, exactly.

        Args:
            features: A, (C, t, h, w) float32; (N, C, t, h, w) for a batch of clips.
            labels: (L,) class indices; (N, L), each clip's own, for a batch.
        """
        weight, bias = self.weight[labels], self.bias[labels]
        if self.hidden is not None:
            reached = weight * self._active(features)[..., None, :]
            weight, bias = reached @ self.hidden.weight, bias + reached @ self.hidden.bias
        maps = class_activation_map(features, weight)
        return ClassMaps(maps if self.coverage is None else maps * self.coverage, bias)

    def _active(self, features: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(D,) or (N, D): which hidden units are above zero."""
        if self.hidden is None:
            raise ValueError("this head has no hidden layer")
        covered = features if self.coverage is None else features * self.coverage
        average = covered.mean(axis=(-3, -2, -1), dtype=np.float64)
        active: NDArray[np.bool_] = average @ self.hidden.weight.T + self.hidden.bias > 0
        return active
