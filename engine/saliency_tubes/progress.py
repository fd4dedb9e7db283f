"""What is seen while many clips are worked on: a bar on a terminal, else a line now and then, and what fails."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

_LINE_SECONDS = 10.0


class Outcome(Protocol):
    """What became of a clip, or of a row of a list that names none."""

    @property
    def source(self) -> str:
        """The clip, or the row's place."""
        ...

    @property
    def error(self) -> str | None:
        """Why it failed; None where it did not."""
        ...

    @property
    def names_clip(self) -> bool:
        """Whether this is a clip, one of those whose number is known."""
        ...


@dataclass(frozen=True)
class StopWords:
    """What is said when a signal is heard, and when it has ended the work."""

    heard: str
    ended: str


@contextmanager
def shown(
    total: int, say: Callable[[str], None], words: StopWords, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Outcome], None]]:
    """Show how far the work is, on stderr. SIGINT and SIGTERM are answered at once, and end it in order.

    Args:
        total: how many clips there are.
        say: prints a line to stderr, with nothing in it that steers a terminal.
        words: what is said when it is stopped.
        clock: seconds.
    """
    pace = Pace(total, clock)
    try:
        with (
            _stoppable(words.heard),
            _bar(pace) if sys.stderr.isatty() else _lines(pace, say, clock) as (print_line, update),
        ):

            def seen(outcome: Outcome) -> None:
                pace.count(outcome)
                if outcome.error is not None:
                    named = outcome.source in outcome.error
                    print_line(f"failed: {outcome.error}" if named else f"failed: {outcome.source}: {outcome.error}")
                update()

            yield seen
    except (KeyboardInterrupt, SystemExit):
        say(words.ended)
        raise


class Pace:
    """How many clips are behind, and how long the rest will take."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.behind = self.failed = 0
        self._clock = clock
        self._started = clock()

    def count(self, outcome: Outcome) -> None:
        """Another clip is behind; a row that names no clip is only counted as failed."""
        self.failed += outcome.error is not None
        self.behind += outcome.names_clip

    def __str__(self) -> str:
        """As in ``120 of 2000 clips, 3 failed, 1.9 clips/s, 16 min left``."""
        parts = [f"{self.behind} of {self.total} clips"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        rate = self.behind / max(self._clock() - self._started, 1e-9)
        if self.behind:
            parts += [_rate_text(rate), f"{_duration((self.total - self.behind) / rate)} left"]
        return ", ".join(parts)


def _rate_text(per_second: float) -> str:
    return f"{per_second:.1f} clips/s" if per_second >= 1 else f"{per_second * 60:.1f} clips/min"


def _duration(seconds: float) -> str:
    """As in ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


@contextmanager
def _bar(pace: Pace) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.text import Text

    console = Console(stderr=True)
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(str(pace), total=pace.total)

        def print_line(line: str) -> None:
            console.print(Text("".join(c if c.isprintable() else "?" for c in line)), soft_wrap=True)

        yield print_line, lambda: progress.update(task, completed=pace.behind, description=str(pace))


@contextmanager
def _lines(
    pace: Pace, say: Callable[[str], None], clock: Callable[[], float]
) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    due = clock() + _LINE_SECONDS

    def update() -> None:
        nonlocal due
        if clock() >= due:
            say(str(pace))
            due = clock() + _LINE_SECONDS

    yield say, update


@contextmanager
def _stoppable(words: str) -> Iterator[None]:
    """Say that a signal was heard, then do what is done without this; a second one is not waited for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def stop(signum: int, _: FrameType | None) -> None:
        restore()
        os.write(2, f"\n{words}\n".encode())  # what was interrupted may be in the middle of a print
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        before[signum] = signal.signal(signum, stop)
    try:
        yield
    finally:
        restore()
