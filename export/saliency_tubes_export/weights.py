"""Weights that stay in files of their own, because one ONNX message cannot hold them: read where they lie, and written.

A tensor that is *held* says in absolute terms where its bytes are, which ONNX itself refuses to follow: nothing but
this module reads it.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from saliency_tubes.errors import ExportError

LARGEST_MESSAGE = 2**31 - 1  # bytes: what one protobuf message can be
DATA_SUFFIX = ".data"  # of the file beside ours
_ROOM = 2**20  # of a message, for all that is neither weights nor metadata
_SMALL = 1024  # bytes; what is smaller stays in the message, where shape inference reads it
_ALIGNMENT = 4096  # bytes, of a page: runtimes map weights into memory


def values(tensor: onnx.TensorProto) -> NDArray[Any]:
    """A tensor's values, held or not; those of a held one are mapped into memory, and read-only."""
    if not is_held(tensor):
        return numpy_helper.to_array(tensor)
    return _bytes(tensor).view(_stored(tensor)).reshape(tuple(tensor.dims))


def is_held(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's bytes stay in a file of their own."""
    return uses_external_data(tensor) and Path(ExternalDataInfo(tensor).location).is_absolute()


def holds(model: onnx.ModelProto) -> bool:
    """Whether any of a graph's weights are held."""
    return any(is_held(tensor) for tensor in model.graph.initializer)


def hold(tensor: onnx.TensorProto, file: Path) -> None:
    """Let a tensor with data in `file`, at what offset it says, be held there; a small one is read.

    Raises:
        ExportError: the file does not hold as many bytes as the tensor has.
    """
    info = ExternalDataInfo(tensor)
    offset, length = info.offset or 0, size_of(tensor)
    if info.length not in (None, length) or not 0 <= offset <= file.stat().st_size - length:
        raise ExportError(f"{file} is damaged: it does not hold the {length} bytes of {tensor.name} at {offset}")
    _refer(tensor, str(file.absolute()), offset, length)
    if length < _SMALL:
        fetch(tensor)


def fetch(tensor: onnx.TensorProto) -> None:
    """Take the bytes of a held tensor into the message."""
    if is_held(tensor):
        data = _bytes(tensor).tobytes()
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = data


def size_of(tensor: onnx.TensorProto) -> int:
    """How many bytes a tensor's values are."""
    size: int = math.prod(tensor.dims) * _stored(tensor).itemsize
    return size


def fit(size: int) -> bool:
    """Whether weights and metadata of so many bytes can be one message, with the graph."""
    return size + _ROOM < LARGEST_MESSAGE


def fits(model: onnx.ModelProto) -> bool:
    """Whether a graph and its weights can be one message."""
    return fit(sum(len(entry.value) for entry in model.metadata_props) + sum(map(size_of, model.graph.initializer)))


def beside(path: Path) -> Path:
    """The file of weights that belongs to a model file."""
    return path.with_name(path.name + DATA_SUFFIX)


def move_out(model: onnx.ModelProto, file: Path) -> None:
    """Write all weights but the small ones into a file, where they are held from then on; those there already stay."""
    file = file.absolute()
    large = [tensor for tensor in model.graph.initializer if size_of(tensor) >= _SMALL]
    todo = [tensor for tensor in large if not (is_held(tensor) and ExternalDataInfo(tensor).location == str(file))]
    with file.open("wb" if len(todo) == len(large) else "ab") as out:
        for tensor in todo:
            out.write(bytes(-out.tell() % _ALIGNMENT))
            offset = out.tell()
            out.write(np.ascontiguousarray(values(tensor).astype(_stored(tensor), copy=False)).data)
            _refer(tensor, str(file), offset, size_of(tensor))


def named_plainly(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Path | None]:
    """A copy as it is written: held weights by the plain name of their file; and the folder that this lies in."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    folder = None
    for tensor in copy.graph.initializer:
        if is_held(tensor):
            info = ExternalDataInfo(tensor)
            file = Path(info.location)
            folder = file.parent
            _refer(tensor, file.name, info.offset or 0, size_of(tensor))
    return copy, folder


def all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The weights of a graph and of the graphs inside it, and the tensors that are attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from all_tensors(inner)


def rename_data(path: Path, name: str) -> None:
    """Let a model file say that its weights are in a file of another name."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            _refer(tensor, name, info.offset or 0, size_of(tensor))
    path.write_bytes(model.SerializeToString())


def _stored(tensor: onnx.TensorProto) -> np.dtype[Any]:
    """How ONNX keeps its values, as bytes: little-endian."""
    return helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")


def _bytes(tensor: onnx.TensorProto) -> NDArray[np.uint8]:
    info = ExternalDataInfo(tensor)
    if not size_of(tensor):
        return np.empty(0, np.uint8)
    return np.memmap(info.location, np.uint8, "r", offset=info.offset or 0, shape=(size_of(tensor),))


def _refer(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    entries: Sequence[tuple[str, object]] = (("location", location), ("offset", offset), ("length", length))
    for key, value in entries:
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
