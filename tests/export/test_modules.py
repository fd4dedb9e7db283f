"""Modules of PyTorch in memory: exported, and held to what they compute themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
from saliency_tubes import load_model  # noqa: E402
from saliency_tubes.choices import Norm  # noqa: E402
from saliency_tubes.errors import (  # noqa: E402
    ExportError,
    OptionError,
    OutputError,
    ParityError,
    SaliencyTubesError,
)
from saliency_tubes.presets import Pixels  # noqa: E402
from saliency_tubes.session import open_session  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from saliency_tubes_export import export_model, modules  # noqa: E402
from saliency_tubes_export.eager import Eager  # noqa: E402
from saliency_tubes_export.torch_graph import plain_classifier  # noqa: E402
from torch import Tensor, nn  # noqa: E402

T, SIDE, K = 4, 16, 5
CLIP = torch.zeros(1, 3, T, SIDE, SIDE)
NAMES = ["walk", "run", "jump", "sit", "stand"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.body = nn.Sequential(nn.Conv3d(3, 8, 3, (1, 2, 2), 1), nn.BatchNorm3d(8), nn.ReLU(), nn.Dropout(0.9))
        self.head = nn.Linear(8, K)
        nn.init.uniform_(self.body[1].running_mean)

    def logits(self, clip: Tensor) -> Tensor:
        return self.head(self.body(clip).mean((2, 3, 4)))

    def forward(self, clip: Tensor) -> object:
        return self.logits(clip)


class Probabilities(Net):
    """Behind a softmax, among other things, and for one clip at a time."""

    def forward(self, clip: Tensor) -> object:
        return {"of": [torch.softmax(self.logits(clip).view(1, K), 1)], "loss": None, "count": torch.tensor(1)}


def frames() -> np.ndarray:
    return np.stack([synthetic_clip((T, SIDE, SIDE, 3), seed) for seed in (3, 4)])


def normalised(frames: np.ndarray) -> Tensor:
    return torch.tensor((frames / 255 - 0.5) / 0.5, dtype=torch.float32).permute(0, 4, 1, 2, 3)


def test_a_module_becomes_a_file_that_computes_what_it_does_in_eval_mode(tmp_path: Path) -> None:
    network = Net().train()
    network.body[1].eval()

    report = export_model(network, example=CLIP, preprocess="i3d", path=tmp_path / "m.onnx", labels=NAMES)

    modes = {name: part.training for name, part in network.named_modules()}
    assert [name for name, training in modes.items() if not training] == ["body.1"]
    model = load_model(tmp_path / "m.onnx", "cpu")
    with torch.inference_mode():
        expected = network.eval()(normalised(frames()))
    ours = open_session(tmp_path / "m.onnx", "cpu").run(frames())
    np.testing.assert_allclose(ours.logits, expected, atol=1e-6)
    assert model.spec.labels == tuple(NAMES)
    assert (model.spec.architecture, model.spec.checkpoint_name) == ("Net", "Net")
    assert dict(model.spec.versions)["torch"] == torch.__version__
    assert report.parity.reference.startswith(f"PyTorch {torch.__version__} eager, and its graph in ONNX Runtime")
    assert max(report.parity.logits_rel, report.parity.features_rel, report.parity.completeness) < 1e-5


def test_probabilities_of_one_clip_at_a_time_are_taken_back_to_logits_of_any_number(tmp_path: Path) -> None:
    network = Probabilities()

    report = export_model(network, example=CLIP, preprocess=Pixels(Norm.I3D), path=tmp_path / "m.onnx")

    with torch.inference_mode():
        expected = network.eval().logits(normalised(frames()))
    ours = open_session(tmp_path / "m.onnx", "cpu").run(frames())
    np.testing.assert_allclose(ours.logits, expected, atol=1e-6)
    assert "Softmax at the end is left out" in report.table()
    assert "written for one clip at a time" in report.table()


@pytest.mark.parametrize("kind", [Net, Probabilities])
def test_a_graph_that_is_not_the_modules_is_refused(
    kind: type[Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slightly_wrong(network: nn.Module, *arguments: Any, **more: Any) -> onnx.ModelProto:
        bias = network.module.head.bias
        with torch.no_grad():
            bias[0] += 0.01
            try:
                return plain_classifier(network, *arguments, **more)
            finally:
                bias[0] -= 0.01

    monkeypatch.setattr(modules, "plain_classifier", slightly_wrong)
    (tmp_path / "m.onnx").write_text("the old file")

    with pytest.raises(ParityError, match=r"something else than PyTorch .* eager: output_0 differs by \d"):
        export_model(kind(), example=CLIP, preprocess="i3d", path=tmp_path / "m.onnx")

    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old file"]


def test_the_logits_of_the_report_are_the_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is too small to be refused is on record all the same."""
    monkeypatch.setattr(
        Eager,
        "checked",
        lambda self, inputs, _: {name: one * np.float32(1 + 5e-5) for name, one in self.run(inputs).items()},
    )

    report = export_model(Net(), example=CLIP, preprocess="i3d", path=tmp_path / "m.onnx")

    assert report.parity.logits_rel == pytest.approx(5e-5, rel=0.1)


