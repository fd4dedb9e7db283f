"""Tiny seeded networks of PyTorch, one for each way in which published video networks end.

Each is a backbone, a head and an end. The backbone's output is what a tube has to show, and the head is linear, so that
autograd says what each place contributes: the gradient of a logit times the features is exact. That is the oracle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from saliency_tubes import load_model
from saliency_tubes.activation import completeness_error
from saliency_tubes.session import open_session
from saliency_tubes.synthetic import synthetic_clip
from saliency_tubes_export.torch_graph import quiet
from torch import Tensor, nn

T, SIDE = 8, 32
C, K = 8, 5
ALPHA = 4  # fast frames for each slow one
BAR = 1e-4  # of what is compared, relative to its largest
t, side = T // 2, SIDE // 4  # of most features


class Network(nn.Module):
    """`end` of `head` of `backbone`; the head gives logits, (N, K), and the end what the network gives for them.

    Its weights are seeded, and its running statistics those of a network that has been trained.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, end: nn.Module | None = None, channel_axis: int = 1):
        super().__init__()
        self.backbone, self.head, self.end = backbone, head, end or nn.Identity()
        self.channel_axis = channel_axis
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.apply(_draw)
        self.eval()

    def forward(self, *clips: Tensor) -> Tensor:
        return self.end(self.head(*_volumes(self.backbone(*clips))))

    def evidence(self, *clips: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (K,) of one clip, and what each place contributes to them, (K, t, h, w)."""
        features = [volume.detach().requires_grad_() for volume in _volumes(self.backbone(*clips))]
        logits = self.head(*features).flatten()
        return logits.detach(), contributions(logits, features, self.channel_axis)


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)


class Spread(nn.Module):
    """A network whose inputs are spread out: `torch.export` wants the shapes of those in another form than of one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *clips: Tensor) -> Tensor:
        return self.network(*clips)


