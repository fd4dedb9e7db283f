"""How a clip is looked at: which frames, how they are fitted, for which classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .choices import Align, Fit
from .sampling import Sampling


@dataclass(frozen=True)
class Wanted:
    """Which classes to explain: these, and the `top_k` highest; with neither, the highest one."""

    indices: tuple[int, ...] = ()
    top_k: int = 0

    @property
    def ranks(self) -> int:
        """How many of the highest classes are among them."""
        return self.top_k or (0 if self.indices else 1)

    def labels(self, logits: NDArray[np.floating]) -> list[int]:
        """Their indices, none of them twice, for (K,) logits."""
        return list(dict.fromkeys([*self.indices, *highest(logits, self.ranks)]))


@dataclass(frozen=True)
class View:
    """How a clip is looked at, and how what is found in its features is laid over it."""

    sampling: Sampling
    fit: Fit
    wanted: Wanted
    align: Align = Align.CENTERS


def highest(logits: NDArray[np.floating], count: int) -> list[int]:
    """The indices of the `count` highest of (K,) logits, best first; of equal ones the lower index first."""
    order: list[int] = np.argsort(-logits, kind="stable")[:count].tolist()
    return order
