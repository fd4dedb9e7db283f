"""Keras models from files, on Keras' PyTorch backend, as modules of PyTorch. TensorFlow is not needed."""

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import torch
from saliency_tubes.choices import InputLayout, Layout
from saliency_tubes.errors import ExportError, OptionError, first_line
from saliency_tubes.presets import Pixels
from torch import Tensor, nn

from .foreign import GraphHints
from .keras_on_torch import keras
from .labels import Labels
from .modules import export_model
from .original import Origin
from .parity import ParityReport
from .state_dict import digest
from .torch_graph import DEFAULT_OPSET, quiet
from .writing import check_output

_CONFIG, _CONFIG_IN_HDF5 = "config.json", "model_config"
_NOT_LOADED = ".*freshly-initialized"  # what Keras warns of, and goes on
_SEEDS = "seed_generator"  # of dropout; not weights
_LARGEST = 2**26  # bytes of an architecture; large ones have some hundred thousand
_EXPECTED = "expected a .keras file, a whole model in .h5, or an architecture in .json with its --weights"
_UNKNOWN = re.compile(r"(?:Unknown layer|Could not locate (?:class|function)):? '(\w+)'")
_RUN_CODE = {"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}


def export_keras(
    network: Path,
    output: Path,
    pixels: Pixels,
    *,
    weights: Path | None = None,
    labels: Labels | None = None,
    hints: GraphHints | None = None,
    layout: Layout = Layout.BLOCKED,
    half_weights: bool = False,
    opset: int = DEFAULT_OPSET,
    progress: Callable[[str], None] | None = None,
) -> ParityReport:
    """Write a self-sufficient model file of a 3-D CNN in Keras, if it computes what the model predicts.

    Args:
        network: a ``.keras`` file, a whole model in HDF5 (``.h5``), or an architecture (``.json``). None of its code is
            run: Lambda layers and classes that are not Keras' own are refused.
        output: the ONNX file to write. What stood there is replaced only once the new file has passed.
        pixels: how the network's frames were prepared.
        weights: what belongs to an architecture: ``.weights.h5``, or ``.h5`` as Keras 2 wrote it.
        labels: class names; see `class_names`.
        hints: what the model does not say; without a layout, channels are last where the last side is 3.
        layout: whether convolutions are rewritten for CPU kernels, where some can be; see `relayout`.
        half_weights: whether the file keeps its weights as float16; see `store_half`.
        opset: ONNX operator set, 18 to 23.
        progress: called with a few words before each stage.

    Returns:
        What was measured, and what was found.

    Raises:
        ExportError: Keras runs on another backend in this process already, the model cannot be loaded, or has another
            input than a clip; the rest as `export_model`.
        OptionError: an architecture comes without weights, or a whole model with them; the rest as `export_model`.
        CheckpointError, OutputError: as `export_model`.
    """
    if keras.backend.backend() != "torch":
        raise ExportError(
            f"Keras runs on {keras.backend.backend()} in this process already: expected its PyTorch backend. Export in "
            "a process of its own, as `tubes export` does"
        )
    sources = (network,) if weights is None else (network, weights)
    check_output(output, *sources)
    if progress is not None:
        progress(f"reading {network.name}")
    model = load_keras(network, weights)
    example, hints = _example(model, hints or GraphHints())
    with keras.device("cpu"):
        return export_model(
            _Inference(model),
            example=example,
            preprocess=pixels,
            path=output,
            labels=labels,
            hints=hints,
            origin=Origin(sources[-1].name, model.name, digest(sources[-1]), (("Keras", keras.__version__),)),
            layout=layout,
            half_weights=half_weights,
            opset=opset,
            progress=progress,
        )


def load_keras(network: Path, weights: Path | None = None) -> Any:
    """A model from a file, in float32, without running code that is in the file.

    Raises:
        ExportError: the file cannot be read, is damaged, holds code or classes that are not Keras' own, is quantised,
            or the weights do not fit.
        OptionError: an architecture comes without weights, or a whole model with them.
    """
    for path in (network, *([] if weights is None else [weights])):
        if not path.is_file():
            raise ExportError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: {_EXPECTED}")
    alone = network.suffix.lower() == ".json"
    if alone and weights is None:
        raise OptionError(f"{network} is an architecture: name the file with its weights with --weights")
    if not alone and weights is not None:
        raise OptionError(f"--weights is for architectures (.json), and {network} has weights of its own: leave it out")
    config = _architecture(network)
    _refuse_code(network, config)
    try:
        with keras.device("cpu"), quiet():
            warnings.filterwarnings("error", message=_NOT_LOADED)
            model = _loaded(network, config, weights)
    except ExportError:
        raise
    except Exception as error:  # whatever is in the files
        if unknown := _UNKNOWN.search(str(error)):
            raise _not_keras(network, unknown[1]) from error
        files = network if weights is None else f"{network} with {weights}"
        raise ExportError(f"Keras {keras.__version__} cannot load {files}: {first_line(error):.300}") from error
    for layer in model._flatten_layers():
        if getattr(layer, "quantization_mode", None):
            raise ExportError(f"{network} is quantised ({layer.name}): export the float32 model")
        layer.dtype_policy = "float32"  # a mixed policy computes in half precision what is kept in float32
    return model


def _loaded(network: Path, config: dict[str, Any], weights: Path | None) -> Any:
    if weights is None:
        return keras.saving.load_model(network, compile=False, safe_mode=True)
    model = _from_config(config)
    _check_number(weights, model)
    model.load_weights(weights)
    return model


class _Inference(nn.Module):
    """A Keras model as it predicts."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, clip: Tensor) -> object:
        return self.model(clip, training=False)


def _architecture(path: Path) -> Any:
    """What a file says of the layers, as JSON; no more than that is read."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                text = archive.read(_CONFIG) if archive.getinfo(_CONFIG).file_size <= _LARGEST else None
        elif suffix == ".json":
            text = path.read_bytes() if path.stat().st_size <= _LARGEST else None
        else:
            with h5py.File(path, "r") as file:
                if _CONFIG_IN_HDF5 not in file.attrs:
                    raise ExportError(
                        f"{path} holds weights alone: export the architecture with them, as in `tubes export "
                        f"architecture.json --weights {path.name}`"
                    )
                text = file.attrs[_CONFIG_IN_HDF5]
        if text is None:
            raise ExportError(f"the architecture in {path} is larger than {_LARGEST >> 20} MiB: is it one?")
        config = json.loads(text)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, RecursionError, zipfile.BadZipFile) as error:
        raise ExportError(
            f"{path} cannot be read as a Keras model ({first_line(error):.120}): {_EXPECTED}. Is the file complete?"
        ) from error
    if not isinstance(config, dict) or not {"class_name", "config"} <= config.keys():
        raise ExportError(f"{path} is no architecture of Keras: expected a JSON object with class_name and config")
    return config


