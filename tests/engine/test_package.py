import subprocess
import sys
from pathlib import Path

import saliency_tubes


def test_the_public_names_are_these() -> None:
    assert sorted(saliency_tubes.__all__) == [
        "Device",
        "Explanation",
        "ModelSpec",
        "SaliencyTubesError",
        "Sampling",
        "Style",
        "Tube",
        "TubeModel",
        "__version__",
        "load_model",
    ]
    assert dir(saliency_tubes) == sorted(saliency_tubes.__all__)
    assert all(hasattr(saliency_tubes, name) for name in saliency_tubes.__all__)


def test_the_runtime_needs_no_torch_onnx_or_scipy() -> None:
    """Import the package and its command with these packages made unimportable, then look at what was loaded."""
    forbidden = ("torch", "onnx", "onnxscript", "scipy", "safetensors", "saliency_tubes_export")
    script = (
        f"import sys; forbidden = {forbidden!r}; sys.modules.update(dict.fromkeys(forbidden))\n"
        "import saliency_tubes, saliency_tubes.cli, saliency_tubes.model, saliency_tubes.bench.report, saliency_tubes.bench.measure\n"
        "import saliency_tubes.faithfulness, saliency_tubes.faithfulness.command\n"
        "print(sorted(name for name in forbidden if sys.modules[name] is not None))"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_the_command_starts_without_what_only_evaluations_need() -> None:
    script = "import sys, saliency_tubes, saliency_tubes.cli; print('saliency_tubes.faithfulness' in sys.modules)"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "False"


def test_all_that_an_evaluation_takes_comes_from_one_place() -> None:
    from saliency_tubes import faithfulness

    assert all(hasattr(faithfulness, name) for name in faithfulness.__all__)
    wanted = {"Box", "Case", "Evaluation", "Evidence", "Fill", "Method", "Metric", "Options", "evaluate"}
    assert wanted <= set(faithfulness.__all__)


def test_only_the_backends_import_a_runtime() -> None:
    modules = Path(saliency_tubes.__file__).parent.rglob("*.py")
    importers = {
        runtime: sorted(f.name for f in modules_ if f"import {runtime}" in f.read_text(encoding="utf-8"))
        for modules_ in [list(modules)]
        for runtime in ("onnxruntime", "openvino")
    }

    assert importers == {
        "onnxruntime": ["backend_nvidia.py", "backend_ort.py"],
        "openvino": ["backend_openvino.py"],
    }


def test_an_opencv_without_its_system_libraries_names_the_mend(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from saliency_tubes import load_model"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert "OpenCV does not load here (libGL.so.1: cannot open shared object file): pip uninst" in result.stderr
    assert "pip install opencv-python-headless" in result.stderr
