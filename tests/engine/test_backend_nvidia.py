import ctypes
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from saliency_tubes import backend_nvidia, nvidia
from saliency_tubes.backend_ort import BoundBackend, OrtBackend, load, session_options
from saliency_tubes.choices import Precision
from saliency_tubes.errors import DeviceError, ModelFileError
from saliency_tubes.session import open_session
from tiny import FRAMES, SIZE, tiny_spec, write_tiny

CPU = ["CPUExecutionProvider"]
needs_gpu = pytest.mark.skipif(
    nvidia.obstacle() is not None or "CUDAExecutionProvider" not in ort.get_available_providers(),
    reason="this machine has no NVIDIA GPU that CUDA can use",
)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx")


def clips(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)


class TestWithoutCuda:
    """What is said where CUDA cannot load, each obstacle made here, whatever this machine has."""

    @pytest.fixture
    def no_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def library(name: str, *_: object, **__: object) -> None:
            raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", *CPU])
        monkeypatch.setattr(ctypes, "CDLL", library)

    @pytest.fixture
    def driver_without_libraries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def library(name: str, *_: object, **__: object) -> Any:
            if name.endswith("providers_cuda.so"):
                raise OSError("libcublasLt.so.13: cannot open shared object file: No such file or directory")

        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", *CPU])
        monkeypatch.setattr(nvidia, "obstacle", lambda: None)
        monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublasLt.so.13"))  # noqa: T201
        monkeypatch.setattr(ctypes, "CDLL", library)
        # ONNX Runtime's own answer to a provider that does not load: a session on the CPU, and no error.
        monkeypatch.setattr(backend_nvidia, "load", lambda path, _, options: load(path, CPU, options))

    @pytest.mark.usefixtures("no_driver")
    def test_cuda_by_name_is_an_error_that_names_the_driver(self, model_file: Path) -> None:
        with pytest.raises(DeviceError, match=r"CUDA did not load: no NVIDIA driver on this machine.*--device cpu"):
            open_session(model_file, "cuda")

    @pytest.mark.usefixtures("no_driver")
    def test_auto_falls_back_and_says_so(self, model_file: Path) -> None:
        loaded = open_session(model_file, "auto")

        assert loaded.device in ("cpu", "openvino")
        assert "no NVIDIA driver on this machine" in (loaded.note or "")

    @pytest.mark.usefixtures("driver_without_libraries")
    def test_a_missing_library_is_named_with_the_mend(self, model_file: Path) -> None:
        with pytest.raises(
            DeviceError, match=r"CUDA did not load: libcublasLt\.so\.13: .*pip install 'saliency-tubes\[cuda\]'"
        ):
            open_session(model_file, "cuda")

    @pytest.mark.usefixtures("driver_without_libraries")
    def test_a_silent_fallback_is_not_believed(self, model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        loaded = open_session(model_file, "auto")

        assert capsys.readouterr().out == ""  # stdout belongs to results
        assert loaded.device in ("cpu", "openvino")
        assert "libcublasLt.so.13" in (loaded.note or "")

    @pytest.mark.parametrize("device", ["cuda", "tensorrt"])
    def test_an_onnxruntime_built_without_it_says_what_to_install(
        self, model_file: Path, device: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ort, "get_available_providers", lambda: CPU)
        monkeypatch.setattr(nvidia, "obstacle", lambda: None)

        with pytest.raises(
            DeviceError, match=r"was built without (CUDA|TensorRT): pip uninstall onnxruntime, then pip"
        ):
            open_session(model_file, device)


class TestAsked:
    """What ONNX Runtime is asked for; it answers with a session on the CPU."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The providers of each session that was made, with their options."""
        made: list[Any] = []

        def loading(path: Path, providers: list[Any], options: ort.SessionOptions) -> ort.InferenceSession:
            made.append(providers)
            return load(path, CPU, options)

        everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", *CPU]
        monkeypatch.setattr(ort, "get_available_providers", lambda: everything)
        monkeypatch.setattr(nvidia, "obstacle", lambda: None)
        monkeypatch.setattr(nvidia, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
        monkeypatch.setattr(backend_nvidia, "_preload", lambda: None)
        monkeypatch.setattr(backend_nvidia, "_taken", lambda inference, _: inference)
        monkeypatch.setattr(backend_nvidia, "load", loading)
        monkeypatch.setattr(backend_nvidia, "BoundBackend", lambda inference, *_, **__: OrtBackend(inference))
        return made

    def test_float32_is_float32_unless_tf32_is_asked_for(self, model_file: Path, asked: list[Any]) -> None:
        open_session(model_file, "cuda")
        open_session(model_file, "cuda", Precision.TF32)

        (exact, _), (allowed, _) = asked
        assert exact[0] == allowed[0] == "CUDAExecutionProvider"
        assert (exact[1]["use_tf32"], allowed[1]["use_tf32"]) == ("0", "1")
        assert exact[1]["enable_cuda_graph"] == "1"
        assert exact[1]["cudnn_conv_algo_search"] == "EXHAUSTIVE"

    @pytest.mark.usefixtures("asked")
    def test_where_the_gpu_is_in_the_way_auto_goes_on_and_says_why(
        self, model_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loading = backend_nvidia.load

        def full(path: Path, providers: list[Any], options: ort.SessionOptions) -> ort.InferenceSession:
            if providers[0] != CPU[0]:
                raise ModelFileError("cannot be loaded") from RuntimeError("CUDA out of memory")
            return loading(path, providers, options)

        monkeypatch.setattr(backend_nvidia, "load", full)

        loaded = open_session(model_file)
        assert loaded.device in ("cpu", "openvino")
        assert "the GPU did not take this model (CUDA out of memory)" in (loaded.note or "")
        with pytest.raises(DeviceError, match=r"CUDA did not load: the GPU did not take this model \(CUDA out of mem"):
            open_session(model_file, "cuda")

    @pytest.mark.usefixtures("asked")
    def test_a_damaged_file_is_not_blamed_on_the_gpu(self, tmp_path: Path) -> None:
        (tmp_path / "bad.onnx").write_bytes(b"no model")

        with pytest.raises(ModelFileError, match=r"bad\.onnx is not a model"):
            open_session(tmp_path / "bad.onnx", "cuda")

    def test_a_graph_that_cannot_be_recorded_runs_without(
        self, model_file: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loading = backend_nvidia.load

        def refusing(path: Path, providers: list[Any], options: ort.SessionOptions) -> ort.InferenceSession:
            if providers[0][1].get("enable_cuda_graph") == "1":
                raise ModelFileError("some nodes were given to the CPU")
            return loading(path, providers, options)

        monkeypatch.setattr(backend_nvidia, "load", refusing)

        assert open_session(model_file, "cuda").device == "cuda"
        assert asked[-1][0][0] == "CUDAExecutionProvider"
        assert "enable_cuda_graph" not in asked[-1][0][1]

    def test_engines_stand_beside_the_model_by_its_content_and_the_gpu(self, tmp_path: Path, asked: list[Any]) -> None:
        model = write_tiny(tmp_path / "tiny.onnx")
        loaded = open_session(model, "tensorrt")

        (_, ((name, options), *_)) = asked
        folder = tmp_path / "tiny.onnx.engines" / f"{loaded.digest.result()[:16]}-NVIDIA-H100-80GB-HBM3"
        assert name == "TensorrtExecutionProvider"
        assert Path(options["trt_engine_cache_path"]) == folder
        assert folder.is_dir()
        assert options["trt_engine_cache_enable"] == "1"
        assert options["trt_profile_min_shapes"] == f"frames:1x{FRAMES}x{SIZE}x{SIZE}x3"
        assert options["trt_profile_max_shapes"] == f"frames:32x{FRAMES}x{SIZE}x{SIZE}x3"
        assert options["trt_fp16_enable"] == "0"
        assert loaded.precision == "tf32"

    def test_halves_are_allowed_where_the_file_holds_them(self, tmp_path: Path, asked: list[Any]) -> None:
        open_session(write_tiny(tmp_path / "half.onnx", tiny_spec(precision=Precision.FP16)), "tensorrt")

        assert asked[-1][0][1]["trt_fp16_enable"] == "1"

    def test_where_nothing_can_be_written_engines_are_not_kept(self, tmp_path: Path, asked: list[Any]) -> None:
        model = write_tiny(tmp_path / "tiny.onnx")
        (tmp_path / "tiny.onnx.engines").write_text("in the way")

        open_session(model, "tensorrt")

        assert "trt_engine_cache_enable" not in asked[-1][0][1]


class TestBuffers:
    """The bound runs that a GPU gets, with their buffers in the memory of this machine."""

    @pytest.fixture
    def bound(self, model_file: Path) -> BoundBackend:
        return BoundBackend(load(model_file, CPU, session_options()), "cpu", graphs=False)

    def test_every_batch_size_computes_what_the_plain_run_does(self, model_file: Path, bound: BoundBackend) -> None:
        plain = OrtBackend(load(model_file, CPU, session_options()))

        for count in (2, 1, 3, 2):
            frames = clips(count, seed=count)
            for ours, expected in zip(bound.run(frames), plain.run(frames), strict=True):
                np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)

    def test_results_are_not_overwritten_by_the_next_run(self, bound: BoundBackend) -> None:
        logits, features = bound.run(clips(1))
        kept = logits.copy(), features.copy()

        bound.run(255 - clips(1))

        np.testing.assert_array_equal(logits, kept[0])
        np.testing.assert_array_equal(features, kept[1])

    def test_frames_need_not_lie_in_order(self, bound: BoundBackend) -> None:
        frames = clips(2)

        np.testing.assert_array_equal(bound.run(frames[::-1])[0], bound.run(frames)[0][::-1])

    def test_buffers_are_made_once_a_batch_size_and_the_oldest_are_dropped(self, bound: BoundBackend) -> None:
        bound.run(clips(1))
        first = bound._buffers[1]
        bound.run(clips(1))
        assert bound._buffers[1] is first

        for count in range(2, 10):
            bound.run(clips(count))
        assert sorted(bound._buffers) == list(range(2, 10))

    def test_a_recording_is_never_replayed_on_other_buffers(self, model_file: Path) -> None:
        recorder = BoundBackend(load(model_file, CPU, session_options()), "cpu", graphs=True)

        def identity(count: int) -> str:
            recorder.run(clips(count))
            return str(recorder._buffers[count].options.get_run_config_entry("gpu_graph_id"))

        first = [identity(count) for count in range(1, 9)]

        assert first == [str(i) for i in range(1, 9)]
        assert identity(9) == "-1"
        assert identity(1) == "-1"  # dropped, and made anew at another address

    def test_all_runs_are_on_one_thread(self, bound: BoundBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        on = set()
        real = bound._run_bound
        monkeypatch.setattr(bound, "_run_bound", lambda frames: on.add(threading.get_ident()) or real(frames))

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(bound.run, [clips(1)] * 6))
        bound.run(clips(1))

        assert len(on) == 1
        assert on != {threading.get_ident()}

    @pytest.mark.parametrize(
        "frames", [np.zeros((1, FRAMES, 9, 9, 3), np.uint8), np.zeros((1, FRAMES, SIZE, SIZE, 3), np.float32)]
    )
    def test_frames_of_another_kind_are_refused(self, bound: BoundBackend, frames: Any) -> None:
        with pytest.raises(ValueError, match=r"got frames of shape .* expected uint8 \(N, \(4, 32, 32, 3\)\)"):
            bound.run(frames)


@needs_gpu
class TestOnGpu:
    def test_cuda_computes_what_the_cpu_computes(self, exported_model: Path) -> None:
        on_gpu, on_cpu = open_session(exported_model, "cuda"), open_session(exported_model, "cpu")
        shape = on_cpu.inputs["frames"][1:]
        frames = np.random.default_rng(3).integers(0, 256, (2, *shape), dtype=np.uint8)
        assert on_gpu.device == "cuda"

        for _ in range(3):  # as it is, recorded, and replayed
            gpu, cpu = on_gpu.run(frames), on_cpu.run(frames)
            assert np.abs(gpu.features - cpu.features).max() <= 1e-4 * np.abs(cpu.features).max()
            assert np.abs(gpu.logits - cpu.logits).max() <= 1e-4 * np.abs(cpu.logits).max()
            frames = 255 - frames

    def test_no_node_falls_to_the_cpu(self, exported_model: Path, tmp_path: Path) -> None:
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / "profile")
        backend_nvidia._preload()
        inference = load(exported_model, ["CUDAExecutionProvider", *CPU], options)
        shape = inference.get_inputs()[0].shape[1:]
        inference.run(None, {"frames": np.zeros((1, *shape), np.uint8)})
        events = json.loads(Path(inference.end_profiling()).read_text(encoding="utf-8"))

        placed = [event["args"]["provider"] for event in events if "provider" in event.get("args", {})]
        assert placed
        assert set(placed) == {"CUDAExecutionProvider"}
