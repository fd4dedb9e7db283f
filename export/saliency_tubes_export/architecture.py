"""A network that is named by the function that makes it, with weights from a file."""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from saliency_tubes.choices import InputLayout, Layout
from saliency_tubes.errors import ExportError, OptionError, first_line
from saliency_tubes.presets import Pixels
from torch import nn

from .clip_input import ClipInput
from .foreign import GraphHints
from .labels import Labels
from .modules import export_model
from .original import Origin
from .parity import ParityReport
from .state_dict import digest, load_strictly, read_weights
from .torch_graph import DEFAULT_OPSET
from .writing import check_output

_EXPECTED = "--arch is {!r:.100}: expected package.module:factory, the name of what makes the network"


def export_architecture(
    weights: Path,
    arch: str,
    output: Path,
    pixels: Pixels,
    *,
    arguments: str | None = None,
    labels: Labels | None = None,
    hints: GraphHints | None = None,
    layout: Layout = Layout.BLOCKED,
    half_weights: bool = False,
    opset: int = DEFAULT_OPSET,
    progress: Callable[[str], None] | None = None,
) -> ParityReport:
    """`export_model` of what `load_module` loads, for clips as `hints` has them: channels first, unless it says other.

    Raises:
        OptionError: `hints` lacks frames or size; the rest as `load_module` and `export_model`.
    """
    hints = hints or GraphHints()
    if hints.frames is None or hints.size is None:
        raise OptionError(
            "a module does not say which clips it takes: give --frames and --size, as it was trained with"
        )
    check_output(output, weights)
    if progress is not None:
        progress(f"loading {arch} with {weights.name}")
    module = load_module(weights, arch, arguments)
    order = hints.layout or InputLayout.NCTHW
    clip = ClipInput("clip", order, hints.channels, hints.frames, (hints.size, hints.size), fixed_batch=True)
    return export_model(
        module,
        example=torch.zeros(1, *clip.shape),
        preprocess=pixels,
        path=output,
        labels=labels,
        hints=replace(hints, layout=order),
        origin=Origin(weights.name, arch, digest(weights)),
        layout=layout,
        half_weights=half_weights,
        opset=opset,
        progress=progress,
    )


def load_module(weights: Path, arch: str, arguments: str | None = None) -> nn.Module:
    """Import a factory, call it, and load a checkpoint into the network that it makes. This runs the factory's code.

    Args:
        weights: a checkpoint, see `read_weights`; the network has to have exactly its keys.
        arch: ``package.module:factory``, found as ``python -m`` would: in the current directory, too.
        arguments: a JSON object of keyword arguments for the factory.

    Raises:
        OptionError: there is no such factory, or `arguments` is not a JSON object.
        ExportError: importing or calling it fails, or it makes something else.
        CheckpointError: the weights cannot be read, or do not fit.
    """
    keywords = _keywords(arguments)
    factory = _factory(arch)
    try:
        module = factory(**keywords)
    except (Exception, SystemExit) as error:  # it is anybody's code
        raise ExportError(f"{arch} failed: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ExportError(f"{arch} gave {type(module).__name__}: expected a torch.nn.Module")
    load_strictly(weights, module, read_weights(weights, f"a checkpoint of {arch}"), arch)
    return module


def _keywords(text: str | None) -> dict[str, object]:
    try:
        keywords = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise OptionError(f"--arch-kwargs is not JSON ({error}): expected an object, {{...}}") from error
    if not isinstance(keywords, dict):
        raise OptionError(f"--arch-kwargs is {text!r:.60}: expected a JSON object, such as '{{\"num_classes\": 400}}'")
    return keywords


def _factory(arch: str) -> Callable[..., object]:
    name, _, attributes = arch.partition(":")
    if not all(word.isidentifier() for word in (*name.split("."), *attributes.split("."))):
        raise OptionError(_EXPECTED.format(arch))
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # and left there: what is imported may import more when it is called
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise OptionError(
                f"there is no module {error.name}, here or among what is installed, for --arch {arch}"
            ) from error
        raise ExportError(f"importing {name} failed, because it needs {error.name}, which is not installed") from error
    except (Exception, SystemExit) as error:  # it is anybody's code
        raise ExportError(f"importing {name} failed: {type(error).__name__}: {first_line(error)}") from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise OptionError(f"{name} has no {attributes}, which --arch names")
        found = getattr(found, attribute)
    if not callable(found):
        raise OptionError(
            f"{arch} is of {type(found).__name__}, not callable: expected a function or class that makes the network"
        )
    return found
