"""`export_model`: any module of PyTorch becomes a graph, which goes the way of every graph, held to the module."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from saliency_tubes.choices import Layout, Norm, choice
from saliency_tubes.errors import ExportError, first_line
from saliency_tubes.presets import Pixels
from torch import Tensor, nn

from .eager import Arrays, Eager
from .foreign import GraphHints, export_graph
from .labels import Labels
from .onnx_file import checked
from .original import Origin
from .parity import ParityReport
from .torch_graph import DEFAULT_OPSET, check_opset, plain_classifier
from .writing import check_output

Example = Tensor | Sequence[Tensor]


def export_model(
    module: nn.Module,
    *,
    example: Example,
    preprocess: Pixels | Norm | str,
    path: Path | str = "tubes.onnx",
    labels: Labels | None = None,
    hints: GraphHints | None = None,
    origin: Origin | None = None,
    layout: Layout = Layout.BLOCKED,
    half_weights: bool = False,
    opset: int = DEFAULT_OPSET,
    progress: Callable[[str], None] | None = None,
) -> ParityReport:
    """Write a self-sufficient model file of a 3-D CNN in PyTorch, if it computes what the module computes.

    The module is put in eval mode and on the CPU meanwhile; afterwards it is as it was.

    Args:
        module: a classifier that ends as `find_tail` asks for. It may return logits or probabilities, alone or with
            other tensors.
        example: a clip as the module takes it, such as (1, 3, T, H, W) float32; its shape is what counts.
            For several arguments a tuple of clips; for one argument that is a list, a list.
        preprocess: how the frames that it was trained with were prepared, or the name of a preset.
        path: the ONNX file to write. What stood there is replaced only once the new file has passed.
        labels: class names, or a file of them; see `class_names`.
        hints: what the example does not say; see `GraphHints`. Where frames come one by one, `GraphHints.frames` is T;
            without it, all the example's are one clip.
        origin: where the module comes from. Without it: its class, and the checksum of its weights.
        layout: whether convolutions are rewritten for CPU kernels, where some can be; see `relayout`.
        half_weights: whether the file keeps its weights as float16; see `store_half`.
        opset: ONNX operator set, 18 to 23.
        progress: called with a few words before each stage.

    Returns:
        What was measured, and what was found.

    Raises:
        ExportError: the module does not take the example, PyTorch cannot export it, or its graph cannot be read;
            `TailError` where it ends in something else, `ParityError` where the numbers differ.
        OptionError: there is no such preset, or it does not fit the example.
        CheckpointError: the labels cannot be used.
        OutputError: the file cannot be written.
    """
    output, hints = Path(path), hints or GraphHints()
    check_output(output)
    check_opset(opset)
    pixels = preprocess if isinstance(preprocess, Pixels) else Pixels(choice(Norm, "preset", preprocess))
    clips = _clips(module, example)
    rows = 1
    if clips[0].ndim == 4:  # frames one by one
        rows = hints.frames or len(clips[0])
        hints = replace(hints, frames=rows)
    with _inference(module):
        network = _Plain(module, as_list=isinstance(example, list))
        names = [f"output_{number}" for number, _ in enumerate(_forward(network, clips))]
        if progress is not None:
            progress("exporting the network with PyTorch")
        graph = plain_classifier(network, clips, opset, rows=rows, outputs=names)
        origin = origin or Origin(type(module).__name__, type(module).__name__, _checksum(module))
        return export_graph(
            checked(f"the graph of {origin.name}", graph),
            replace(origin, versions=(*origin.versions, ("torch", torch.__version__))),
            output,
            pixels,
            labels=labels,
            hints=hints,
            layout=layout,
            half_weights=half_weights,
            eager=_eager(network, names, origin),
            progress=progress,
        )


class _Plain(nn.Module):
    """A module of any signature as one that takes one clip or two, and returns nothing but float tensors."""

    def __init__(self, module: nn.Module, as_list: bool) -> None:
        super().__init__()
        self.module = module
        self.as_list = as_list

    def forward(self, clip: Tensor, other: Tensor | None = None) -> tuple[Tensor, ...]:
        clips = [clip] if other is None else [clip, other]
        return tuple(_floats(self.module(clips) if self.as_list else self.module(*clips)))


def _floats(returned: object) -> Iterator[Tensor]:
    if isinstance(returned, Tensor) and returned.is_floating_point():
        yield returned
    elif isinstance(returned, Mapping):
        yield from _floats(list(returned.values()))
    elif isinstance(returned, tuple | list):
        for one in returned:
            yield from _floats(one)


def _clips(module: object, example: Example) -> tuple[Tensor, ...]:
    """The example's clips, one for each input of the graph, once these and the module are known to be usable."""
    if not isinstance(module, nn.Module):
        raise ExportError(f"the network is of {type(module).__name__}: expected a torch.nn.Module")
    clips = (example,) if isinstance(example, Tensor) else tuple(example)
    shaped = all(isinstance(clip, Tensor) and clip.ndim in (4, 5) and len(clip) for clip in clips)
    if not shaped or len(clips) not in (1, 2):
        raise ExportError(
            "the example is not a clip: expected a tensor such as torch.zeros(1, 3, T, H, W), or two, each with "
            "an axis that counts clips"
        )
    others = {str(p.dtype) for p in module.parameters() if p.is_floating_point()} - {"torch.float32"}
    if others:
        raise ExportError(
            f"the module has weights in {' and '.join(sorted(others))}: expected float32; module.float() gives it"
        )
    return tuple(clip.detach().to("cpu", torch.float32) for clip in clips)


@contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode and on the CPU, and, at the end, everything as it was."""
    devices = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    if len(devices) > 1 or torch.device("meta") in devices:
        raise ExportError(
            f"the module is on {' and '.join(sorted(map(str, devices)))}: expected one device with memory"
        )
    modes = {part: part.training for part in module.modules()}
    module.eval().cpu()
    try:
        yield
    finally:
        for device in devices:
            module.to(device)
        for part, training in modes.items():
            part.training = training


def _forward(network: _Plain, clips: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    try:
        with torch.inference_mode():
            returned: tuple[Tensor, ...] = network(*clips)
    except Exception as error:  # whatever is in the module
        sides = " and ".join("x".join(map(str, clip.shape)) for clip in clips)
        raise ExportError(f"the module fails on the example, {sides}: {first_line(error)}") from error
    if not returned:
        raise ExportError("the module returns no float tensor: expected logits")
    return returned


def _eager(network: _Plain, names: Sequence[str], origin: Origin) -> Eager:
    def run(inputs: Arrays) -> Arrays:
        returned = _forward(network, tuple(torch.from_numpy(clips) for clips in inputs.values()))
        return {name: tensor.numpy() for name, tensor in zip(names, returned, strict=True)}

    above = "".join(f"{name} {version} on " for name, version in origin.versions)
    return Eager(f"{above}PyTorch {torch.__version__} eager", run)


def _checksum(module: nn.Module) -> str:
    """The SHA-256 of a module's weights and their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()
