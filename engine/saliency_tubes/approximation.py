"""Maps that are approximate: why, by how much, and the words with which every output says so."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Approximation:
    """Why an explanation's maps do not add up to the logits exactly, and by how much they miss them.

    Attributes:
        why: the model file's own account; see `ModelSpec.approximate`.
        error: measured on this clip, relative to the largest logit; see `Explanation.completeness`.
    """

    why: str
    error: float

    @classmethod
    def of(cls, why: str | None, error: float) -> Self | None:
        """None where there is no reason: the maps are exact."""
        return None if why is None else cls(why, error)

    @property
    def note(self) -> str:
        """All of it, for notes and for the report."""
        return f"approximate: {self.why}; the maps miss the logit by {_percent(self.error)} of the largest one"

    @property
    def mark(self) -> str:
        """As much as a picture has room for."""
        return f"approximate: {_percent(self.error)} off the logits"


def _percent(share: float) -> str:
    """As in ``12 %``, ``0.31 %``."""
    if share < 1e-4:
        return "less than 0.01 %"
    return f"{100 * share:.{0 if share >= 0.0995 else 1 if share >= 0.00995 else 2}f} %"
