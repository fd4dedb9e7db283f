"""`randomise`: a model file with its weights shuffled, to see whether explanations come from the weights at all."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.checker import ValidationError
from onnx.external_data_helper import uses_external_data
from onnx.shape_inference import InferenceError
from saliency_tubes.choices import choice
from saliency_tubes.errors import ModelFileError, OptionError, OutputError, first_line
from saliency_tubes.head import Head
from saliency_tubes.spec import ModelSpec

from .expose import drop_unused
from .writing import check_output, replacing_model, write_model

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_OURS = "randomised_"  # before the names of what is put in


class Layers(StrEnum):
    """Which weights are shuffled."""

    ALL = "all"
    CLASSIFIER = "classifier"


def randomise(model: Path, output: Path, seed: int, layers: Layers | str = Layers.ALL) -> None:
    """Write a model file anew with the values of each weight permuted within their tensor.

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: what explains a network must change when the
    network's weights do. Permuted weights keep their size and their distribution.

    Every tensor of float32 or float16 from which the features are computed is permuted, and the classifier's W. Spared
    are the bias b and what holds one number for each channel, in however many dimensions it is written down, such as
    the scales of batch norms and the mean colour. The classifier is written anew from the W and b in the metadata, as
    ``logits = W mean(A) + b``, so that the file's maps still add up to its logits.

    Args:
        model: a file that `tubes export` wrote.
        output: the ONNX file to write; another one. It loads as any model file, and says in the name of its checkpoint
            what it is. It has no parity, for there is nothing it is equal to.
        seed: of the permutations, at least 0. What a tensor becomes depends on this and its name alone.
        layers: ``"all"``, or the ``"classifier"`` alone.

    Raises:
        ModelFileError: the file cannot be read, is not one of ours, damaged, or has no weights to permute.
        OptionError: a value that means nothing.
        OutputError: the file cannot be written.
    """
    chosen = choice(Layers, "choice of layers", layers)
    if seed < 0:
        raise OptionError(f"seed is {seed}: expected a whole number of at least 0")
    check_output(output)
    if output.exists() and model.exists() and output.samefile(model):
        raise OutputError(f"{output} is the file to randomise, which is kept: choose another --output")
    network, spec = _read(model)
    shuffled = replace(
        spec,
        head=_permuted_head(spec.head, seed),
        checkpoint_name=f"{spec.checkpoint_name} ({chosen} permuted, seed {seed})",
        parity=None,
    )
    try:
        drop_unused(network.graph, {"features"})
        if chosen is Layers.ALL and not _permute_initializers(network.graph, seed):
            raise ModelFileError(f"{model} has no weights before its features: there is nothing to permute")
        _add_classifier(network.graph, shuffled)
        with replacing_model(output) as staging:
            write_model(staging, network, shuffled)
    except (ValidationError, InferenceError, RuntimeError, ValueError) as error:
        raise _damaged(model, first_line(error)) from error


def _read(path: Path) -> tuple[onnx.ModelProto, ModelSpec]:
    try:
        network = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): expected a file of `tubes export`") from error
    except DecodeError as error:
        raise ModelFileError(f"{path} is not ONNX, or damaged: it cannot be decoded") from error
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in network.metadata_props})
    if {info.name for info in network.graph.output} != {"logits", "features"}:
        raise _damaged(path, "its outputs are not logits and features")
    if any(uses_external_data(tensor) for tensor in network.graph.initializer):
        raise ModelFileError(
            f"{path} keeps its weights in a file beside it: what is too large for one file cannot be randomised yet"
        )
    return network, spec


def _damaged(path: Path, problem: str) -> ModelFileError:
    return ModelFileError(f"{path} is damaged ({problem}): export the weights again with `tubes export WEIGHTS`")


def _permute_initializers(graph: onnx.GraphProto, seed: int) -> int:
    """Permute every tensor of weights; how many there were."""
    count = 0
    for tensor in graph.initializer:
        several = sum(side > 1 for side in tensor.dims) > 1  # not one number a channel, (C, 1, 1, 1)
        if tensor.data_type in _FLOATS and several:
            array = _permuted(numpy_helper.to_array(tensor), seed, tensor.name)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            count += 1
    return count


def _add_classifier(graph: onnx.GraphProto, spec: ModelSpec) -> None:
    """Let the logits be computed from the features with the head of `spec`, however that was done before."""
    head = spec.head

    def add(kind: str, output: str, *inputs: str | NDArray[np.float32], **attributes: Any) -> str:
        names = []
        for one in inputs:
            name = one if isinstance(one, str) else f"{_OURS}weight_{len(graph.initializer)}"
            if not isinstance(one, str):
                graph.initializer.append(numpy_helper.from_array(one, name))
            names.append(name)
        graph.node.append(helper.make_node(kind, names, [output], **attributes))
        return output

    covered = "features" if head.coverage is None else add("Mul", _OURS + "covered", "features", head.coverage)
    flat = add("Flatten", _OURS + "flat", add("GlobalAveragePool", _OURS + "pooled", covered))
    if head.hidden is not None:
        hidden = add("Gemm", _OURS + "hidden", flat, head.hidden.weight, head.hidden.bias, transB=1)
        flat = add("Relu", _OURS + "active", hidden)
    add("Gemm", "logits", flat, head.weight, head.bias, transB=1)
    del graph.value_info[:]  # some of it speaks of the old classifier


def _permuted_head(head: Head, seed: int) -> Head:
    hidden = head.hidden
    if hidden is not None:
        hidden = replace(hidden, weight=_permuted(hidden.weight, seed, "hidden"))
    return replace(head, weight=_permuted(head.weight, seed, "classifier"), hidden=hidden)


def _permuted(values: NDArray[np.float32], seed: int, name: str) -> NDArray[np.float32]:
    rng = np.random.default_rng([seed, *name.encode()])
    return rng.permutation(values.ravel()).reshape(values.shape)
