"""A checkpoint of MFNet-3D: which of its heads, and that it is one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from saliency_tubes.errors import CheckpointError
from torch import Tensor

from .mfnet3d import FEATURE_CHANNELS, MFNet3D
from .state_dict import digest, listed, load_strictly, read_weights

_HEAD = re.compile(r"(classifier|classifier\d+|classifier_list\.classifier_list\.\d+)\.(weight|bias)")
_IRRELEVANT = ("coord_layers.",)  # of multi-task forks: they predict coordinates, and say nothing about classes
_WHAT = "an MFNet-3D checkpoint"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network with its weights, and which file they came from."""

    network: MFNet3D
    name: str
    sha256: str


def load_checkpoint(path: Path, head: str | None = None) -> Checkpoint:
    """Load MFNet-3D weights; the number of classes comes from the file.

    Args:
        path: ``.safetensors``, or anything that `torch.save` wrote. It is loaded weights-only: no code in it is run.
        head: which classifier of a multi-task checkpoint, for example ``"classifier_list.classifier_list.0"``; may be
            shortened to a suffix that is unique, such as ``"0"``.

    Raises:
        CheckpointError: unreadable, unsafe, of another network, incomplete, with several heads, or not finite.
    """
    state = read_weights(path, _WHAT)
    _refuse_other_networks(path, state)
    state = _choose_head(path, state, head)
    network = MFNet3D(len(state["classifier.weight"]))
    load_strictly(path, network, state, "MFNet-3D")
    return Checkpoint(network.eval(), path.name, digest(path))


def _refuse_other_networks(path: Path, state: Mapping[str, Tensor]) -> None:
    stem = state.get("conv1.conv.weight")
    if stem is not None and stem.ndim == 4:
        raise CheckpointError(
            f"{path} is the 2-D MFNet that was trained on ImageNet (its convolutions have 4 dimensions): a tube needs "
            "the 3-D network, trained on video"
        )
    if stem is None or not any(key.startswith("conv2.B01.conv_i1.") for key in state):
        raise CheckpointError(
            f"{path} is not an MFNet-3D: expected keys such as conv1.conv.weight and conv2.B01.conv_i1.bn.weight, "
            f"found {listed(list(state))}. Of another network, name what makes it with --arch"
        )


def _choose_head(path: Path, state: Mapping[str, Tensor], wanted: str | None) -> dict[str, Tensor]:
    """The state dict with the one wanted head as ``classifier``."""
    weights = {key.removesuffix(".weight"): value for key, value in state.items() if key.endswith(".weight")}
    heads = {name: weight for name, weight in weights.items() if _HEAD.fullmatch(f"{name}.weight")}
    listing = ", ".join(f"{name} ({len(weight)} classes)" for name, weight in heads.items() if weight.ndim)
    if not heads:
        raise CheckpointError(f"{path} has no classifier: expected classifier.weight among its keys")
    if wanted is None and len(heads) > 1:
        raise CheckpointError(f"{path} has several heads: choose one with --head. They are {listing}")
    matches = list(heads) if wanted is None else [n for n in heads if n == wanted or n.endswith(f".{wanted}")]
    if len(matches) != 1:
        raise CheckpointError(f"{path} has no single head {wanted!r}: choose one of {listing}")
    weight = heads[matches[0]]
    if weight.ndim != 2 or weight.shape[1] != FEATURE_CHANNELS or not len(weight):
        raise CheckpointError(
            f"{path}: {matches[0]}.weight has shape {tuple(weight.shape)}, expected (classes, {FEATURE_CHANNELS})"
        )
    kept = {key: value for key, value in state.items() if not _HEAD.fullmatch(key) and not key.startswith(_IRRELEVANT)}
    chosen = {part: state[f"{matches[0]}.{part}"] for part in ("weight", "bias") if f"{matches[0]}.{part}" in state}
    return kept | {f"classifier.{part}": value for part, value in chosen.items()}
