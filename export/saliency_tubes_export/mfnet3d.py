"""MFNet-3D, the reference network.

Chen, Kalantidis, Li, Yan, Feng, "Multi-Fiber Networks for Video Recognition", ECCV 2018 (arXiv 1807.11195). The module
names are the file format: they match the keys of published checkpoints.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

ARCHITECTURE = "mfnet-3d"  # what model files call it
GROUPS = 16
# Channels, number of units, and the stride of the first unit of conv2..conv5.
_STAGES: tuple[tuple[int, int, tuple[int, int, int]], ...] = (
    (96, 3, (2, 1, 1)),
    (192, 4, (1, 2, 2)),
    (384, 6, (1, 2, 2)),
    (768, 3, (1, 2, 2)),
)
FEATURE_CHANNELS = _STAGES[-1][0]
_STEM_CHANNELS = 16

_Triple = tuple[int, int, int]


class PreActivation(nn.Sequential):
    """Batch normalisation, ReLU, convolution: in that order, without bias."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: _Triple = (1, 1, 1),
        stride: _Triple = (1, 1, 1),
        groups: int = 1,
    ) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        conv = nn.Conv3d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
        super().__init__(OrderedDict(bn=nn.BatchNorm3d(channels_in), relu=nn.ReLU(), conv=conv))


class MultiFiberUnit(nn.Module):
    """A residual unit of `GROUPS` parallel fibers, with a multiplexer (conv_i1, conv_i2) that lets them exchange.

    The first unit of a stage changes channels and resolution: its second convolution is a full 1x1x1 one, and its
    shortcut a strided 1x1x1 one (conv_w1).
    """

    def __init__(self, channels_in: int, channels: int, stride: _Triple, first: bool) -> None:
        super().__init__()
        self.conv_i1 = PreActivation(channels_in, channels // 4)
        self.conv_i2 = PreActivation(channels // 4, channels_in)
        self.conv_m1 = PreActivation(channels_in, channels, (3, 3, 3), stride, GROUPS)
        if first:
            self.conv_m2 = PreActivation(channels, channels)
        else:
            self.conv_m2 = PreActivation(channels, channels, (1, 3, 3), groups=GROUPS)
        self.conv_w1 = PreActivation(channels_in, channels, stride=stride) if first else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, t, h, w) -> (N, C, t', h', w')."""
        mixed = x + self.conv_i2(self.conv_i1(x))
        shortcut = x if self.conv_w1 is None else self.conv_w1(x)
        out: Tensor = self.conv_m2(self.conv_m1(mixed)) + shortcut
        return out


class MFNet3D(nn.Module):
    """MFNet-3D for `num_classes` classes, with PyTorch's default initialisation.

    `features` gives what is averaged; `forward` averages it over the whole map, whatever the clip's size.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        stem = nn.Conv3d(3, _STEM_CHANNELS, (3, 5, 5), (1, 2, 2), (1, 2, 2), bias=False)
        self.conv1 = nn.Sequential(OrderedDict(conv=stem, bn=nn.BatchNorm3d(_STEM_CHANNELS), relu=nn.ReLU()))
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        channels_in = _STEM_CHANNELS
        for number, (channels, units, stride) in enumerate(_STAGES, start=2):
            stage = OrderedDict[str, nn.Module]()
            for unit in range(1, units + 1):
                first = unit == 1
                stage[f"B{unit:02d}"] = MultiFiberUnit(channels_in, channels, stride if first else (1, 1, 1), first)
                channels_in = channels
            self.add_module(f"conv{number}", nn.Sequential(stage))
        self.tail = nn.Sequential(OrderedDict(bn=nn.BatchNorm3d(channels_in), relu=nn.ReLU()))
        self.classifier = nn.Linear(channels_in, num_classes)

    def features(self, clip: Tensor) -> Tensor:
        """(N, 3, T, H, W) float32, normalised RGB -> (N, 768, T/2, H/32, W/32) float32, not negative."""
        x = self.maxpool(self.conv1(clip))
        for number in range(2, 2 + len(_STAGES)):
            x = self.get_submodule(f"conv{number}")(x)
        out: Tensor = self.tail(x)
        return out

    def forward(self, clip: Tensor) -> Tensor:
        """(N, 3, T, H, W) float32, normalised RGB -> (N, K) float32 logits."""
        logits: Tensor = self.classifier(self.features(clip).mean(dim=(2, 3, 4)))
        return logits


def fresh(num_classes: int, seed: int = 0) -> MFNet3D:
    """An untrained network whose features are alive: seeded weights, batch norms calibrated on seeded noise.

    Without the calibration the activations of an untrained network shrink from unit to unit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MFNet3D(num_classes)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = None  # a plain average over what is seen
        with torch.no_grad():
            network.train()(torch.randn(2, 3, 8, 64, 64))
    return network.eval()


def as_published(network: MFNet3D) -> MFNet3D:
    """The network in evaluation mode, its ReLUs in place as in the published code: that saves time and memory."""
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    return network.eval()
