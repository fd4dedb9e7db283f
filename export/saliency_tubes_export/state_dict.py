"""Weights of PyTorch from a file: weights only, whatever wrapper they come in, and nothing silently left out."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from saliency_tubes.errors import CheckpointError, first_line
from torch import Tensor, nn

_WRAPPERS = ("state_dict", "model_state_dict", "model_state")  # Lightning and MMEngine, tutorials, PySlowFast
_PREFIXES = ("module.", "_orig_mod.")
_COUNTERS = "num_batches_tracked"
_SHOWN = 6


def read_weights(path: Path, what: str) -> dict[str, Tensor]:
    """Read a state dict, without what training frameworks put around it and in front of its keys.

    Args:
        path: ``.safetensors``, or anything that `torch.save` wrote. It is loaded weights-only: no code in it is run.
        what: what messages say is expected, such as ``"an MFNet-3D checkpoint"``.

    Raises:
        CheckpointError: unreadable, unsafe, or without weights.
    """
    expected = f"expected {what}: a state dict, bare or under 'state_dict'"
    return _plain_keys(_tensors(path, _read(path, expected), expected))


def load_strictly(path: Path, network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Put weights into a network that has to have exactly these; counters of batches may be missing.

    Args:
        path: where they are from, for messages.
        network: what they are for.
        state: the weights, in any precision.
        name: of the network, for messages.

    Raises:
        CheckpointError: there are too many, too few, others, or some are not finite.
    """
    expected = network.state_dict()
    counters = {key for key in expected if key.endswith(_COUNTERS)}
    missing = sorted(expected.keys() - state.keys() - counters)
    unexpected = sorted(key for key in state.keys() - expected.keys() if not key.endswith(_COUNTERS))
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected.keys() & state.keys() - counters
        if state[key].shape != expected[key].shape
    ]
    found = (("lacks", missing), ("has unexpected", unexpected), ("has wrong shapes in", sorted(shapes)))
    problems = [f"{problem} {len(keys)} of {name}'s keys: {listed(keys)}" for problem, keys in found if keys]
    if problems:
        raise CheckpointError(f"{path} {'; it '.join(problems)}")
    for key in sorted(expected.keys() - counters):
        if not torch.isfinite(state[key]).all():
            raise CheckpointError(
                f"{path}: {key} holds NaN or infinity. The training diverged, or the file is damaged: use an earlier "
                "checkpoint"
            )
    weights = {key: value.to(expected[key].dtype) for key, value in state.items() if key in expected.keys() - counters}
    network.load_state_dict(weights, strict=False)  # only the counters are left, and inference does not read them


def digest(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(keys: list[str]) -> str:
    """The first of many keys."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _read(path: Path, expected: str) -> object:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"the checkpoint {path} {what}: {expected}")
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
        raise CheckpointError(f"{path} is not a checkpoint that PyTorch can read safely: {expected}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({first_line(error):.120}): {expected}. Is the file complete?"
        ) from error


def _numpy_scalars() -> list[Any]:
    """What a NumPy number is made of: training scripts store accuracies so, and it holds no code."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")]
    return [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *kinds]


def _tensors(path: Path, loaded: object, expected: str) -> dict[str, Tensor]:
    state = loaded
    if isinstance(loaded, Mapping):
        state = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{path} holds {type(state).__name__}, not weights: {expected}")
    strange = [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise CheckpointError(f"{path} holds entries that are no weights ({listed(strange)}): {expected}")
    return dict(state)


def _plain_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what DataParallel and torch.compile put in front of every key."""
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
