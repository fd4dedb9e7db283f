"""The model file that an export ends in, and the file of weights beside it where these are too large for one."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from saliency_tubes import __version__
from saliency_tubes.errors import ExportError, OutputError
from saliency_tubes.replacing import replacing_file
from saliency_tubes.spec import SCHEMA_KEY, ModelSpec

from . import weights


def check_output(output: Path, *sources: Path) -> None:
    """Ask before the work is done whether its result can be written.

    Args:
        output: where to.
        sources: what it is made from, which it may not replace.

    Raises:
        OutputError: `output` is a folder, in none, or one of the sources.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder: name a file in it, such as {output / 'tubes.onnx'}")
    if not output.parent.is_dir():
        raise OutputError(f"the folder {output.parent} does not exist: make it, or choose another --output")
    for source in sources:
        if output.exists() and source.exists() and output.samefile(source):
            raise OutputError(f"{output} is the network itself: choose another --output")


def write_model(path: Path, model: onnx.ModelProto, spec: ModelSpec, *, again: bool = False) -> None:
    """Write a graph, once it is known to be valid, with what it says of itself.

    Where graph and weights are more than a message can be, the weights go into the file `weights.beside` it.

    Args:
        path: the file.
        model: the graph.
        spec: what it says of itself.
        again: whether this graph was written before, so that it is valid, and only what it says has changed.

    Raises:
        ExportError: without its weights it still is more.
    """
    metadata = spec.to_metadata()
    ModelSpec.from_metadata(metadata)  # what cannot be read back is not written
    model.producer_name, model.producer_version = "saliency-tubes", __version__
    helper.set_model_props(model, metadata)
    if weights.fits(model):
        for tensor in model.graph.initializer:
            weights.fetch(tensor)
        if not again:
            onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())
        return
    weights.move_out(model, weights.beside(path))
    plain, _ = weights.named_plainly(model)
    if plain.ByteSize() > weights.LARGEST_MESSAGE:
        raise ExportError(
            "the classifier alone, which the file's metadata has to hold, is larger than an ONNX file can be"
        )
    path.write_bytes(plain.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)


@contextlib.contextmanager
def replacing_model(output: Path) -> Iterator[Path]:
    """As `replacing_file`, of a model file and, where `write_model` has made one, the file of weights beside it.

    The weights are moved into place first, and moved out again if the model file cannot follow. What an older model
    file has beside it goes with it.

    Yields:
        The empty file to fill.

    Raises:
        OutputError: a file cannot be written, or what stands where the weights would go was not written by this
            package.
    """
    moved = None
    try:
        with replacing_file(output, "--output") as staging:
            try:
                yield staging
                moved = _move_weights(staging, output)
            finally:
                with contextlib.suppress(OSError):
                    weights.beside(staging).unlink(missing_ok=True)
    except BaseException:
        if moved is not None:
            moved.undo()
        raise
    if moved.aside is not None:
        with contextlib.suppress(OSError):
            moved.aside.unlink()


@dataclass(frozen=True)
class _Moved:
    """Weights on the move: a file that was put in its place, or not, and what stood there, set aside."""

    place: Path
    filled: bool
    aside: Path | None

    def undo(self) -> None:
        with contextlib.suppress(OSError):
            if self.filled:
                self.place.unlink()
            if self.aside is not None:
                self.aside.replace(self.place)


def _move_weights(staging: Path, output: Path) -> _Moved:
    """Put the weights of a new model file where they go; those of the old one are set aside, if they are ours."""
    new, place = weights.beside(staging), weights.beside(output)
    filled, ours = _refers_to(staging, new), _refers_to(output, place)
    if filled and place.exists() and not ours:
        raise OutputError(
            f"{place} is there, where the weights would go, and belongs to no model file of `tubes export`: move it "
            "away, or choose another --output"
        )
    moved = _Moved(place, False, None)
    try:
        if ours:
            aside = place.with_name(f".{place.name}.{os.urandom(6).hex()}.old")
            place.replace(aside)
            moved = replace(moved, aside=aside)
        if filled:
            weights.rename_data(staging, place.name)
            new.replace(place)
            moved = replace(moved, filled=True)
    except OSError as error:
        moved.undo()
        raise OutputError(f"cannot write {place}: {error.strerror or error}. Choose another --output") from error
    return moved


def _refers_to(path: Path, data: Path) -> bool:
    """Whether a file is a model file of ours whose weights are in `data`, beside it."""
    if not (data.is_file() and path.is_file()):
        return False
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError):
        return False
    places = {ExternalDataInfo(tensor).location for tensor in model.graph.initializer if uses_external_data(tensor)}
    return data.name in places and any(entry.key == SCHEMA_KEY for entry in model.metadata_props)
