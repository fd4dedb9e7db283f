"""Networks that others have published as packages, with fresh weights: `tubes export`, run, parity, completeness."""

import signal
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from endings import BAR, assert_exact, contributions, export_torch, normalised  # noqa: E402
from saliency_tubes import cli, load_model  # noqa: E402
from saliency_tubes.synthetic import synthetic_clip  # noqa: E402
from torch import Tensor, nn  # noqa: E402

K = 6
MISSING = "needs the extra 'gallery': pip install -c constraints.txt -e '.[gallery]'"

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),  # PyTorchVideo's Swish
]


@dataclass(frozen=True)
class Package:
    """A network of a package.

    Attributes:
        name: the package.
        make: builds it, given a function that imports its modules.
        clip: (T, side).
        pool: the layer that pools; what it is given are the features.
        logits: the layer that gives the logits.
        dynamo: which of PyTorch's exporters writes it.
        slow_frames: how many of the frames are its other input, before them; none where it has one input.
    """

    name: str
    make: Callable[[Callable[[str], types.ModuleType]], nn.Module]
    clip: tuple[int, int]
    pool: str
    logits: str = ""
    dynamo: bool = False
    slow_frames: int = 0


NETWORKS = {
    "X3D": Package(
        "pytorchvideo",
        lambda find: find("x3d").create_x3d(model_num_class=K, input_clip_length=4, input_crop_size=64),
        (4, 64), "blocks.5.pool.pool", "blocks.5.proj",
    ),
    "SlowFast": Package(
        "pytorchvideo",
        lambda find: find("slowfast").create_slowfast(
            model_depth=18, model_num_class=K, head_pool_kernel_sizes=((2, 2, 2), (8, 2, 2))
        ),
        (8, 96), "blocks.5", slow_frames=2,
    ),
    "CSN": Package(
        "pytorchvideo",
        lambda find: find("csn").create_csn(model_num_class=K, head_pool_kernel_size=(1, 2, 2)),
        (8, 64), "blocks.5.pool", dynamo=True,
    ),
    "3D-ResNet": Package(
        "monai", lambda find: find("resnet").resnet10(n_input_channels=3, num_classes=K),
        (8, 64), "avgpool", dynamo=True,
    ),
    "3D-DenseNet": Package("monai", lambda find: find("densenet").DenseNet121(3, 3, K), (32, 64), "class_layers.pool"),
}  # fmt: skip


class Listed(nn.Module):
    """A network that takes its inputs as a list, as PyTorchVideo's networks of pathways do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *clips: Tensor) -> Tensor:
        return self.network(list(clips))


def fresh(package: Package, patch: pytest.MonkeyPatch) -> nn.Module:
    """The network with seeded weights, in eval mode."""
    pytest.importorskip(package.name, reason=MISSING)
    torch.manual_seed(5)
    with patch.context() as here:
        if package.name == "pytorchvideo" and find_spec("torchvision") is None:
            # PyTorchVideo imports one name of torchvision, for heads that detect; these have none.
            operators = types.ModuleType("torchvision.ops")
            operators.RoIAlign = None  # type: ignore[attr-defined]
            here.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
            here.setitem(sys.modules, "torchvision.ops", operators)
        where = {"pytorchvideo": "pytorchvideo.models", "monai": "monai.networks.nets"}[package.name]
        return package.make(lambda module: import_module(f"{where}.{module}")).eval()


def evidence(network: nn.Module, package: Package, clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The logits (K,), and what each place of what is pooled contributes to them, (K, t, h, w)."""
    features: list[Tensor] = []
    logits: list[Tensor] = []
    pool, last = network.get_submodule(package.pool), network.get_submodule(package.logits)
    hooks = [
        pool.register_forward_pre_hook(
            lambda _, given: features.extend(given[0] if isinstance(given[0], list) else given)
        ),
        last.register_forward_hook(lambda _, __, made: logits.append(made.flatten())),
    ]
    network(list(clips) if package.slow_frames else clips[0])
    for hook in hooks:
        hook.remove()
    return logits[0].detach(), contributions(logits[0], features)


def inputs(package: Package, clips: Tensor) -> tuple[Tensor, ...]:
    if not package.slow_frames:
        return (clips,)
    return clips[:, :, torch.linspace(0, clips.shape[2] - 1, package.slow_frames).long()], clips


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_others_is_explained_exactly(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = NETWORKS[name]
    network = fresh(package, monkeypatch)
    frames, side = package.clip
    clips = inputs(package, torch.zeros(2, 3, frames, side, side))
    export_torch(Listed(network) if package.slow_frames else network, clips, tmp_path / "net.onnx", package.dynamo)
    tubes = tmp_path / "tubes.onnx"
    command = ["tubes", "export", str(tmp_path / "net.onnx"), "--preset", "slowfast", "--output", str(tubes)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    with pytest.raises(SystemExit) as stopped:
        cli.main()

    assert not stopped.value.code, capsys.readouterr().err
    parity = load_model(tubes, "cpu").spec.parity
    assert max(parity.logits_rel, parity.features_rel, parity.completeness) <= BAR
    clip = synthetic_clip((frames, side, side, 3), 3)
    assert_exact(tubes, clip, *evidence(network, package, inputs(package, normalised(clip))))
