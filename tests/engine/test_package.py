import subprocess
import sys

import saliency_tubes


def test_the_public_names_are_these() -> None:
    assert sorted(saliency_tubes.__all__) == [
        "Device",
        "Explanation",
        "ModelSpec",
        "SaliencyTubesError",
        "Tube",
        "TubeModel",
        "__version__",
        "load_model",
    ]
    assert all(hasattr(saliency_tubes, name) for name in saliency_tubes.__all__)


def test_the_runtime_needs_no_torch_onnx_or_scipy() -> None:
    """Import the package and its command with these packages made unimportable, then look at what was loaded."""
    forbidden = ("torch", "onnx", "onnxscript", "scipy", "safetensors", "saliency_tubes_export")
    script = (
        f"import sys; forbidden = {forbidden!r}; sys.modules.update(dict.fromkeys(forbidden))\n"
        "import saliency_tubes, saliency_tubes.cli\n"
        "print(sorted(name for name in forbidden if sys.modules[name] is not None))"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_only_the_session_imports_onnxruntime() -> None:
    from pathlib import Path

    package = Path(saliency_tubes.__file__).parent
    importers = [f.name for f in package.glob("*.py") if "import onnxruntime" in f.read_text(encoding="utf-8")]

    assert importers == ["session.py"]
