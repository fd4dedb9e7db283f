"""Weights of networks that a function makes, by the function's name."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from saliency_tubes import load_model  # noqa: E402
from saliency_tubes.errors import CheckpointError, ExportError, OptionError, SaliencyTubesError  # noqa: E402
from saliency_tubes.session import open_session  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from saliency_tubes_export.architecture import load_module  # noqa: E402

SIZE = 32
CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Dropout())
        self.fc = nn.Linear(4, classes)

    def forward(self, clip):
        return self.fc(self.stem(clip).mean((2, 3, 4)))

class Zoo:
    net = Net

class Last(Net):
    def forward(self, clip):
        return super().forward(clip.permute(0, 4, 1, 2, 3))

def fails():
    raise ValueError("no such\\nvariant")

def leaves():
    raise SystemExit("usage: nets")

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module and its weights, where one stands."""
    (tmp_path / "nets_here.py").write_text(CODE)
    (tmp_path / "needs.py").write_text("import a_package_that_is_nowhere\n")
    (tmp_path / "broken.py").write_text("x = 1 +\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("nets_here", "needs", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    sys.dont_write_bytecode, written = True, sys.dont_write_bytecode
    torch.manual_seed(8)
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(CODE, namespace)
    torch.save(namespace["Net"](classes=7).state_dict(), "weights.pth")
    sys.dont_write_bytecode = written
    return tmp_path


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model_state", "model_state_dict"])
def test_weights_go_into_what_the_function_makes(folder: Path, wrap: str) -> None:
    state = torch.load("weights.pth")
    prefixed = {f"module.{key}": value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(prefixed if wrap == "bare" else {"epoch": 3, wrap: prefixed}, "wrapped.pth")

    network = load_module(Path("wrapped.pth"), "nets_here:Zoo.net", '{"classes": 7}')

    assert torch.equal(network.fc.weight, state["fc.weight"])


@pytest.mark.parametrize(
    ("arch", "arguments", "error", "message"),
    [
        ("nets_here", None, OptionError, r"--arch is 'nets_here': expected package\.module:factory"),
        ("nets_here:", None, OptionError, r"--arch is 'nets_here:': expected"),
        ("../nets_here:Net", None, OptionError, r"--arch is '\.\./nets_here:Net': expected"),
        ("nowhere.at.all:Net", None, OptionError, r"there is no module nowhere.* for --arch nowhere\.at\.all:Net"),
        ("needs:Net", None, ExportError, r"importing needs failed, because it needs a_package_that_is_nowhere"),
        ("broken:Net", None, ExportError, r"importing broken failed: SyntaxError: invalid syntax"),
        ("nets_here:Gone", None, OptionError, r"nets_here has no Gone, which --arch names"),
        ("nets_here:number", None, OptionError, r"nets_here:number is of int.*expected a function or class"),
        ("nets_here:fails", None, ExportError, r"nets_here:fails failed: ValueError: no such$"),
        ("nets_here:leaves", None, ExportError, r"nets_here:leaves failed: SystemExit: usage: nets"),
        ("nets_here:Zoo", None, ExportError, r"nets_here:Zoo gave Zoo: expected a torch\.nn\.Module"),
        ("nets_here:Net", '{"gone": 1}', ExportError, r"TypeError: .*unexpected keyword argument 'gone'"),
        ("nets_here:Net", "[7]", OptionError, r"--arch-kwargs is '\[7\]': expected a JSON object"),
        ("nets_here:Net", "{classes: 7}", OptionError, r"--arch-kwargs is not JSON \(Expecting property name"),
        (
            "nets_here:Net",
            None,
            CheckpointError,
            r"wrong shapes in 2 of nets_here:Net's keys: fc\.bias is \(7,\), expec",
        ),
        (
            "torch.nn:Linear",
            '{"in_features": 2, "out_features": 3}',
            CheckpointError,
            r"lacks 2 of torch\.nn:Linear's keys: bias, weight; it has unexpected 8 of torch\.nn:Linear's keys: fc\.b",
        ),
    ],
)
def test_what_makes_no_network_for_the_weights_is_refused(
    folder: Path, arch: str, arguments: str | None, error: type[SaliencyTubesError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_module(Path("weights.pth"), arch, arguments)


def export(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    from saliency_tubes import cli

    monkeypatch.setattr(sys, "argv", ["tubes", "export", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_the_command_makes_a_file_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_module(Path("weights.pth"), "nets_here:Last", '{"classes": 7}').eval()
    arguments = ["--arch", "nets_here:Last", "--arch-kwargs", '{"classes": 7}', "--input-layout", "NTHWC"]

    assert export(monkeypatch, "weights.pth", *arguments, "--frames=3", f"--size={SIZE}", "--mean=0.5", "--std=1") == 0

    spec = load_model("tubes.onnx", "cpu").spec
    assert (spec.architecture, spec.checkpoint_name, spec.input_shape) == (
        "nets_here:Last",
        "weights.pth",
        (3, 32, 32, 3),
    )
    frames = np.stack([synthetic_clip((3, SIZE, SIZE, 3), seed) for seed in (3, 4)])
    with torch.inference_mode():
        expected = network(torch.tensor(frames / 255 - 0.5, dtype=torch.float32))
    np.testing.assert_allclose(open_session(Path("tubes.onnx"), "cpu").run(frames).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--arch=nets_here:Net", "--preset=i3d"],
            "a module does not say which clips it takes: give --frames and --size",
        ),
        (["--arch=nets_here:Net", "--frames=4", "--size=32"], "how its frames were normalised: give either --preset"),
        (["--arch=nets_here:Net", "--preset=i3d", "--head=0"], "--head is for MFNet-3D, which is what weights are"),
        (["--arch=nets_here:Net", "--preset=i3d", "--precision=fp16"], "--precision is for MFNet-3D, which is what"),
        (["--arch=nets_here:Net", "--weights=w.h5"], "--weights is for Keras architectures (.json): leave it out"),
        (["--arch-kwargs={}"], "--arch-kwargs is for --arch: leave it out"),
    ],
)
def test_options_that_do_not_go_with_a_function_are_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert export(monkeypatch, "weights.pth", *arguments) == 2

    assert message in capsys.readouterr().err
    assert not Path("tubes.onnx").exists()