class Excited(nn.Module):
    """A block with squeeze and excitation, as X3D's: it pools, too, and is not the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(C, C, 3, padding=1, groups=C)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Conv3d(C, 4, 1), nn.ReLU(), nn.Conv3d(4, C, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x)
        return x + nn.functional.silu(made * self.gate(made))


class Frames(nn.Module):
    """A 2-D backbone of single frames, with TSM's shift along time: to (N*T, C, h, w)."""

    def __init__(self, taken: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.taken = taken  # from what the network is given to (N*T, 3, H, W)
        self.first = nn.Sequential(nn.Conv2d(3, C, 5, 4, 2, bias=False), nn.BatchNorm2d(C), nn.ReLU())
        self.second = nn.Conv2d(C, C, 3, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.first(self.taken(clip))
        return torch.relu(x + self.second(_shifted(x)))


class Pathways(nn.Module):
    """SlowFast's: few frames and more channels, every frame and few channels, and a lateral connection."""

    def __init__(self, slow_frames: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.slow_frames = slow_frames  # from the clip; None where they are an input of their own
        self.slow = nn.Sequential(nn.Conv3d(3, C, (1, 3, 3), (1, 4, 4), (0, 1, 1)), nn.ReLU())
        self.fast = nn.Sequential(nn.Conv3d(3, 4, 3, (1, 4, 4), 1), nn.BatchNorm3d(4), nn.ReLU())
        self.lateral = nn.Conv3d(4, 4, (5, 1, 1), (ALPHA, 1, 1), (2, 0, 0))
        self.fused = nn.Sequential(nn.Conv3d(C + 4, C, 1), nn.BatchNorm3d(C), nn.ReLU())

    def forward(self, *clips: Tensor) -> tuple[Tensor, Tensor]:
        slow = clips[0] if self.slow_frames is None else self.slow_frames(clips[0])
        fast = self.fast(clips[-1])
        return self.fused(torch.cat([self.slow(slow), self.lateral(fast)], dim=1)), fast


class Joined(nn.Module):
    """SlowFast's head: a pool for each pathway, their averages one behind the other, linear."""

    def __init__(self, slow_first: bool, window: int) -> None:
        super().__init__()
        self.slow_pool, self.fast_pool = (nn.AvgPool3d((steps, window, window), 1) for steps in (T // ALPHA, T))
        self.slow_first, self.fc = slow_first, nn.Linear(C + 4, K)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        pooled = [self.slow_pool(slow), self.fast_pool(fast)]
        joined = torch.cat(pooled if self.slow_first else pooled[::-1], dim=1)
        return self.fc(joined.permute(0, 2, 3, 4, 1)).mean((1, 2, 3))


class Tokens(nn.Module):
    """A video transformer of one block: (N, S, C) tokens of patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv3d(3, C, (2, 8, 8), (2, 8, 8))
        self.norm, self.query, self.last = nn.LayerNorm(C), nn.Linear(C, 3 * C), nn.LayerNorm(C)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.patches(clip).flatten(2).transpose(1, 2)
        q, k, v = self.query(self.norm(x)).chunk(3, dim=-1)
        return self.last(x + torch.softmax(q @ k.transpose(1, 2) / C**0.5, -1) @ v)


@dataclass(frozen=True)
class Entry:
    """A network of the gallery, and how it is exported.

    Attributes:
        network: takes clips of the form that `inputs` gives.
        shape: of one clip as it takes it, without N; NCTHW where nothing else is said.
        layout: the member of `InputLayout` to name; None where the graph says enough.
        fixed: whether the graph is for one clip.
        slow_input: whether the slow pathway's frames are an input of their own, before the others.
    """

    network: Network
    shape: tuple[int, ...] = (3, T, SIDE, SIDE)
    layout: str | None = None
    fixed: bool = False
    slow_input: bool = False

    def inputs(self, clips: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, T, H, W) as this network takes clips."""
        if self.slow_input:
            steps = torch.linspace(0, T - 1, T // ALPHA).long()
            return clips[:, :, steps], clips
        axes = {(T, SIDE, SIDE, 3): (0, 2, 3, 4, 1), (T, 3, SIDE, SIDE): (0, 2, 1, 3, 4)}.get(self.shape)
        if axes is not None:
            return (clips.permute(axes),)
        return (clips.transpose(1, 2).flatten(0, 1) if len(self.shape) == 3 else clips,)


def _draw(layer: nn.Module) -> None:
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
    if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
        nn.init.normal_(layer.running_mean, 0, 0.1)
        nn.init.uniform_(layer.running_var, 0.5, 2)


def _volumes(made: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A backbone's output, one tensor for each pathway."""
    return made if isinstance(made, tuple) else (made,)


def export(entry: Entry, path: Path, dynamo: bool) -> Path:
    """Write a network of the gallery as one of PyTorch's exporters writes it."""
    clips = entry.inputs(torch.zeros(1 if entry.fixed else 2, 3, T, SIDE, SIDE))
    return export_torch(entry.network, clips, path, dynamo, clips_of=None if entry.fixed else clips[0].shape[0] // 2)


def export_torch(
    network: nn.Module, clips: tuple[Tensor, ...], path: Path, dynamo: bool = True, clips_of: int | None = 1
) -> Path:
    """Write a network of any arguments with `torch.onnx.export`, for any number of clips.

    Args:
        network: takes the `clips` as its arguments.
        clips: two, as examples.
        path: the file.
        dynamo: whether the graph comes from `torch.export`, or, as files older than PyTorch 2.9 do, from TorchScript.
        clips_of: how much of the first axis is one clip; None for a graph of as many clips as the examples are.
    """
    batch = torch.export.Dim("clips")
    axis = {0: batch if clips_of == 1 else clips_of * batch} if clips_of else {}
    given = {"dynamic_shapes": (tuple(axis for _ in clips),), "external_data": False, "verbose": False}
    if not dynamo:
        names = [f"input_{i}" for i in range(len(clips))]
        given = {"input_names": names, "dynamic_axes": {name: dict.fromkeys(axis, "N") for name in names}}
    with quiet():
        torch.onnx.export(Spread(network).eval(), clips, str(path), dynamo=dynamo, **given)
    return path


def contributions(logits: Tensor, features: Sequence[Tensor], channel_axis: int = 1) -> Tensor:
    """What each place of the features adds to each logit of one clip, by autograd: gradient times features.

    Args:
        logits: (K,).
        features: one tensor for each pathway, (1, C, t, h, w) or (t, C, h, w), or with C where `channel_axis` says.
        channel_axis: of the features.

    Returns:
        (K, t, h, w): a slow pathway's steps are shared out over the fast ones they last for.
    """
    places = []
    for logit in logits:
        gradients = torch.autograd.grad(logit, features, retain_graph=True)
        parts = [
            (volume * gradient).detach().sum(channel_axis).flatten(0, -3)
            for volume, gradient in zip(features, gradients, strict=True)
        ]
        steps = max(map(len, parts))
        places.append(sum(part.repeat_interleave(steps // len(part), 0) * len(part) / steps for part in parts))
    return torch.stack(places)


def assert_exact(tubes: Path, frames: NDArray[np.uint8], logits: Tensor, places: Tensor) -> None:
    """The maps of all classes are what each place contributes, and add up to the logits.

    Args:
        tubes: the exported file.
        frames: (T, H, W, 3) uint8 RGB.
        logits: (K,), what the network gives for them.
        places: (K, t, h, w), what each place contributes.
    """
    scale, largest = float(logits.abs().max()), float(places.abs().max())
    model = load_model(tubes, "cpu")
    explanation = model.explain(frames, range(len(logits)))
    np.testing.assert_allclose(explanation.logits, logits.numpy(), rtol=0, atol=BAR * scale)
    maps = np.stack([tube.map for tube in explanation.tubes])
    assert maps.shape == places.shape
    np.testing.assert_allclose(maps / maps[0].size, places.numpy(), rtol=0, atol=BAR * largest)

    two = np.stack([synthetic_clip(frames.shape, 9), frames])  # a batch, too
    ours, head = open_session(tubes, "cpu").run(two), model.spec.head
    for features, given in zip(ours.features, ours.logits, strict=True):
        found = head.maps(features, np.arange(head.num_classes))
        assert completeness_error(found.maps, found.bias, given).max() <= BAR * np.abs(given).max()


def normalised(frames: NDArray[np.uint8]) -> Tensor:
    """(T, H, W, 3) uint8 -> (1, 3, T, H, W), as the preset `slowfast` says."""
    return torch.from_numpy(((frames / 255 - 0.45) / 0.225).astype(np.float32)).permute(3, 0, 1, 2)[None]


def _convolutions(last: nn.Module | None = None) -> nn.Module:
    """To (N, C, T/2, H/4, W/4); nothing of it is below zero, unless `last` is another than ReLU."""
    return nn.Sequential(
        nn.Conv3d(3, C, 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(C), nn.ReLU(),
        nn.Conv3d(C, C, 3, 2, 1), nn.BatchNorm3d(C), last or nn.ReLU(),
    )  # fmt: skip


def _mean(*axes: int) -> nn.Module:
    return Apply(lambda x: x.mean(axes))


def _one(*head: nn.Module, end: nn.Module | None = None) -> Network:
    return Network(_convolutions(), nn.Sequential(*head), end)


def _shifted(x: Tensor) -> Tensor:
    """A quarter of the channels from the next frame, a quarter from the last."""
    clip = x.reshape(-1, T, *x.shape[1:])
    nothing = torch.zeros_like(clip[:, :1])
    after, before = torch.cat([clip[:, 1:], nothing], 1), torch.cat([nothing, clip[:, :-1]], 1)
    return torch.cat([after[:, :, :2], before[:, :, 2:4], clip[:, :, 4:]], 2).flatten(0, 1)


def _x3d(*head: nn.Module, end: nn.Module | None = None) -> Network:
    last = nn.Sequential(nn.Conv3d(C, 16, 1, bias=False), nn.BatchNorm3d(16), nn.ReLU())
    return Network(nn.Sequential(_convolutions(), Excited(), last), nn.Sequential(*head), end)


def _slowfast(slow_frames: Callable[[Tensor], Tensor] | None, slow_first: bool = True, window: int = side) -> Network:
    return Network(Pathways(slow_frames), Joined(slow_first, window))


def _every(clip: Tensor) -> Tensor:
    return clip[:, :, ::ALPHA]


def _resized(clip: Tensor) -> Tensor:
    return nn.functional.interpolate(clip, scale_factor=(1 / ALPHA, 1.0, 1.0), mode="nearest")


def _each(clip: Tensor) -> Tensor:
    return clip.flatten(0, 1)  # (N, T, 3, H, W)


def _each_of_volume(clip: Tensor) -> Tensor:
    return clip.transpose(1, 2).flatten(0, 1)  # (N, 3, T, H, W)


def _of_frames(taken: Callable[[Tensor], Tensor], *head: nn.Module, end: nn.Module | None = None) -> Network:
    return Network(Frames(taken), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head), end)


def _tsm(taken: Callable[[Tensor], Tensor]) -> Network:
    """Logits of each frame, then their mean."""
    return _of_frames(taken, nn.Dropout(), nn.Linear(C, K), nn.Unflatten(0, (-1, T)), _mean(1))


def _tsn(taken: Callable[[Tensor], Tensor]) -> Network:
    """The mean over frames, then logits."""
    return _of_frames(taken, nn.Unflatten(0, (-1, T)), _mean(1), nn.Dropout(), nn.Linear(C, K))


def _keras() -> Network:
    head = nn.Sequential(_mean(1, 2, 3), nn.Linear(C, K))
    first = Apply(lambda clip: clip.permute(0, 4, 1, 2, 3))
    last = Apply(lambda volume: volume.permute(0, 2, 3, 4, 1))
    return Network(nn.Sequential(first, _convolutions(), last, nn.ReLU()), head, nn.Softmax(-1), channel_axis=-1)


def _swin() -> Network:
    """A transformer that normalises before it pools: what is pooled is a volume, and what follows is linear."""
    volume = Apply(lambda tokens: tokens.reshape(-1, t, SIDE // 8, SIDE // 8, C).permute(0, 4, 1, 2, 3))
    return Network(
        nn.Sequential(Tokens(), volume), nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(C, K))
    )


def _whole() -> nn.Module:
    return nn.AvgPool3d((t, side, side), 1)


# PySlowFast and PyTorchVideo have places last before their linear layer, and average behind it.
_LAST = Apply(lambda x: x.permute(0, 2, 3, 4, 1))
_EACH_PLACE = nn.Sequential(nn.Softmax(4), _mean(1, 2, 3))
_FLAT = (nn.AdaptiveAvgPool3d(1), nn.Flatten())

ACCEPTED = {
    "linear": Entry(_one(*_FLAT, nn.Linear(C, K))),
    "linear, of one clip": Entry(_one(*_FLAT, nn.Linear(C, K)), fixed=True),
    "dropout, linear, softmax": Entry(_one(*_FLAT, nn.Dropout(), nn.Linear(C, K), end=nn.Softmax(1))),
    "linear without bias": Entry(_one(_mean(2, 3, 4), nn.Linear(C, K, bias=False))),
    "PySlowFast: softmax at the one place, mean": Entry(_one(_whole(), _LAST, nn.Linear(C, K), end=_EACH_PLACE)),
    "two linear layers": Entry(_one(*_FLAT, nn.Linear(C, 6), nn.Linear(6, K, bias=False))),
    "three linear layers, dropout": Entry(
        _one(*_FLAT, nn.Linear(C, 6), nn.Dropout(), nn.Linear(6, 7), nn.Linear(7, K), end=nn.LogSoftmax(1))
    ),
    "mean over space, then time": Entry(_one(_mean(-2, -1), _mean(-1), nn.Linear(C, K))),
    "logits at each time, mean": Entry(
        _one(_mean(-2, -1), Apply(lambda x: x.transpose(1, 2)), nn.Linear(C, K), _mean(1))
    ),
    "convolution behind the pool": Entry(_one(_whole(), nn.Dropout(), nn.Conv3d(C, K, 1), nn.Flatten())),
    "convolution before the pool": Entry(_one(nn.Conv3d(C, K, 1), *_FLAT)),
    "linear at each place, mean": Entry(_one(_LAST, nn.Linear(C, K), _mean(1, 2, 3))),
    "I3D": Entry(
        _one(nn.AvgPool3d((2, side, side), 1), nn.Dropout(), nn.Conv3d(C, K, 1), Apply(lambda x: x[..., 0, 0].mean(2)))
    ),
    "I3D, squeezed": Entry(
        _one(
            nn.AvgPool3d((2, side, side), 1),
            nn.Conv3d(C, K, 1),
            Apply(lambda x: x.squeeze(3).squeeze(3)),
            _mean(2),
            end=nn.Softmax(1),
        )
    ),
    "S3D": Entry(_one(nn.AvgPool3d((2, 7, 7), 1), nn.Dropout(), nn.Conv3d(C, K, 1), _mean(2, 3, 4))),
    "windows on a larger map, linear at each, mean": Entry(
        _one(nn.AvgPool3d((t, 7, 7), 1), _LAST, nn.Linear(C, K), _mean(1, 2, 3))
    ),
    "windows, mean, linear": Entry(_one(nn.AvgPool3d((1, 3, 3), 1), _mean(2, 3, 4), nn.Linear(C, K))),
    "one window, a border left out": Entry(_one(nn.AvgPool3d((t, 7, 7)), nn.Flatten(), nn.Linear(C, K))),
    "windows, a border left out, mean": Entry(_one(nn.AvgPool3d((2, 3, 3)), *_FLAT, nn.Linear(C, K))),
    "X3D": Entry(_x3d(*_FLAT, nn.Linear(16, 12, bias=False), nn.ReLU(), nn.Dropout(), nn.Linear(12, K))),
    "X3D, biased": Entry(_x3d(*_FLAT, nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, K))),
    "X3D of PySlowFast": Entry(
        _x3d(_whole(), nn.Conv3d(16, 12, 1, bias=False), nn.ReLU(), _LAST, nn.Linear(12, K), end=_EACH_PLACE)
    ),
    "X3D, one window, a border left out": Entry(
        _x3d(nn.AvgPool3d((t, 7, 7)), nn.Conv3d(16, 12, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(12, K))
    ),
    "SlowFast of MMAction2, slow first": Entry(_slowfast(_resized)),
    "SlowFast of MMAction2, fast first": Entry(_slowfast(_resized, slow_first=False)),
    "SlowFast, frames sliced, fast first": Entry(_slowfast(_every, slow_first=False)),
    "SlowFast, windows on a larger map": Entry(_slowfast(_every, window=7)),
    "SlowFast, two inputs, slow first": Entry(_slowfast(None), slow_input=True),
    "SlowFast, two inputs, fast first": Entry(_slowfast(None, slow_first=False), slow_input=True),
    "TSM": Entry(_tsm(_each), (T, 3, SIDE, SIDE)),
    "TSM, channels first": Entry(_tsm(_each_of_volume)),
    "TSM of one clip": Entry(_tsm(_each), (T, 3, SIDE, SIDE), fixed=True),
    "TSM, frames": Entry(_tsm(lambda frames: frames), (3, SIDE, SIDE), "FRAMES"),
    "TSM, frames of one clip": Entry(_tsm(lambda frames: frames), (3, SIDE, SIDE), "FRAMES", fixed=True),
    "TSN": Entry(_tsn(_each), (T, 3, SIDE, SIDE)),
    "TSN, frames": Entry(_tsn(lambda frames: frames), (3, SIDE, SIDE), "FRAMES"),
    "Keras": Entry(_keras(), (T, SIDE, SIDE, 3)),
    "Swin3D": Entry(_swin()),
}

_C3D = (nn.MaxPool3d((2, 4, 4)), nn.Flatten(), nn.Linear(C * 2 * 2 * 2, 16), nn.ReLU(), nn.Linear(16, K))
_CONVNEXT = (*_FLAT, nn.LayerNorm(C), nn.Linear(C, K))
_MAX = (nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(C, K))
_PLACES = (nn.AvgPool3d((t, 7, 7), 1), _LAST, nn.Linear(C, K))
_FLAT_PLACES = (nn.AvgPool3d((2, 2, 2)), nn.Flatten(), nn.Linear(C * 2 * 4 * 4, K))

_PLACE_BY_PLACE = "no (global )?average pooling|averaged evenly|weights of (its|their) own"

# By what, in the refusal, says why.
REFUSED = {
    "C3D": (Entry(_one(*_C3D)), _PLACE_BY_PLACE),
    "linear of all places": (Entry(_one(nn.Flatten(), nn.Linear(C * t * side * side, K))), _PLACE_BY_PLACE),
    "linear of all windows": (Entry(_one(*_FLAT_PLACES)), _PLACE_BY_PLACE),
    "LayerNorm behind the pool": (Entry(_one(*_CONVNEXT)), "LayerNormalization"),
    "transformer, first token": (
        Entry(Network(Tokens(), nn.Sequential(Apply(lambda x: x[:, 0]), nn.Linear(C, K)), channel_axis=-1)),
        "LayerNormalization",
    ),
    "maximum over places": (Entry(_one(*_MAX)), "Max"),
    "softmax at several places, mean": (Entry(_one(*_PLACES, end=_EACH_PLACE)), "Softmax"),
    "sigmoid": (Entry(_one(*_FLAT, nn.Linear(C, K), end=nn.Sigmoid())), "Sigmoid.*--logits"),
    "two hidden layers": (
        Entry(_one(*_FLAT, nn.Linear(C, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, K))), "Relu",
    ),
}  # fmt: skip
