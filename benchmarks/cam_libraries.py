"""Claim: the tube comes at least 3 times sooner than the Grad-CAM of torchcam and grad-cam, 1.6 times than captum's.

The same network, clip and class; everything loaded; on the CPU; from pixels to a volume of the clip's size. Ours takes
uint8 crops through the exported network, ONNX Runtime's default provider, and gives the normalised tube. Each library
takes the normalised tensor through PyTorch, asks for the class at the network's `tail`, as its own documentation has
it, and brings the map to the clip's size: grad-cam by itself, with a spline; captum with its own trilinear
interpolation; torchcam, which leaves that to its user, with PyTorch's. Behind global average pooling and a linear
classifier Grad-CAM is the ReLU of the class-activation map, and that they agree is checked first.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from saliency_tubes.bench.race import Clock
from saliency_tubes_export import reference
from torch import Tensor, nn
from torch.nn.functional import interpolate

from .agreement import compare_maps
from .harness import Result, Row, Skipped, TimesFaster
from .inputs import Inputs
from .pipeline import opened, rgb_frames

NAME = "cam-libraries"
_Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explainer:
    """A library's Grad-CAM of one class of one clip, ready to be computed.

    Attributes:
        coarse: gives the raw map, (t, h, w).
        volume: gives the map at the clip's size, (T, H, W).
    """

    coarse: Callable[[], _Map]
    volume: Callable[[], _Map]


@dataclass(frozen=True)
class _Library:
    """Attributes: its distribution, its import name, how it is installed, its bar, and how it is used."""

    name: str
    module: str
    install: str
    bar: float
    explainer: Callable[[nn.Module, Tensor, int], Explainer]


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race ours and the libraries that are installed."""
    clip, ours = reference.load_clip(inputs.frames), opened(inputs.model, inputs.label, "cpu")
    frames = rgb_frames(clip)
    (expected,) = ours.maps(frames)
    jobs: dict[str, Callable[[], object]] = {"ours": lambda: ours.tubes(frames)}
    agreed = {}
    for library in _LIBRARIES:
        if find_spec(library.module) is not None:
            # A network for each: their hooks stay on it.
            explainer = library.explainer(reference.load_network(inputs.weights), clip.tensor, inputs.label)
            agreed[library.name] = compare_maps(expected, explainer.coarse())
            jobs[library.name] = explainer.volume
    samples = clock.race(NAME, jobs) if agreed else {}
    rows: list[Row] = []
    for library in _LIBRARIES:
        claim = f"clip to tube, CPU: against {library.name}"
        if library.name not in agreed:
            rows.append(Skipped(NAME, claim, f"{library.name} is not installed: {library.install}"))
            continue
        fact = (f"correlation with the map of {library.name} {version(library.name)}", agreed[library.name])
        rows.append(Result(NAME, claim, "s", samples["ours"], samples[library.name], TimesFaster(library.bar), (fact,)))
    return rows


def _torchcam(network: nn.Module, tensor: Tensor, label: int) -> Explainer:
    gradcam = import_module("torchcam.methods").GradCAM(network, network.get_submodule("tail"))

    def cam(normalized: bool) -> Tensor:
        (found,) = gradcam(label, network(tensor), normalized=normalized)
        return torch.as_tensor(found)

    def volume() -> _Map:
        return _array(interpolate(cam(normalized=True)[None], tensor.shape[2:], mode="trilinear"))

    return Explainer(lambda: _array(cam(normalized=False)), volume)


def _grad_cam(network: nn.Module, tensor: Tensor, label: int) -> Explainer:
    layers = [network.get_submodule("tail")]
    with _torchvision_to_import():
        library = import_module("pytorch_grad_cam")
        targets = [import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget(label)]
    gradcam = library.GradCAM(model=network, target_layers=layers)

    def coarse() -> _Map:
        gradcam(input_tensor=tensor, targets=targets)
        hooked = gradcam.activations_and_grads
        (activations,), (gradients,) = (_numpy(tensors) for tensors in (hooked.activations, hooked.gradients))
        return np.asarray(gradcam.get_cam_image(tensor, layers[0], targets, activations, gradients)[0])

    def volume() -> _Map:
        return np.asarray(gradcam(input_tensor=tensor, targets=targets)[0])

    return Explainer(coarse, volume)


def _captum(network: nn.Module, tensor: Tensor, label: int) -> Explainer:
    attr = import_module("captum.attr")
    gradcam = attr.LayerGradCam(network, network.get_submodule("tail"))

    def cam() -> Any:
        return gradcam.attribute(tensor, label, relu_attributions=True)

    def volume() -> _Map:
        return _array(attr.LayerAttribution.interpolate(cam(), tuple(tensor.shape[2:]), interpolate_mode="trilinear"))

    return Explainer(lambda: _array(cam()), volume)


def _array(tensor: Tensor) -> _Map:
    """A tensor whose sides but the last three are 1, as (t, h, w)."""
    array: _Map = tensor.detach().numpy()
    return array.reshape(array.shape[-3:])


def _numpy(tensors: list[Tensor]) -> list[_Map]:
    return [tensor.detach().numpy() for tensor in tensors]


@contextmanager
def _torchvision_to_import() -> Iterator[None]:
    """Let grad-cam be imported where there is no torchvision.

    It imports four names of it at its top, for preprocessing, detection targets and another method (SESS); its Grad-CAM
    uses none. They stand here as None: whoever called one would be told so at once.
    """
    if find_spec("torchvision") is not None:
        yield
        return
    names = {"torchvision": (), "torchvision.transforms": ("Compose", "Normalize", "ToTensor")}
    names["torchvision.transforms.functional"] = ("resize",)
    for module, attributes in names.items():
        sys.modules[module] = ModuleType(module)
        vars(sys.modules[module]).update(dict.fromkeys(attributes))
    try:
        yield
    finally:
        for module in names:
            del sys.modules[module]


_WITH_EXTRA = "pip install -c constraints.txt -e '.[compare]'"
_LIBRARIES = (
    _Library("torchcam", "torchcam", _WITH_EXTRA, 3, _torchcam),
    _Library(
        "grad-cam",
        "pytorch_grad_cam",
        f"{_WITH_EXTRA} && pip install -c constraints.txt --no-deps grad-cam ttach",
        3,
        _grad_cam,
    ),
    _Library("captum", "captum", _WITH_EXTRA, 1.6, _captum),
)
