import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from saliency_tubes.choices import Device, Norm
from saliency_tubes.errors import BenchmarkError
from saliency_tubes.presets import preset
from saliency_tubes.synthetic import synthetic_clip, write_frames
from tiny import CLASSES, FRAMES, SIZE, tiny_spec

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from saliency_tubes_export import against_eager, against_reference  # noqa: E402
from saliency_tubes_export.mfnet3d import fresh  # noqa: E402
from saliency_tubes_export.parity import normalised  # noqa: E402

NOWHERE = Path("nowhere")


def pixels(shape: tuple[int, int, int, int]) -> np.ndarray:
    return synthetic_clip(shape, 1)[None]


def test_the_eager_opponent_computes_what_the_network_computes_of_the_same_pixels() -> None:
    spec = tiny_spec(architecture="mfnet-3d")
    clip = pixels((FRAMES, SIZE, SIZE, 3))

    opponent = against_eager.prepare(spec, Device.CPU, clip, NOWHERE)
    logits, features = opponent.run(NOWHERE)

    with torch.inference_mode():
        expected = fresh(CLASSES)(torch.from_numpy(normalised(clip, spec.preprocessing)))
    assert opponent.job == "network"
    assert f"untrained, in eager PyTorch {torch.__version__}, float32, on cpu" in opponent.what
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert features.shape == (1, 768, FRAMES // 2, SIZE // 32, SIZE // 32)
    assert features.dtype == torch.float32


@pytest.mark.parametrize("device", [Device.CUDA, Device.TENSORRT])
def test_without_a_gpu_there_is_no_race_on_one(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(BenchmarkError, match=r"finds no GPU to race on: install one built for CUDA.*--device cpu"):
        against_eager.prepare(tiny_spec(architecture="mfnet-3d"), device, pixels((FRAMES, SIZE, SIZE, 3)), NOWHERE)


def test_the_published_pipeline_takes_what_was_published_alone() -> None:
    spec = tiny_spec(architecture="mfnet-3d")

    with pytest.raises(BenchmarkError, match=r"takes 16 frames of 224x224, and this model file 4 of 32x32.*eager"):
        against_reference.prepare(spec, Device.CPU, pixels((FRAMES, SIZE, SIZE, 3)), NOWHERE)


def test_the_published_pipeline_draws_pictures_of_every_frame(tmp_path: Path) -> None:
    spec = tiny_spec(architecture="mfnet-3d", frames=16, preprocessing=preset(Norm.SALIENCY_TUBES, 224))
    frames = write_frames(tmp_path / "clip", synthetic_clip((16, 64, 80, 3), 1))

    against_reference.prepare(spec, Device.CPU, pixels((FRAMES, SIZE, SIZE, 3)), frames).run(tmp_path / "out")

    for kind in ("heatmap", "focusmap"):
        assert len(list((tmp_path / "out" / kind).glob("*.png"))) == 16


def test_the_reference_takes_the_network_alone_of_this_project() -> None:
    script = (
        "import sys, saliency_tubes_export.reference\n"
        "print([name for name in ('onnx', 'onnxscript', 'onnxruntime', 'saliency_tubes') if name in sys.modules])"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
