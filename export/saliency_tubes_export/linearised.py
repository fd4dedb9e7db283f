"""What stands behind some features, where it is not linear: its first-order expansion, measured on synthetic clips.

The weight of a channel is what the logits gain when the channel rises by one everywhere: the gradient that Grad-CAM
averages over places (Selvaraju et al., ICCV 2017), which here is measured by differences, once, at export, and not for
every clip anew. So the maps of such a file do not add up to the logits, and it says so.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper
from saliency_tubes.errors import TailError, first_line
from saliency_tubes.head import Head
from saliency_tubes.metadata import printable
from saliency_tubes.spec import Preprocessing
from saliency_tubes.synthetic import synthetic_clip

from .factoring import channel_axes
from .lookup import Lookup, inner_nodes
from .original import Graph
from .parity import normalised
from .route import before_softmax
from .running import cpu_session
from .tail import Pathway, Tail, check_names, find_tail

_STEP = 0.05  # by how much a channel rises, as a share of the features' own spread
_BATCH = 16
_MOST_NAMED = 4
_LONGEST_NAME = 60
_CLIPS = 2  # synthetic ones, around which the expansion is made

Run = Callable[[Sequence[str]], list[dict[str, NDArray[np.float32]]]]


def tail_or_expansion(
    model: onnx.ModelProto,
    graph: Graph,
    preprocessing: Preprocessing,
    logits: str | None,
    features: str | None,
    approximate: bool,
    progress: Callable[[str], None],
) -> tuple[Tail, str | None]:
    """The tail of a graph, and, where it had to be expanded because it is not linear, why its maps are approximate.

    Args:
        model: the graph for one clip, its shapes static.
        graph: the same as it came, to run it.
        preprocessing: how clips become its input.
        logits: which tensor to take for them; None for those found.
        features: which tensor is to be explained; None for the one found.
        approximate: whether an expansion will do.
        progress: called with a few words from time to time.

    Raises:
        TailError: there is no tail, and an expansion would not do, or there is none either.
    """
    try:
        return find_tail(model, logits, features), None
    except TailError as error:
        if not approximate:
            raise TailError(f"{error}\nWith --approximate, maps that do not add up to the logits are made") from error
    shape = (graph.clip.frames, *graph.clip.size_hw, 3)
    clips = normalised(np.stack([synthetic_clip(shape, seed) for seed in range(_CLIPS)]), preprocessing)
    return linearised(model, lambda names: [found for _, found in graph.runs(names, clips)], logits, features, progress)


def exactness(asked: bool, why: str | None) -> list[str]:
    """What an export says where maps are approximate, or might have been."""
    if why is not None:
        return [f"approximate: {why}"]
    return ["the maps add up to the logits: nothing is approximate"] if asked else []


def linearised(
    model: onnx.ModelProto,
    run: Run,
    logits: str | None,
    features: str | None,
    progress: Callable[[str], None],
) -> tuple[Tail, str]:
    """A tail for a graph that has none, and why it is an approximation.

    Args:
        model: the graph, for one clip, its shapes static.
        run: gives tensors of the graph by name, for each of some clips.
        logits: which tensor to take for them; None for the graph's first output, before a softmax.
        features: which tensor is to be explained; None for the last one that has places.
        progress: called with a few words from time to time.

    Raises:
        TailError: there are no such tensors, or the logits do not depend on the features.
    """
    look = Lookup(model)
    check_names(look, logits, features)
    end = logits if logits is not None else look.graph.output[0].name
    scores, softmax = before_softmax(look, end)
    pathway = _pathway(look, features or _last_with_places(look, scores), end)
    nodes = _between(look, pathway.tensor, scores)
    if not nodes:
        raise look.error(f"{scores} does not depend on {pathway.tensor}", look.producers.get(pathway.tensor), end)
    weight, bias = _expansion(model, look, nodes, pathway, scores, run, progress)
    head = Head(np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32))
    kinds = list(dict.fromkeys(_short(str(node.op_type)) for node in nodes))
    more = " and others" if len(kinds) > _MOST_NAMED else ""
    between = f"{_short(pathway.tensor)} and the logits ({', '.join(kinds[:_MOST_NAMED])}{more})"
    why = (
        f"what stands between {between} is not linear; its first-order expansion around synthetic clips takes its place"
    )
    return Tail(scores, len(look.shapes[scores]), softmax, (pathway,), head), why


def _short(name: str) -> str:
    """The end of a tensor's name, which may be of any length and of anything: it goes into metadata."""
    shown = printable(name)
    return shown if len(shown) <= _LONGEST_NAME else f"...{shown[-_LONGEST_NAME:]}"


