"""Reading somebody else's ONNX file, trusting nothing in it."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, inliner, numpy_helper, version_converter
from onnx.checker import ValidationError
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data
from onnx.shape_inference import InferenceError
from saliency_tubes.errors import ExportError, first_line
from saliency_tubes.spec import SCHEMA_KEY

from . import weights
from .halves import halves_in
from .lookup import inner_nodes

OLDEST_OPSET = 13  # the first in which Squeeze and ReduceMean, Reshape and Softmax mean what they mean since
NEW_OPSET = 18  # what older ones are upgraded to
_VALUES = ("value_float", "value_floats", "value_int", "value_ints")  # of a Constant
_STANDARD = ("", "ai.onnx")
_INVALID = (ValidationError, InferenceError, RuntimeError, ValueError)  # the last: names that are not UTF-8
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")


def read_classifier(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a network of standard operators, with its weights.

    Args:
        path: an ONNX file. Weights kept outside it are read from its own folder, and from nowhere else.

    Returns:
        The network, and the SHA-256 of the file and of those that it keeps weights in, one after the other. Of a
        network that is too large for one ONNX message, the weights are `weights.held`, and not in memory.

    Raises:
        ExportError: there is no such file, it is not ONNX, damaged, quantised, has operators of
            its own, or was written by this package.
    """
    try:
        if path.stat().st_size > weights.LARGEST_MESSAGE:
            raise ExportError(
                f"{path} is larger than 2 GiB, which no ONNX file is: of a network that large, the weights are in "
                "files beside it"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path} cannot be read ({error.strerror}): expected an ONNX file") from error
    model = _parsed(path, data)
    if any(entry.key == SCHEMA_KEY for entry in model.metadata_props):
        raise ExportError(f"{path} was written by `tubes export` already: use it with `tubes run CLIP --model {path}`")
    files = _read_external(path, model, len(data))
    if weights.holds(model):
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except _INVALID as error:
            raise _not_valid(str(path), error) from error
    return checked(str(path), model), _digest(data, files)


def checked(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """A network of standard operators in float32, functions put in their places.

    Args:
        name: what messages call it.
        model: the graph, with its weights; where they are held in files, it has been checked by its path.

    Raises:
        ExportError: it is invalid, quantised or in half precision, or has operators of its own.
    """
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        _check_operators(name, model)
        if not weights.holds(model):
            onnx.checker.check_model(model, full_check=True)
    except _INVALID as error:
        raise _not_valid(name, error) from error
    return model


def _not_valid(name: str, error: Exception) -> ExportError:
    return ExportError(f"{name} is not valid ONNX, or damaged: {first_line(error)}")


def modernised(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the network with constants as initializers, in an operator set that the rest of the package reads.

    Raises:
        ExportError: ONNX cannot upgrade its operator set.
    """
    opset = opset_of(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if opset < OLDEST_OPSET:
        try:
            copy = version_converter.convert_version(copy, NEW_OPSET)
        except Exception as error:  # the converter raises what its C++ gives it
            raise ExportError(
                f"{name} has opset {opset}, and ONNX cannot upgrade it to {NEW_OPSET} ({first_line(error)}): export "
                f"the network again with opset {OLDEST_OPSET} or newer"
            ) from error
    forget_origin(copy)
    weights = {tensor.name for tensor in copy.graph.initializer}
    for info in [info for info in copy.graph.input if info.name in weights]:  # as the oldest files have them
        copy.graph.input.remove(info)
    for node in [node for node in copy.graph.node if node.op_type == "Constant"]:
        (attribute,) = node.attribute
        if attribute.name in _VALUES:
            kind = np.float32 if "float" in attribute.name else np.int64
            tensor = numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), kind))
        elif attribute.name == "value":
            tensor = attribute.t
        else:
            continue
        constant = copy.graph.initializer.add()
        constant.CopyFrom(tensor)
        constant.name = node.output[0]
        copy.graph.node.remove(node)
    return copy


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in _STANDARD), default=0)


def forget_origin(model: onnx.ModelProto) -> None:
    """Drop what exporters note of the machine they ran on: source paths and stack traces of every node."""
    model.graph.doc_string = model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.input):
        item.doc_string = ""
        del item.metadata_props[:]


def _parsed(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ExportError(f"{path} is not ONNX, or damaged: it cannot be decoded") from error
    if not model.graph.node or not opset_of(model):
        raise ExportError(f"{path} is not ONNX, or damaged: it holds no network")
    if (opset := opset_of(model)) > (newest := onnx.defs.onnx_opset_version()):
        raise ExportError(
            f"{path} has opset {opset}, and onnx {onnx.__version__} knows those up to {newest}: install newer versions "
            "of onnx and onnxruntime, or export the network with an older opset"
        )
    return model


def _read_external(path: Path, model: onnx.ModelProto, size: int) -> list[Path]:
    """Load weights kept in other files, or hold them there where they are too large; and which files these are."""
    folder = path.parent.resolve()
    tensors = [tensor for tensor in weights.all_tensors(model.graph) if uses_external_data(tensor)]
    try:
        places = [_beside(path, folder, ExternalDataInfo(tensor).location) for tensor in tensors]
        files = sorted(set(places))
        if weights.fit(size + sum(file.stat().st_size for file in files)):
            load_external_data_for_model(model, str(folder))
        else:
            for tensor, file in zip(tensors, places, strict=True):
                weights.hold(tensor, file)
    except (OSError, ValueError, ValidationError) as error:
        raise ExportError(f"the weights that {path} keeps in other files do not load: {first_line(error)}") from error
    return files


def _beside(path: Path, folder: Path, place: str) -> Path:
    """The file of this name in the network's folder."""
    file = folder / place
    if Path(place).name != str(Path(place)) or file.resolve().parent != folder:
        raise ExportError(
            f"{path} keeps weights in {place!r}, outside its own folder, where nothing is read: put that file "
            "beside the network, and save the network anew"
        )
    if not file.is_file():
        raise ExportError(f"{path} keeps weights in {place!r}, which is not there: put it beside the network")
    return file


def _digest(data: bytes, files: list[Path]) -> str:
    digest = hashlib.sha256(data)
    for file in files:
        with file.open("rb") as content:
            while block := content.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _check_operators(name: str, model: onnx.ModelProto) -> None:
    nodes = [one for node in model.graph.node for one in (node, *inner_nodes(node))]
    own = sorted({f"{node.domain}::{node.op_type}" for node in nodes if node.domain not in _STANDARD})
    if own:
        raise ExportError(
            f"{name} needs operators that are not ONNX's own: {', '.join(own)}. Export the network with standard "
            "operators; a file that a runtime has optimised for itself is not what it was made from"
        )
    quantised = sorted({n.op_type for n in nodes if n.op_type in _QUANTISED or "QLinear" in str(n.op_type)})
    if quantised:
        raise ExportError(f"{name} is quantised ({', '.join(quantised)}): export the float32 network")
    if weights.holds(model) and (halves := halves_in(model)):
        raise ExportError(f"{name} is in {halves}, and larger than 2 GiB: export the float32 network")
