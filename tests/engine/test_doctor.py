import pytest
from saliency_tubes import backend_nvidia, backend_openvino, doctor, nvidia
from saliency_tubes.choices import Device, Layout, Precision
from saliency_tubes.doctor import Diagnosis, diagnose

pytest.importorskip("onnx")

from tiny import tiny_spec


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What this machine has; change it."""
    has: dict[str, object] = {"cuda": "no driver", "tensorrt": "no driver", "openvino": None, "bfloat16": False}
    monkeypatch.setattr(backend_nvidia, "cuda_obstacle", lambda: has["cuda"])
    monkeypatch.setattr(backend_nvidia, "tensorrt_obstacle", lambda: has["tensorrt"])
    monkeypatch.setattr(backend_openvino, "obstacle", lambda: has["openvino"])
    monkeypatch.setattr(backend_openvino, "has_bfloat16", lambda: has["bfloat16"])
    monkeypatch.setattr(nvidia, "gpu_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    return has


def state(diagnosis: Diagnosis, device: Device) -> tuple[bool, tuple[Precision, ...], str]:
    (finding,) = (finding for finding in diagnosis.findings if finding.device is device)
    return finding.ready, finding.precisions, finding.remark


@pytest.mark.usefixtures("machine")
def test_what_is_not_here_has_its_reason() -> None:
    found = diagnose()

    assert state(found, Device.CUDA) == (False, (), "no driver")
    assert state(found, Device.OPENVINO) == (True, (Precision.FP32,), "2 cores")
    assert state(found, Device.CPU) == (True, (Precision.FP32,), "2 cores")
    assert found.chosen == "openvino"
    assert dict(found.versions)["saliency-tubes"]


def test_auto_is_what_the_session_would_take(machine: dict[str, object]) -> None:
    machine["cuda"] = None
    found = diagnose()

    assert found.chosen == "cuda"
    assert state(found, Device.CUDA) == (True, (Precision.FP32, Precision.TF32), "NVIDIA H100")
    assert found.advice == ()


def test_without_openvino_it_says_how_to_get_faster(machine: dict[str, object]) -> None:
    machine["openvino"] = "the package openvino is not installed"
    found = diagnose()

    assert found.chosen == "cpu"
    assert found.advice == ("OpenVINO is the fastest way on a CPU: pip install 'saliency-tubes[openvino]'",)


def test_bfloat16_is_offered_where_the_processor_has_it(machine: dict[str, object]) -> None:
    machine["bfloat16"] = True
    found = diagnose()

    assert state(found, Device.OPENVINO)[1] == (Precision.FP32, Precision.BF16)
    assert found.advice == ("bfloat16 is faster still, and less exact: tubes run --precision bf16",)


@pytest.mark.parametrize(
    ("obstacle", "layout", "advised"),
    [
        (None, Layout.BLOCKED, "layout blocked, on openvino plain is faster: tubes export --layout plain"),
        (None, Layout.PLAIN, None),
        ("absent", Layout.PLAIN, "layout plain, on cpu blocked is faster: tubes export --layout blocked"),
        ("absent", Layout.BLOCKED, None),
    ],
)
def test_the_layout_of_a_model_is_compared_with_the_device(
    machine: dict[str, object], obstacle: str | None, layout: Layout, advised: str | None
) -> None:
    machine["openvino"] = obstacle

    advice = [line for line in diagnose(tiny_spec(layout=layout)).advice if "layout" in line]

    assert advice == ([] if advised is None else [f"this model has the {advised}"])
