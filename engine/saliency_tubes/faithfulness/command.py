"""What `tubes evaluate` does: read the cases, load the model, measure, write."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ..choices import Device, Precision
from ..errors import first_line
from ..model import TubeModel, load_model
from ..progress import StopWords, shown
from .cases import Case, CaseError
from .evaluation import Evaluation, measured
from .folder import written_to
from .lists import read_cases
from .options import Options
from .results import CaseResult
from .summary import table

Randomise = Callable[[Path, Path, int], None]  # model, output, seed: as the exporter has it
STOP_WORDS = StopWords(
    heard="stopping; what was measured so far is written. Ctrl-C again stops at once",
    ended="stopped: what follows is of the cases that were measured until then",
)
_INTERRUPTED = 130


@dataclass(frozen=True, eq=False)
class Ending:
    """How an evaluation ended: what was measured, the files it was written to, and the command's exit code."""

    evaluation: Evaluation
    files: tuple[Path, ...]
    code: int

    def text(self) -> str:
        """The table, what failed, and where all of it is."""
        done, failed = len(self.evaluation.results), len(self.evaluation.errors)
        counts = [f"{done} {'case' if done == 1 else 'cases'} measured"] + ([f"{failed} failed"] if failed else [])
        if not self.evaluation.complete:
            counts.append("stopped before the end")
        lines = [table(self.evaluation.summary()), "", ", ".join(counts), *(f"wrote {file}" for file in self.files)]
        return "\n".join(lines)


def run_command(
    cases: Path,
    model: Path,
    device: Device,
    precision: Precision | None,
    options: Options,
    randomise: Randomise | None,
    limit: int | None,
    out: Path | None,
    say: Callable[[str], None],
) -> Ending:
    """See `tubes evaluate`; `say` prints a line to stderr."""
    rows = list(islice(read_cases(cases), limit))

    def note(text: str) -> None:
        say(f"note: {text}")

    with written_to(out, note) as write:
        loaded = load_model(model, device, precision)
        if loaded.spec.approximate is not None:
            note(f"approximate: {loaded.spec.approximate}; completeness says by how much")
        if loaded.note is not None:
            note(loaded.note)
        with _randomised(loaded, randomise, device, precision, options.seed) as other:
            outcomes, code = _measure(loaded, rows, options, other, say)
            evaluation = Evaluation.of(outcomes, loaded, options, other, complete=code is None)
        for text in _notes(evaluation.results):
            note(text)
        files = write(evaluation)
    return Ending(evaluation, files, code if code is not None else int(bool(evaluation.errors)))


def _notes(results: Iterable[CaseResult]) -> Iterator[str]:
    """What is to be noted, each once, with the clip that it is said of."""
    names = defaultdict[str, list[str]](list)
    for result in results:
        for text in result.notes:
            names[text].append(result.name)
    for text, several in names.items():
        yield f"{several[0]}{f' and {len(several) - 1} more' if len(several) > 1 else ''}: {text}"


@contextmanager
def _randomised(
    model: TubeModel, randomise: Randomise | None, device: Device, precision: Precision | None, seed: int
) -> Iterator[TubeModel | None]:
    """The model with shuffled weights, for as long as it is needed."""
    if randomise is None:
        yield None
        return
    with TemporaryDirectory(prefix="saliency-tubes-") as folder:
        path = Path(folder) / "randomised.onnx"
        randomise(model.path, path, seed)
        yield load_model(path, device, precision)


def _measure(
    model: TubeModel,
    rows: Sequence[Case | CaseError],
    options: Options,
    randomised: TubeModel | None,
    say: Callable[[str], None],
) -> tuple[list[CaseResult | CaseError], int | None]:
    """The outcomes, and the exit code of what ended it early, a signal or an error; None where it came to its end."""
    outcomes: list[CaseResult | CaseError] = []
    try:
        with shown(sum(isinstance(row, Case) for row in rows), say, STOP_WORDS) as seen:
            for outcome in measured(model, rows, options, randomised):
                outcomes.append(outcome)
                seen(outcome)
    except KeyboardInterrupt:
        return outcomes, _INTERRUPTED
    except SystemExit as stopped:  # by SIGTERM
        return outcomes, stopped.code if isinstance(stopped.code, int) else 1
    except Exception as error:  # of no case: those have become outcomes
        if not outcomes:
            raise
        say(f"stopped by an error ({type(error).__name__}: {first_line(error)}): what was measured until then follows")
        return outcomes, 1
    return outcomes, None
