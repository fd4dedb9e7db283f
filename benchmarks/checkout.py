"""Which state of the repository was measured."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkout:
    """The repository's state.

    Attributes:
        commit: Git commit; None outside of a repository.
        dirty: whether there are changes beside that commit.
    """

    commit: str | None
    dirty: bool

    def __str__(self) -> str:
        return "unknown" if self.commit is None else self.commit[:12] + (" with local changes" if self.dirty else "")


def checkout(root: Path) -> Checkout:
    """The state of the repository at `root`."""
    return Checkout(_git(root, "rev-parse", "HEAD"), bool(_git(root, "status", "--porcelain")))


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