def _refuse_code(path: Path, config: object) -> None:
    """Refuse what is not Keras' own, before Keras looks for it, and what holds code."""
    for one in _objects(config):
        name, module, registered = one.get("class_name"), one.get("module"), one.get("registered_name")
        if isinstance(name, str) and name in _RUN_CODE:
            raise ExportError(
                f"{path} has a layer {name}, which runs code that is in the file or elsewhere; none was run. Where you "
                "trust it, load the model in Python, and hand it to saliency_tubes_export.export_model"
            )
        theirs = isinstance(module, str) and module.partition(".")[0] not in ("keras", "builtins")
        if isinstance(name, str) and (theirs or (isinstance(registered, str) and ">" in registered)):
            raise _not_keras(path, str(registered or name))


def _not_keras(path: Path, name: str) -> ExportError:
    return ExportError(
        f"{path} has {name}, which is not Keras' own: load the model in Python, where that is defined, and hand it to "
        "saliency_tubes_export.export_model"
    )


def _objects(config: object) -> Iterator[dict[str, object]]:
    """Every object in a JSON document."""
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _check_number(weights: Path, model: Any) -> None:
    """Refuse a file of weights with more or fewer than the model has: Keras minds some of what is missing, no more."""
    names: list[str] = []
    with h5py.File(weights, "r") as file:
        if "layers" in file:  # Keras 3; of files as Keras 2 wrote them, it counts the layers
            file["layers"].visititems(lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None)
    number = len([name for name in names if _SEEDS not in name])
    if names and number != len(model.weights):
        raise ExportError(
            f"{weights} has {number} arrays of weights, and the architecture takes {len(model.weights)}: expected what "
            "was saved of this very model"
        )


def _from_config(config: dict[str, Any]) -> Any:
    """A model without weights, from an architecture of Keras 3, or of Keras 2, which does not say where classes are."""
    if "module" in config:
        return keras.saving.deserialize_keras_object(config, safe_mode=True)
    kind = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
    return kind.from_config(config["config"])


def _example(model: Any, hints: GraphHints) -> tuple[Tensor, GraphHints]:
    """A clip as the model takes it, its open sides as the hints have them, and the hints with the order of its axes."""
    inputs = model.inputs or []
    shape: tuple[int | None, ...] = tuple(inputs[0].shape) if inputs else (None, None, None, None, 3)
    if len(inputs) > 1 or len(shape) != 5:
        sides = " and ".join("x".join("?" if side is None else str(side) for side in one.shape) for one in inputs)
        raise ExportError(f"the model takes {sides}: expected one clip of five axes, such as ?x16x112x112x3")
    layout = hints.layout or (InputLayout.NTHWC if shape[-1] == 3 else InputLayout.NCTHW)
    given = {"N": 1, "C": 3, "T": hints.frames, "H": hints.size, "W": hints.size}
    found = [
        given[axis] if axis == "N" or side is None else side for axis, side in zip(layout.value, shape, strict=True)
    ]
    sides_known = [side for side in found if side is not None]
    if len(sides_known) < len(found):
        raise OptionError(
            "the model takes clips of any length or size: say which to export for with --frames and --size"
        )
    return torch.zeros(sides_known), replace(hints, layout=layout)
