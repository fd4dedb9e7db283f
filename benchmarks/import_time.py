"""Claim: importing the package takes under 0.5 s, and PyTorch, ONNX and SciPy are neither imported nor needed.

``from saliency_tubes import load_model``, which imports everything that explaining a clip needs, timed inside a new
interpreter each round. Beside it the reference's imports (PyTorch,
SciPy, OpenCV). "Not needed" is tried: `tubes run` explains the clip in an interpreter that refuses to import them.
"""

import os
import subprocess
import sys

from saliency_tubes.bench.race import Clock
from saliency_tubes.graph_cache import VARIABLE

from .harness import Below, Result, Row
from .inputs import Inputs

NAME = "import"
_ABSENT = ("torch", "onnx", "scipy")
_OURS = "from saliency_tubes import load_model"
_TIME = "import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
_RUN_WITHOUT = f"""
import sys

for name in {_ABSENT}:
    sys.modules[name] = None  # any import of it now raises ModuleNotFoundError

from saliency_tubes.cli import main

main()
"""


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Time both sets of imports, and run without what must not be needed."""
    _check_not_imported()
    _check_not_needed(inputs)
    reference, ours = clock.interleave(
        NAME, lambda _: _import_seconds("import torch, scipy.ndimage, cv2"), lambda _: _import_seconds(_OURS)
    )
    facts = ((f"neither imported nor needed: {', '.join(_ABSENT)}", "yes"),)
    return [Result(NAME, _OURS, "s", ours, reference, Below(0.5), facts)]


def _import_seconds(statement: str) -> float:
    return float(_python(_TIME.format(statement=statement)))


def _check_not_imported() -> None:
    found = _python(f"import sys; {_OURS}; print(*[name for name in {_ABSENT} if name in sys.modules])").strip()
    if found:
        raise RuntimeError(f"{_OURS!r} imports {found}")


def _check_not_needed(inputs: Inputs) -> None:
    out = inputs.folder / "without"
    options = [
        "--model",
        str(inputs.model),
        "--label",
        str(inputs.label),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--save",
        "all",
    ]
    _python(_RUN_WITHOUT, "run", str(inputs.frames), *options)
    if not (out / inputs.frames.name / str(inputs.label) / "tube.npz").is_file():
        raise RuntimeError(f"`tubes run` wrote no tube where {', '.join(_ABSENT)} cannot be imported")


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {VARIABLE: ""})
    if done.returncode != 0:
        raise RuntimeError(f"a new interpreter failed:\n{done.stderr}")
    return done.stdout
