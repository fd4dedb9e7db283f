"""A network in the framework it was made in: what the graph that this framework wrote has to compute."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from saliency_tubes.errors import ParityError

TOLERANCE = 1e-4  # relative to an output's largest magnitude
_TINY = float(np.finfo(np.float32).tiny)

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Eager:
    """A network that runs in its own framework.

    Attributes:
        name: what runs it.
        run: from the graph's inputs to the graph's outputs, by their names, all float32.
    """

    name: str
    run: Callable[[Arrays], Arrays]

    def checked(self, inputs: Arrays, outputs: Arrays) -> Arrays:
        """What the network itself makes of what the graph was given.

        Args:
            inputs: what the graph was given.
            outputs: what the graph made of it.

        Raises:
            ParityError: the network's outputs are others.
        """
        own = self.run(inputs)
        for name, theirs in outputs.items():
            largest = max(float(np.abs(own[name]).max()), _TINY)
            difference = float(np.abs(own[name] - theirs).max()) / largest
            if not difference <= TOLERANCE:  # NaN is not
                raise ParityError(
                    f"the graph that PyTorch wrote of the network computes something else than {self.name}: {name} "
                    f"differs by {difference:.1e} of its largest value, expected at most {TOLERANCE:g}. A forward pass "
                    "that depends on chance, or on what the clip shows, cannot be exported"
                )
        return own