def _pathway(look: Lookup, tensor: str, end: str) -> Pathway:
    """A tensor with places: (N, C, t, h, w), or (N * T, C, h, w)."""
    whole = look.of_one_clip(tensor)
    by_frame = whole[0] != 1
    sides = whole if by_frame else whole[1:]
    if len(sides) != 4:
        raise look.error(f"{tensor}, {look.sides(tensor)}, has no places (t, h, w)", look.producers.get(tensor), end)
    axis = channel_axes(look, tensor)[0]
    t, h, w = (side for other, side in enumerate(sides) if other != axis)
    return Pathway(tensor, axis, (sides[axis], t, h, w), by_frame)


def _last_with_places(look: Lookup, scores: str) -> str:
    """The last tensor of five axes, and of more than one place, that the logits depend on."""
    wanted = {scores}
    for node in reversed(look.graph.node):
        if not wanted & set(node.output):
            continue
        wanted.update(node.input, *(one.input for one in inner_nodes(node)))
        sides = look.shapes.get(node.output[0], ())
        if len(sides) == 5 and None not in sides[1:] and _places(look, str(node.output[0])) > 1:
            return str(node.output[0])
    raise look.error("no tensor of the graph has places (t, h, w): name one with --features", None, scores)


def _places(look: Lookup, tensor: str) -> int:
    """How many places a tensor of five axes has."""
    sides = look.static(tensor)
    return math.prod(sides) // sides[channel_axes(look, tensor)[0]]


def _between(look: Lookup, tensor: str, scores: str) -> list[onnx.NodeProto]:
    """The nodes by which the logits depend on the tensor, in order."""
    reached, behind = {tensor}, []
    for node in look.graph.node:
        if _inputs(node) & reached and tensor not in node.output:
            reached.update(name for name in node.output if name)
            behind.append(node)
    wanted, needed = {scores}, []
    for node in reversed(behind):
        if wanted & set(node.output):
            wanted.update(_inputs(node))
            needed.append(node)
    return needed[::-1]


def _inputs(node: onnx.NodeProto) -> set[str]:
    """What a node is computed from, the graphs inside it included; what is left out has no name."""
    return {str(name) for one in (node, *inner_nodes(node)) for name in one.input if name}


def _expansion(
    model: onnx.ModelProto,
    look: Lookup,
    nodes: list[onnx.NodeProto],
    pathway: Pathway,
    scores: str,
    run: Run,
    progress: Callable[[str], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """W (K, C) and b (K,), means over the clips that `run` has."""
    made = {name for node in nodes for name in node.output}
    constants = {tensor.name for tensor in look.graph.initializer}
    needed = dict.fromkeys(str(name) for node in nodes for name in node.input if name and name not in made | constants)
    needed.pop(pathway.tensor)
    beside = list(needed)  # what skips the features, as a residual connection does: it stays as it is
    session = _session(model, nodes, [pathway.tensor, *beside], scores)
    clips = run([pathway.tensor, *beside, scores])
    weights, biases = [], []
    for number, found in enumerate(clips, start=1):
        features, logits = found[pathway.tensor], found[scores]
        inputs = {name: found[name] for name in beside}
        gains = []
        step = np.float32(_STEP * (features.std() or 1))
        for channel, raised in enumerate(_raised(features, pathway, step)):
            if channel % _BATCH == 0:
                progress(f"weighing channel {channel} of {pathway.shape[0]}, clip {number} of {len(clips)}")
            up, down = (
                np.ravel(session.run(None, {pathway.tensor: one, **inputs})[0]).astype(np.float64)
                for one in (features + raised, features - raised)
            )
            gains.append((up - down) / (2 * step))
        weights.append(np.array(gains).T)
        volume = features.reshape(-1, *pathway.sides).transpose(pathway.perm)[0]
        biases.append(np.ravel(logits) - weights[-1] @ volume.mean(axis=(1, 2, 3), dtype=np.float64))
    weight = np.mean(weights, axis=0)
    return weight, np.mean(biases, axis=0)


def _raised(features: NDArray[np.float32], pathway: Pathway, step: np.float32) -> Iterator[NDArray[np.float32]]:
    """For each channel: the step in all its places, as the features lie, and zero in the others."""
    axis = pathway.channel_axis + (features.ndim - len(pathway.sides))
    for channel in range(pathway.shape[0]):
        raised = np.zeros([side if other == axis else 1 for other, side in enumerate(features.shape)], np.float32)
        np.moveaxis(raised, axis, 0)[channel] = step
        yield raised


def _session(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], inputs: Sequence[str], scores: str
) -> ort.InferenceSession:
    """The part of a graph that some nodes are, from tensors to logits, for one clip."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    infos = {info.name: info for info in (*inferred.value_info, *inferred.input, *inferred.output)}
    used = {name for node in nodes for name in (*node.input, *(x for one in inner_nodes(node) for x in one.input))}
    graph = helper.make_graph(
        nodes,
        "behind_features",
        [infos[name] for name in inputs],
        [helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, None)],
        [tensor for tensor in inferred.initializer if tensor.name in used],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        return cpu_session(part)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise TailError(f"what stands behind {inputs[0]} does not run by itself: {first_line(error)}") from error
