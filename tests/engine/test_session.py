import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from saliency_tubes import session
from saliency_tubes.choices import Device
from saliency_tubes.errors import DeviceError, ModelFileError
from saliency_tubes.session import open_session
from tiny import CLASSES, FEATURES, FRAMES, SIZE, write_tiny


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx")


def clips(count: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)


def test_a_batch_gives_the_logits_and_features_of_each_clip(model_file: Path) -> None:
    loaded = open_session(model_file, "cpu")

    batch = loaded.run(clips(3))

    assert batch.logits.shape == (3, CLASSES)
    assert batch.features.shape == (3, *FEATURES)
    for index, clip in enumerate(clips(3)):
        np.testing.assert_allclose(loaded.run(clip[None]).logits[0], batch.logits[index], rtol=1e-5, atol=1e-6)


def test_the_cpu_is_used_when_asked_for(model_file: Path) -> None:
    loaded = open_session(model_file, Device.CPU)

    assert loaded.device == "cpu"
    assert loaded.note is None


def test_frames_of_another_shape_are_refused(model_file: Path) -> None:
    with pytest.raises(ModelFileError, match=r"could not run this model on cpu with frames of shape \(1, 4, 9, 9, 3\)"):
        open_session(model_file, "cpu").run(np.zeros((1, FRAMES, 9, 9, 3), dtype=np.uint8))


def test_an_unknown_device_lists_the_known_ones(model_file: Path) -> None:
    with pytest.raises(DeviceError, match="no device is called 'tpu': choose one of auto, cpu, cuda"):
        open_session(model_file, "tpu")


def test_a_missing_model_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no model file at .*tubes\.onnx: make one with `tubes export WEIGHTS"):
        open_session(tmp_path / "tubes.onnx", "cpu")


@pytest.mark.parametrize("content", [b"", b"this is not ONNX", bytes(range(256)) * 40])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fake.onnx").write_bytes(content)

    with pytest.raises(ModelFileError, match=r"fake\.onnx is not a model that ONNX Runtime .* can load"):
        open_session(tmp_path / "fake.onnx", "cpu")


def test_a_truncated_model_is_refused(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(model_file.read_bytes()[:-4000])

    with pytest.raises(ModelFileError, match="is not a model that ONNX Runtime"):
        open_session(tmp_path / "cut.onnx", "cpu")


class TestWithoutCuda:
    """What is said where CUDA cannot load, each obstacle made here, whatever this machine has."""

    @pytest.fixture
    def no_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(name: str, *_: object, **__: object) -> None:
            raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
        monkeypatch.setattr(ctypes, "CDLL", load)

    @pytest.fixture
    def driver_without_libraries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(name: str, *_: object, **__: object) -> Any:
            if name.endswith("providers_cuda.so"):
                raise OSError("libcublasLt.so.13: cannot open shared object file: No such file or directory")

        monkeypatch.setattr(session, "_cuda_obstacle", lambda: None)
        monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublasLt.so.13"))  # noqa: T201
        monkeypatch.setattr(ctypes, "CDLL", load)
        real = session._load
        monkeypatch.setattr(session, "_load", lambda path, _, options: real(path, ["CPUExecutionProvider"], options))

    @pytest.mark.usefixtures("no_driver")
    def test_cuda_by_name_is_an_error_that_names_the_driver(self, model_file: Path) -> None:
        with pytest.raises(DeviceError, match=r"CUDA did not load: no NVIDIA driver on this machine.*--device cpu"):
            open_session(model_file, "cuda")

    @pytest.mark.usefixtures("no_driver")
    def test_auto_falls_back_and_says_so(self, model_file: Path) -> None:
        loaded = open_session(model_file, "auto")

        assert loaded.device == "cpu"
        assert loaded.note is not None
        assert loaded.note.startswith("running on the CPU: no NVIDIA driver on this machine")

    @pytest.mark.usefixtures("driver_without_libraries")
    def test_a_missing_library_is_named_with_the_mend(self, model_file: Path) -> None:
        with pytest.raises(
            DeviceError, match=r"CUDA did not load: libcublasLt\.so\.13: .*pip install 'saliency-tubes\[cuda\]'"
        ):
            open_session(model_file, "cuda")

    @pytest.mark.usefixtures("driver_without_libraries")
    def test_auto_does_not_believe_a_silent_fallback(
        self, model_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        loaded = open_session(model_file, "auto")

        assert capsys.readouterr().out == ""  # stdout belongs to results
        assert loaded.device == "cpu"
        assert "libcublasLt.so.13" in (loaded.note or "")

    def test_an_onnxruntime_built_without_cuda_says_what_to_install(
        self, model_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])

        with pytest.raises(DeviceError, match=r"was built without CUDA: pip uninstall onnxruntime, then pip install"):
            open_session(model_file, "cuda")


@pytest.mark.skipif(session._cuda_obstacle() is not None, reason="this machine has no NVIDIA GPU that CUDA can use")
def test_cuda_computes_what_the_cpu_computes(model_file: Path) -> None:
    on_gpu = open_session(model_file, "cuda")
    assert on_gpu.device == "cuda"

    gpu, cpu = on_gpu.run(clips(2)), open_session(model_file, "cpu").run(clips(2))

    np.testing.assert_allclose(gpu.features, cpu.features, atol=1e-3)
    np.testing.assert_allclose(gpu.logits, cpu.logits, atol=1e-3)
