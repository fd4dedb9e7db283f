"""Claim: ``import saliency_tubes`` takes under 0.5 s, and PyTorch, ONNX and SciPy are neither imported nor needed.

The import statement alone, timed inside a new interpreter each round. Beside it the reference's imports (PyTorch,
SciPy, OpenCV). "Not needed" is tried: `tubes run` explains the clip in an interpreter that refuses to import them.
"""

import subprocess
import sys

from .harness import Below, Clock, Result
from .inputs import Inputs

NAME = "import"
_ABSENT = ("torch", "onnx", "scipy")
_TIME = "import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"
_RUN_WITHOUT = f"""
import sys

for name in {_ABSENT}:
    sys.modules[name] = None  # any import of it now raises ModuleNotFoundError

from saliency_tubes.cli import main

main()
"""


def measure(inputs: Inputs, clock: Clock) -> Result:
    """Time both sets of imports, and run without what must not be needed."""
    _check_not_imported()
    _check_not_needed(inputs)
    reference, ours = clock.interleave(
        NAME, lambda _: _import_seconds("torch, scipy.ndimage, cv2"), lambda _: _import_seconds("saliency_tubes")
    )
    facts = ((f"neither imported nor needed: {', '.join(_ABSENT)}", "yes"),)
    return Result(NAME, "import saliency_tubes", "s", ours, reference, Below(0.5), facts)


def _import_seconds(modules: str) -> float:
    return float(_python(_TIME.format(modules=modules)))


def _check_not_imported() -> None:
    found = _python(f"import sys, saliency_tubes; print(*[name for name in {_ABSENT} if name in sys.modules])").strip()
    if found:
        raise RuntimeError(f"import saliency_tubes imports {found}")


def _check_not_needed(inputs: Inputs) -> None:
    out = inputs.folder / "without"
    options = ["--model", str(inputs.model), "--label", str(inputs.label), "--out", str(out), "--device", "cpu"]
    _python(_RUN_WITHOUT, "run", str(inputs.frames), *options)
    if not (out / inputs.frames.name / str(inputs.label) / "tube.npz").is_file():
        raise RuntimeError(f"`tubes run` wrote no tube where {', '.join(_ABSENT)} cannot be imported")


def _python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"a new interpreter failed:\n{done.stderr}")
    return done.stdout
