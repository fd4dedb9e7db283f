"""What a benchmark found."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from ..choices import Device, Precision
from ..errors import BenchmarkError
from ..spec import ModelSpec
from .cold import ProcessRun
from .machine import Machine
from .race import Job, Race, Samples, is_steady


@dataclass(frozen=True)
class Batch:
    """Seconds of single runs of the network on `size` clips at once."""

    size: int
    seconds: Samples

    @property
    def clips_per_second(self) -> float:
        """Throughput at the median."""
        return self.size / statistics.median(self.seconds)


@dataclass(frozen=True)
class Cold:
    """`tubes run` as new processes: the first with this model file, which makes the optimised graph, and later ones."""

    first: ProcessRun
    later: tuple[ProcessRun, ...]


@dataclass(frozen=True)
class Versus:
    """A race against an opponent, and which of our jobs it was about."""

    job: Job
    opponent: str
    race: Race

    def require(self, at_least: float) -> None:
        """Hold the race to a bar.

        Raises:
            BenchmarkError: ours is less than `at_least` times as fast as the opponent.
        """
        if self.race.ratio >= at_least:
            return
        hint = "" if self.race.steady else "; the samples are unsteady, so measure again on a quiet machine"
        raise BenchmarkError(
            f"ours is {self.race.ratio:.3f} times as fast as {self.opponent}: below the bar of {at_least:g}{hint}"
        )


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Everything that was measured, in seconds.

    Attributes:
        machine: where.
        model: the model file.
        spec: what it says of itself.
        device: where the network ran.
        precision: what it computed in.
        runtime: name and version of what computed it.
        clip: what stages and start were measured on.
        batches: runs of the network on 1, 2, 4, 8 clips at once, as far as memory and patience reach.
        stages: of `explain` and `save`, by name; ``"all"`` is the two calls from start to end.
        cold: the command as a new process.
        versus: the race, if there was one.
        notes: what the user should know: a device fallback.
    """

    machine: Machine
    model: Path
    spec: ModelSpec
    device: Device
    precision: Precision
    runtime: str
    clip: str
    batches: tuple[Batch, ...]
    stages: dict[str, Samples]
    cold: Cold
    versus: Versus | None
    notes: tuple[str, ...]

    @property
    def network(self) -> Samples:
        """Seconds of single runs of the network on one clip."""
        return self.batches[0].seconds

    @property
    def steady(self) -> bool:
        """Whether the machine was quiet enough for the medians to mean something."""
        raced = self.versus is None or self.versus.race.steady
        return raced and is_steady(self.network) and is_steady(self.stages["all"])
