"""Networks as large as those of a family, and ending as they do, with fresh weights: what is measured needs no others.

Their bodies are short versions: blocks of the family's kind, widths and strides, but fewer of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from saliency_tubes_export.torch_graph import quiet
from torch import Tensor, nn

_CLASSES = 400
_ALPHA = 4  # frames of the fast pathway for each of the slow one
_SEED = 20190922
_OPSET = 18
Sides = tuple[int, int, int]


@dataclass(frozen=True)
class Family:
    """A family to measure.

    Attributes:
        make: builds a network.
        frames: T.
        size: H and W.
    """

    make: Callable[[], nn.Module]
    frames: int
    size: int


class Block(nn.Module):
    """A residual block: `branch`, and a shortcut that a convolution brings to its shape."""

    def __init__(self, width_in: int, width: int, stride: Sides, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        same = stride == (1, 1, 1) and width_in == width
        self.shortcut = nn.Identity() if same else _convolution(width_in, width, (1, 1, 1), stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, t, h, w) -> (N, width, t', h', w'), not below zero."""
        made: Tensor = self.branch(x) + self.shortcut(x)
        return torch.relu(made)


class Excitation(nn.Module):
    """Squeeze and excitation: each channel times a gate that all channels' averages open."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = max(8, width // 16)
        self.gate = nn.Sequential(nn.Conv3d(width, squeezed, 1), nn.ReLU(), nn.Conv3d(squeezed, width, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, t, h, w) -> the same shape."""
        gate: Tensor = self.gate(x.mean((2, 3, 4), keepdim=True))
        return x * gate


class SlowFast(nn.Module):
    """Two pathways, with lateral convolutions from the fast to the slow one, joined behind their averages."""

    def __init__(self) -> None:
        super().__init__()
        widths, fast = (256, 512, 1024, 2048), (32, 64, 128, 256)
        self.slow_stem, self.fast_stem = _stem(64, 1), _stem(8, 5)
        self.slow, self.fast, self.lateral = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        slow_in, fast_in = 64, 8
        for index, (slow_width, fast_width) in enumerate(zip(widths, fast, strict=True)):
            stride = (1, 1, 1) if index == 0 else (1, 2, 2)
            self.lateral.append(_convolution(fast_in, 2 * fast_in, (5, 1, 1), (_ALPHA, 1, 1)))
            self.slow.append(_bottleneck(slow_in + 2 * fast_in, slow_width, stride, 3 if index > 1 else 1))
            self.fast.append(_bottleneck(fast_in, fast_width, stride, 3))
            slow_in, fast_in = slow_width, fast_width
        self.classifier = nn.Linear(slow_in + fast_in, _CLASSES)

    def forward(self, clip: Tensor) -> Tensor:
        """(N, 3, T, H, W) -> (N, K)."""
        slow, fast = self.slow_stem(clip[:, :, ::_ALPHA]), self.fast_stem(clip)
        for lateral, slow_stage, fast_stage in zip(self.lateral, self.slow, self.fast, strict=True):
            slow, fast = slow_stage(torch.cat([slow, torch.relu(lateral(fast))], 1)), fast_stage(fast)
        logits: Tensor = self.classifier(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))
        return logits


def write_graph(family: Family, path: Path) -> Path:
    """Write a network of a family as PyTorch exports it."""
    torch.manual_seed(_SEED)
    example = torch.zeros(2, 3, family.frames, family.size, family.size)
    with quiet():
        torch.onnx.export(
            family.make().eval(),
            (example,),
            str(path),
            opset_version=_OPSET,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path


def _r3d() -> nn.Module:
    """R3D-18: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018."""
    blocks: list[nn.Module] = [_convolution(3, 64, (3, 7, 7), (1, 2, 2)), nn.ReLU()]
    width_in = 64
    for width in (64, 128, 256, 512):
        for index in range(2):
            stride = (2, 2, 2) if index == 0 and width > 64 else (1, 1, 1)
            first, second = _convolution(width_in, width, (3, 3, 3), stride), _convolution(width, width, (3, 3, 3))
            blocks.append(Block(width_in, width, stride, first, nn.ReLU(), second))
            width_in = width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(width_in, _CLASSES))


def _x3d() -> nn.Module:
    """X3D-S, with half of its blocks: Feichtenhofer, "X3D", CVPR 2020."""
    blocks: list[nn.Module] = [_convolution(3, 24, (1, 3, 3), (1, 2, 2)), nn.ReLU()]
    width_in = 24
    for width, count in ((24, 2), (48, 3), (96, 5), (192, 3)):
        for index in range(count):
            stride, inner = (1, 2, 2) if index == 0 else (1, 1, 1), width * 9 // 4
            last = _convolution(inner, width, (1, 1, 1))
            spread = _convolution(inner, inner, (3, 3, 3), stride, groups=inner)
            gate = [Excitation(inner)] if index % 2 == 0 else []
            first = _convolution(width_in, inner, (1, 1, 1))
            blocks.append(Block(width_in, width, stride, first, nn.ReLU(), spread, *gate, nn.SiLU(), last))
            width_in = width
    end = _convolution(width_in, 432, (1, 1, 1))
    hidden = nn.Linear(432, 2048, bias=False)
    head = (nn.AdaptiveAvgPool3d(1), nn.Flatten(), hidden, nn.ReLU(), nn.Linear(2048, _CLASSES))
    return nn.Sequential(*blocks, end, nn.ReLU(), *head)


def _stem(width: int, steps: int) -> nn.Module:
    pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
    return nn.Sequential(_convolution(3, width, (steps, 7, 7), (1, 2, 2)), nn.ReLU(), pool)


def _bottleneck(width_in: int, width: int, stride: Sides, steps: int) -> Block:
    inner = width // 4
    first = _convolution(width_in, inner, (steps, 1, 1))
    second = _convolution(inner, inner, (1, 3, 3), stride)
    return Block(width_in, width, stride, first, nn.ReLU(), second, nn.ReLU(), _convolution(inner, width, (1, 1, 1)))


def _convolution(width_in: int, width: int, kernel: Sides, stride: Sides = (1, 1, 1), groups: int = 1) -> nn.Module:
    t, h, w = (side // 2 for side in kernel)
    conv = nn.Conv3d(width_in, width, kernel, stride, (t, h, w), groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(width))


FAMILIES = {
    "R3D-18": Family(_r3d, 16, 112),
    "SlowFast": Family(SlowFast, 32, 224),
    "X3D-S": Family(_x3d, 13, 160),
}
