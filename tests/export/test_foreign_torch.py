"""Networks of PyTorch, exported by PyTorch itself and then by us."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from conftest import CLASSES, FRAMES, SIZE  # noqa: E402
from saliency_tubes import load_model  # noqa: E402
from saliency_tubes.choices import Layout, Norm  # noqa: E402
from saliency_tubes.presets import Pixels  # noqa: E402
from saliency_tubes.session import open_session  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from saliency_tubes_export import export_onnx  # noqa: E402
from saliency_tubes_export.checkpoint import load_checkpoint  # noqa: E402
from saliency_tubes_export.torch_graph import quiet  # noqa: E402
from torch import Tensor, nn  # noqa: E402

T, SIDE, K = 4, 32, 6


class R3D(nn.Module):
    """As torchvision's video ResNets end: AdaptiveAvgPool3d(1), flatten, Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 8, (3, 7, 7), (1, 2, 2), (1, 3, 3)), nn.BatchNorm3d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv3d(8, 8, 3, padding=1), nn.BatchNorm3d(8))
        self.pool, self.fc = nn.AdaptiveAvgPool3d(1), nn.Linear(8, K)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.relu(x + self.body(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.features(x)).flatten(1))


class ChannelsLast(R3D):
    """As Keras' Conv3D networks: (N, T, H, W, C), GlobalAveragePooling3D, Dense, softmax."""

    def forward(self, x: Tensor) -> Tensor:
        volume = self.features(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        pooled = torch.mean(torch.relu(volume), dim=(1, 2, 3))
        return torch.softmax(pooled @ self.fc.weight.T + self.fc.bias, dim=-1)


class ConvHead(R3D):
    """As I3D's, if its pooling took in everything: pool, dropout, 1x1x1 convolution, squeeze."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.AvgPool3d((T, SIDE // 2, SIDE // 2)), nn.Dropout(), nn.Conv3d(8, K, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)).squeeze(-1).squeeze(-1).squeeze(-1)


class TwoLayers(R3D):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 5)
        self.second = nn.Linear(5, K, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.features(x).mean(dim=(-2, -1)).mean(dim=-1)
        return self.second(self.first(pooled))


def exported(network: nn.Module, example: Tensor, path: Path, dynamic: bool = True) -> Path:
    sides = ({0: torch.export.Dim("N")},) if dynamic else None
    with quiet():
        torch.onnx.export(
            network, (example,), str(path), dynamic_shapes=sides, dynamo=True, external_data=False, verbose=False
        )
    return path


@pytest.mark.parametrize("kind", [R3D, ChannelsLast, ConvHead, TwoLayers])
@pytest.mark.parametrize("dynamic", [True, False])
def test_networks_of_pytorch_give_the_same_logits(kind: type[R3D], dynamic: bool, tmp_path: Path) -> None:
    torch.manual_seed(4)
    network = kind().eval()
    last = kind is ChannelsLast
    shape = (T, SIDE, SIDE, 3) if last else (3, T, SIDE, SIDE)
    exported(network, torch.zeros(2 if dynamic else 1, *shape), tmp_path / "net.onnx", dynamic)

    report = export_onnx(tmp_path / "net.onnx", tmp_path / "tubes.onnx", Pixels(Norm.SLOWFAST))

    assert max(report.parity.logits_rel, report.parity.features_rel, report.parity.completeness) < 1e-5
    frames = np.stack([synthetic_clip((T, SIDE, SIDE, 3), seed) for seed in (3, 4)])
    clips = torch.tensor((frames / 255 - 0.45) / 0.225, dtype=torch.float32)
    with torch.inference_mode():
        expected = network(clips if last else clips.permute(0, 4, 1, 2, 3))
        features = network.features(clips.permute(0, 4, 1, 2, 3))
    ours = open_session(tmp_path / "tubes.onnx", "cpu").run(frames)
    given = torch.softmax(torch.from_numpy(ours.logits), -1) if last else ours.logits
    np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(ours.features, features, atol=1e-5 * float(features.max()))

    explanation = load_model(tmp_path / "tubes.onnx", "cpu").explain(frames[0], range(K))
    for tube in explanation.tubes:
        total = tube.map.mean(dtype=np.float64) + explanation.spec.head.bias[tube.label]
        assert total == pytest.approx(explanation.logits[tube.label], abs=1e-4 * float(abs(explanation.logits).max()))


def test_mfnet_goes_the_same_way(checkpoint_path: Path, exported_model: Path, tmp_path: Path) -> None:
    network = load_checkpoint(checkpoint_path).network
    exported(network, torch.zeros(2, 3, FRAMES, SIZE, SIZE), tmp_path / "mfnet.onnx")

    export_onnx(tmp_path / "mfnet.onnx", tmp_path / "tubes.onnx", Pixels(Norm.SALIENCY_TUBES))

    ours, before = (load_model(path, "cpu") for path in (tmp_path / "tubes.onnx", exported_model))
    assert ours.spec.layout is before.spec.layout is Layout.BLOCKED
    np.testing.assert_array_equal(ours.spec.head.weight, before.spec.head.weight)
    operators = [
        [node.op_type for node in onnx.load(path).graph.node] for path in (tmp_path / "tubes.onnx", exported_model)
    ]
    assert operators[0] == operators[1]
    clip = synthetic_clip((FRAMES, SIZE, SIZE, 3), 2)
    one, other = (model.explain(clip, 3) for model in (ours, before))
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)
    np.testing.assert_allclose(one.tube.values, other.tube.values, atol=1e-4)
    assert ours.spec.num_classes == CLASSES