class TwoPathways(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slow, self.fast = nn.Conv3d(3, 4, 3), nn.Conv3d(3, 2, 3)
        self.head = nn.Linear(6, K)

    def forward(self, clips: list[Tensor]) -> Tensor:
        pooled = [conv(clip).mean((2, 3, 4)) for conv, clip in zip((self.slow, self.fast), clips, strict=True)]
        return self.head(torch.cat(pooled, 1))


class ByFrame(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, K)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self.conv(frames).mean((2, 3))).view(-1, T, K).mean(1)


def captured(
    monkeypatch: pytest.MonkeyPatch, module: nn.Module, example: Any
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph of a module as it is handed on, and what is handed on with it."""
    calls: list[tuple[onnx.ModelProto, dict[str, Any]]] = []
    monkeypatch.setattr(modules, "export_graph", lambda graph, *_, **given: calls.append((graph, given)))
    export_model(module, example=example, preprocess="slowfast", path="m.onnx")
    return calls[0]


@pytest.mark.parametrize(
    ("module", "example", "batch"),
    [
        (TwoPathways(), [torch.zeros(1, 3, 4, 8, 8), torch.zeros(1, 3, 8, 8, 8)], 3),
        (ByFrame(), torch.zeros(T, 3, 8, 8), 3 * T),
    ],
)
def test_two_clips_and_frames_one_by_one_become_graphs_of_any_number(
    module: nn.Module, example: Any, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, given = captured(monkeypatch, module, example)

    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    shapes = [clip.shape[1:] for clip in (example if isinstance(example, list) else [example])]
    names = ["clip_0", "clip_1"] if len(shapes) == 2 else ["clip"]
    rng = np.random.default_rng(2)
    feeds = {n: rng.normal(size=(batch, *sides)).astype(np.float32) for n, sides in zip(names, shapes, strict=True)}
    (found,) = session.run(["output_0"], feeds)
    assert found.shape == (3, K)
    np.testing.assert_allclose(given["eager"].run(feeds)["output_0"], found, atol=1e-6)
    assert given["hints"].frames == (T if isinstance(module, ByFrame) else None)


class Fails(nn.Module):
    def forward(self, clip: Tensor) -> object:
        raise KeyError(f"what\nnot {clip.ndim}")


class Counts(nn.Module):
    def forward(self, clip: Tensor) -> object:
        return clip.argmax(1)


class Chance(Net):
    def forward(self, clip: Tensor) -> object:
        return self.logits(clip) if torch.rand(1) < 2 and clip.sum() > 0 else self.logits(-clip)


@pytest.mark.parametrize(
    ("module", "changed", "error", "message"),
    [
        (lambda clip: clip, {}, ExportError, r"the network is of function: expected a torch\.nn\.Module"),
        (
            Net(),
            {"example": torch.zeros(3, SIDE, SIDE)},
            ExportError,
            r"the example is not a clip: expected a tensor such",
        ),
        (Net(), {"example": []}, ExportError, r"the example is not a clip"),
        (Net(), {"example": "clip.mp4"}, ExportError, r"the example is not a clip"),
        (
            Net(),
            {"example": torch.zeros(1, 4, T, 8, 8)},
            ExportError,
            r"fails on the example, 1x4x4x8x8: Given groups=1",
        ),
        (Net().half(), {}, ExportError, r"weights in torch\.float16: expected float32"),
        (Net().to("meta"), {}, ExportError, r"the module is on meta: expected one device with memory"),
        (Fails(), {}, ExportError, r"fails on the example, 1x3x4x16x16: 'what"),
        (Counts(), {}, ExportError, r"returns no float tensor: expected logits"),
        (Chance(), {}, ExportError, r"could not export the network for 1x3x4x16x16 with opset 18: "),
        (Net(), {"preprocess": "kinetics"}, OptionError, r"there is no preset 'kinetics': choose among saliency-tubes"),
        (Net(), {"opset": 9}, ExportError, r"opset is 9: expected 18 to 23"),
        (Net(), {"path": "gone/m.onnx"}, OutputError, r"the folder .*gone does not exist"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_sentence(
    module: Any, changed: dict[str, Any], error: type[SaliencyTubesError], message: str, tmp_path: Path
) -> None:
    given = {"example": CLIP, "preprocess": "i3d", "path": "m.onnx"} | changed
    given["path"] = tmp_path / given["path"]

    with pytest.raises(error, match=message):
        export_model(module, **given)

    assert list(tmp_path.iterdir()) == []
