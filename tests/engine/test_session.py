import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saliency_tubes import backend_openvino, backend_ort, session
from saliency_tubes.choices import Device, Precision
from saliency_tubes.errors import DeviceError, ModelFileError, NotLoadedError
from saliency_tubes.session import open_session
from tiny import CLASSES, FEATURES, FRAMES, SIZE, tiny_spec, write_tiny

HAS_OPENVINO = session.installed(Device.OPENVINO)
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")


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
    with pytest.raises(
        DeviceError, match="no device is called 'tpu': choose one of auto, cpu, cuda, tensorrt, openvino"
    ):
        open_session(model_file, "tpu")


def test_a_missing_model_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no model file at .*tubes\.onnx: make one with `tubes export WEIGHTS"):
        open_session(tmp_path / "tubes.onnx", "cpu")


@pytest.mark.parametrize("content", [b"", b"this is not ONNX", bytes(range(256)) * 40])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fake.onnx").write_bytes(content)

    with pytest.raises(ModelFileError, match=r"fake\.onnx is not a model that onnxruntime .* can load"):
        open_session(tmp_path / "fake.onnx", "cpu")


def test_a_truncated_model_is_refused(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(model_file.read_bytes()[:-4000])

    with pytest.raises(ModelFileError, match="is not a model that onnxruntime"):
        open_session(tmp_path / "cut.onnx", "cpu")


class TestChoosing:
    """Which device is taken, and what is said of those that are not, each obstacle made here."""

    @pytest.fixture
    def loads(self, monkeypatch: pytest.MonkeyPatch) -> dict[Device, str | None]:
        """By device, why it does not load; None where it does. Whatever loads is the CPU underneath."""
        obstacles: dict[Device, str | None] = dict.fromkeys((Device.CUDA, Device.OPENVINO, Device.CPU))
        real = session._load

        def load(path: Path, device: Device, *arguments: Any) -> Any:
            if (reason := obstacles[device]) is not None:
                raise NotLoadedError(reason)
            return real(path, Device.CPU, *arguments)

        monkeypatch.setattr(session, "_load", load)
        monkeypatch.setattr(session, "installed", lambda _: True)
        return obstacles

    def test_auto_takes_the_fastest_that_loads(self, model_file: Path, loads: dict[Device, str | None]) -> None:
        assert (open_session(model_file).device, open_session(model_file).note) == ("cuda", None)

        loads[Device.CUDA] = "no NVIDIA driver on this machine"
        second = open_session(model_file)
        assert second.device == "openvino"
        assert second.note == "running on OpenVINO: no NVIDIA driver on this machine"

        loads[Device.OPENVINO] = "libtbb.so.12: cannot open"
        third = open_session(model_file)
        assert third.device == "cpu"
        assert third.note == "running on the CPU: no NVIDIA driver on this machine; libtbb.so.12: cannot open"

    def test_what_is_not_installed_is_worth_no_word(
        self, model_file: Path, loads: dict[Device, str | None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session, "installed", lambda device: device is not Device.OPENVINO)
        loads[Device.CUDA] = "no GPU"

        assert open_session(model_file).note == "running on the CPU: no GPU"

    def test_a_device_by_name_never_falls_back(self, model_file: Path, loads: dict[Device, str | None]) -> None:
        loads[Device.CUDA] = "no NVIDIA driver on this machine"

        with pytest.raises(DeviceError, match=r"^CUDA did not load: no NVIDIA driver on this machine\. `--device cpu`"):
            open_session(model_file, "cuda")

    def test_a_precision_leaves_only_devices_that_have_it(
        self, model_file: Path, loads: dict[Device, str | None]
    ) -> None:
        assert open_session(model_file, "auto", "bf16").device == "openvino"
        assert open_session(model_file, "auto", "tf32").device == "cuda"
        assert open_session(model_file, "auto", "tf32").precision == "tf32"

        loads[Device.CUDA] = "no GPU"
        with pytest.raises(DeviceError, match=r"no device here computes in tf32 \(no GPU\): leave --precision out"):
            open_session(model_file, "auto", "tf32")

    @pytest.mark.usefixtures("loads")
    def test_a_precision_that_the_device_lacks_is_refused(self, model_file: Path) -> None:
        with pytest.raises(DeviceError, match="the CPU computes in fp32, not in bf16: leave --precision out"):
            open_session(model_file, "cpu", "bf16")
        with pytest.raises(DeviceError, match="CUDA computes in fp32 or tf32, not in bf16"):
            open_session(model_file, "cuda", Precision.BF16)

    @pytest.mark.usefixtures("loads")
    def test_fp16_is_a_matter_of_the_file(
        self, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        halves = write_tiny(tmp_path / "halves.onnx", tiny_spec(precision=Precision.FP16))

        assert open_session(halves, "cuda").precision == "fp16"
        assert open_session(halves, "cuda", "fp16").precision == "fp16"
        for machine, expected in (("x86_64", "fp32"), ("aarch64", "fp16")):
            monkeypatch.setattr(session.platform, "machine", lambda name=machine: name)
            assert open_session(halves, "cpu").precision == expected  # what has no halves computes in float32
            assert open_session(halves, "openvino").precision == "fp32"
        with pytest.raises(DeviceError, match=r"halves\.onnx was exported in fp16, so it cannot run in fp32"):
            open_session(halves, "cpu", "fp32")
        with pytest.raises(
            DeviceError, match=r"exported in fp32, so it cannot run in fp16.*tubes export --precision f"
        ):
            open_session(model_file, "cpu", "fp16")

    def test_an_unknown_precision_lists_the_known_ones(self, model_file: Path) -> None:
        with pytest.raises(DeviceError, match="no precision is called 'int8': choose one of fp32, tf32, bf16, fp16"):
            open_session(model_file, "cpu", "int8")


@needs_openvino
class TestOpenVino:
    def test_it_computes_what_onnx_runtime_computes(self, model_file: Path) -> None:
        loaded = open_session(model_file, "openvino")
        assert loaded.device == "openvino"
        assert loaded.precision == "fp32"
        assert loaded.runtime.startswith("openvino 20")

        ours, expected = loaded.run(clips(3)), open_session(model_file, "cpu").run(clips(3))

        np.testing.assert_allclose(ours.features, expected.features, atol=1e-4)
        np.testing.assert_allclose(ours.logits, expected.logits, atol=1e-4)

    def test_it_reads_the_same_of_the_file(self, model_file: Path) -> None:
        ours, expected = open_session(model_file, "openvino"), open_session(model_file, "cpu")

        assert ours.metadata == expected.metadata
        assert {name: shape[1:] for name, shape in ours.inputs.items()} == {"frames": (FRAMES, SIZE, SIZE, 3)}
        assert {name: shape[1:] for name, shape in ours.outputs.items()} == {"logits": (CLASSES,), "features": FEATURES}
        assert ours.digest.result() == expected.digest.result()

    def test_results_are_not_overwritten_by_the_next_run(self, model_file: Path) -> None:
        loaded = open_session(model_file, "openvino")
        first = loaded.run(clips(1))
        kept = first.features.copy()

        loaded.run(255 - clips(1))

        np.testing.assert_array_equal(first.features, kept)

    def test_a_processor_without_bfloat16_is_not_asked_for_it(
        self, model_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend_openvino, "has_bfloat16", lambda: False)

        with pytest.raises(DeviceError, match="this processor has no bfloat16 arithmetic"):
            open_session(model_file, "openvino", "bf16")

    @pytest.mark.parametrize("content", [b"", b"this is not ONNX", b"import os\nos.system('true')\n"])
    def test_what_is_not_onnx_is_refused(self, tmp_path: Path, content: bytes, capfd: Any) -> None:
        (tmp_path / "fake.onnx").write_bytes(content)

        with pytest.raises(ModelFileError, match=r"fake\.onnx is not a model that openvino .* can load"):
            open_session(tmp_path / "fake.onnx", "openvino")
        assert capfd.readouterr().err == ""  # its other readers, for other formats, were not let near the file

    def test_frames_of_another_shape_are_refused(self, model_file: Path) -> None:
        with pytest.raises(ModelFileError, match=r"openvino .* could not run this model on openvino with frames of sh"):
            open_session(model_file, "openvino").run(np.zeros((1, FRAMES, 9, 9, 3), dtype=np.uint8))


def test_without_openvino_the_error_says_how_to_install_it(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(DeviceError, match=r"OpenVINO did not load: .*pip install 'saliency-tubes\[openvino\]'"):
        open_session(model_file, "openvino")


@pytest.mark.parametrize(
    ("device", "gpu", "openvino", "expected"),
    [
        (Device.CPU, True, True, ".backend_ort"),
        (Device.CUDA, False, True, ".backend_nvidia"),
        (Device.TENSORRT, False, True, ".backend_nvidia"),
        (Device.OPENVINO, True, True, ".backend_openvino"),
        (Device.OPENVINO, True, False, ".backend_openvino"),
        (Device.AUTO, True, True, ".backend_nvidia"),
        (Device.AUTO, False, True, ".backend_openvino"),
        (Device.AUTO, False, False, ".backend_ort"),
    ],
)
def test_the_runtime_that_will_be_needed_is_imported_ahead(
    device: Device, gpu: bool, openvino: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = []
    real = session.import_module
    monkeypatch.setattr(session.nvidia, "obstacle", lambda: None if gpu else "no GPU")
    monkeypatch.setattr(session, "installed", lambda device: openvino or device is not Device.OPENVINO)
    monkeypatch.setattr(session, "import_module", lambda *name: imported.append(name[0]) or real(*name))

    session.import_backend(device)

    assert imported == [expected]


def test_a_broken_openvino_is_passed_over_with_a_word(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('libtbb.so.12: cannot open')")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from saliency_tubes.session import *\n"
        "import_backend(Device.OPENVINO)\n"
        f"loaded = open_session(Path({str(model_file)!r}))\n"
        "print(loaded.device, loaded.note)"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert result.stderr == ""
    assert result.stdout.startswith(("cpu running on the CPU: ", "cuda None"))
    assert "libtbb.so.12: cannot open" in result.stdout or result.stdout.startswith("cuda")


@needs_openvino
def test_openvino_does_not_report_its_import() -> None:
    script = (
        "import sys, threading\n"
        "from saliency_tubes import backend_openvino\n"
        "assert backend_openvino.obstacle() is None\n"
        "print('openvino_telemetry' in sys.modules, threading.active_count())"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert result.stdout.split() == ["False", "1"]


@pytest.mark.parametrize(("cores", "streams", "threads"), [(16, 1, 0), (2, 2, 1), (16, 4, 13), (1, 4, 1)])
def test_streams_share_out_the_cores(
    model_file: Path, cores: int, streams: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = backend_ort.session_options
    monkeypatch.setattr(backend_ort, "usable_cores", lambda: cores)
    monkeypatch.setattr(backend_ort, "session_options", lambda threads: asked.append(threads) or real(1))

    loaded = open_session(model_file, "cpu", streams=streams)

    assert loaded.streams == streams
    assert asked == [threads]  # one thread of each run is its caller's
