"""Reading a checkpoint: weights only, whatever wrapper it comes in, and nothing silently left out."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from saliency_tubes.errors import CheckpointError, first_line
from torch import Tensor

from .mfnet3d import FEATURE_CHANNELS, MFNet3D

_PREFIXES = ("module.", "_orig_mod.")
_HEAD = re.compile(r"(classifier|classifier\d+|classifier_list\.classifier_list\.\d+)\.(weight|bias)")
_IRRELEVANT = ("coord_layers.",)  # of multi-task forks: they predict coordinates, and say nothing about classes
_SHOWN = 6
_WHAT = "expected an MFNet-3D checkpoint: a state dict, bare or under 'state_dict'"


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
    state = _plain_keys(_tensors(path, _read(path)))
    _refuse_other_networks(path, state)
    state = _choose_head(path, state, head)
    network = MFNet3D(len(state["classifier.weight"]))
    _load_strictly(path, network, state)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(network.eval(), path.name, digest)


def _read(path: Path) -> object:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"the checkpoint {path} {what}: {_WHAT}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's on odd pickles: they fail below, or are fine
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"(?:GLOBAL|global|class) ['\"`]?([\w.]+)", str(error))
        if refused and "." in refused[1]:
            raise CheckpointError(
                f"{path} is refused: besides weights it holds Python objects ({refused[1]}), and loading those can run "
                "code; none was run. Where you trust the file, load it there and save the weights alone: "
                "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW_FILE)"
            ) from error
        raise CheckpointError(f"{path} is not a checkpoint that PyTorch can read safely: {_WHAT}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({first_line(error):.120}): {_WHAT}. Is the file complete?"
        ) from error


def _numpy_scalars() -> list[Any]:
    """What a NumPy number is made of: training scripts store accuracies so, and it holds no code."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")]
    return [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *kinds]


def _tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{path} holds {type(state).__name__}, not weights: {_WHAT}")
    strange = [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise CheckpointError(f"{path} holds entries that are no weights ({_listed(strange)}): {_WHAT}")
    return dict(state)


def _plain_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what DataParallel and torch.compile put in front of every key."""
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


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
            f"found {_listed(list(state))}"
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


def _load_strictly(path: Path, network: MFNet3D, state: Mapping[str, Tensor]) -> None:
    expected = network.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - state.keys() - counters)
    unexpected = sorted(key for key in state.keys() - expected.keys() if not key.endswith("num_batches_tracked"))
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected.keys() & state.keys() - counters
        if state[key].shape != expected[key].shape
    ]
    for problem, keys in (("lacks", missing), ("has unexpected", unexpected), ("has wrong shapes in", sorted(shapes))):
        if keys:
            raise CheckpointError(f"{path} {problem} {len(keys)} of MFNet-3D's keys: {_listed(keys)}")
    for key in sorted(expected.keys() - counters):
        if not torch.isfinite(state[key]).all():
            raise CheckpointError(
                f"{path}: {key} holds NaN or infinity. The training diverged, or the file is damaged: use an earlier "
                "checkpoint"
            )
    weights = {key: value.to(torch.float32) for key, value in state.items() if key in expected.keys() - counters}
    network.load_state_dict(weights, strict=False)  # only the counters are left, and inference does not read them


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
