"""Running a model file with ONNX Runtime, in general and on the CPU.

This module and `backend_nvidia` alone import it.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .cores import usable_cores
from .errors import ModelFileError, first_line
from .file_digest import FileDigest
from .graph_cache import GraphCache
from .spec import SCHEMA_KEY

RUNTIME = f"onnxruntime {ort.__version__}"
# Warnings and below stay out of the user's terminal: what matters is raised or noted by this package.
_LOG_ERRORS_ONLY = 3
LOG_NOTHING = 4
_GRAPH, _WEIGHTS = "graph.onnx", "graph.bin"
_OUTPUTS = ("logits", "features")
CPU = "CPUExecutionProvider"
_KEPT_BATCHES = 8  # batch sizes that keep their buffers on the device

Shape = tuple[int | str | None, ...]


class OrtBackend:
    """A model file loaded by ONNX Runtime.

    Attributes:
        runtime: name and version.
        metadata: the ONNX file's metadata.
        inputs: shapes of the graph's inputs by name; a dynamic dimension is a string or None.
        outputs: shapes of the graph's outputs by name.
    """

    def __init__(self, inference: ort.InferenceSession) -> None:
        self.runtime = RUNTIME
        self.metadata: Mapping[str, str] = inference.get_modelmeta().custom_metadata_map
        self.inputs: dict[str, Shape] = {node.name: tuple(node.shape) for node in inference.get_inputs()}
        self.outputs: dict[str, Shape] = {node.name: tuple(node.shape) for node in inference.get_outputs()}
        self._inference = inference

    def run(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and features; several threads may call it at once."""
        logits, features = self._inference.run(_OUTPUTS, {"frames": frames})
        return logits, features


@dataclass(frozen=True, eq=False)
class _Buffers:
    """Inputs and outputs of one batch size, in memory that stays where it is."""

    frames: ort.OrtValue
    outputs: tuple[ort.OrtValue, ort.OrtValue]
    binding: Any
    options: ort.RunOptions


class BoundBackend(OrtBackend):
    """An `OrtBackend` whose inputs and outputs have buffers on the device, made once for every batch size.

    Nothing is allocated, and nothing is copied but the frames to the device and the outputs back. Where CUDA graphs are
    on, the kernels of a batch size are recorded in its first run, and replayed as one from then on.

    Args:
        inference: the session.
        device: ``"cuda"`` or ``"cpu"``, where the buffers are.
        graphs: whether the session records CUDA graphs.
    """

    def __init__(self, inference: ort.InferenceSession, device: str, graphs: bool) -> None:
        super().__init__(inference)
        self._device = device
        self._graphs = graphs
        self._made = 0
        self._buffers = OrderedDict[int, _Buffers]()
        # One thread for all runs: the buffers serve one at a time, and a session with CUDA graphs must not be run from
        # several.
        self._thread = ThreadPoolExecutor(1)

    def run(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and features; of several threads that call it, one is served at a time."""
        expected = self.inputs["frames"][1:]
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[1:] != expected:
            raise ValueError(f"got frames of shape {frames.shape} {frames.dtype}, expected uint8 (N, {expected})")
        return self._thread.submit(self._run_bound, np.ascontiguousarray(frames)).result()

    def _run_bound(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        buffers = self._of_batch(len(frames))
        buffers.frames.update_inplace(frames)
        self._inference.run_with_iobinding(buffers.binding, buffers.options)
        logits, features = map(_fetched, buffers.outputs)
        return logits, features

    def _of_batch(self, batch: int) -> _Buffers:
        if batch not in self._buffers:
            if len(self._buffers) == _KEPT_BATCHES:
                self._buffers.popitem(last=False)
            self._buffers[batch] = self._make(batch)
        self._buffers.move_to_end(batch)
        return self._buffers[batch]

    def _make(self, batch: int) -> _Buffers:
        def empty(shape: Sequence[Any], kind: Any) -> ort.OrtValue:
            return ort.OrtValue.ortvalue_from_shape_and_type([batch, *shape[1:]], kind, self._device, 0)

        frames = empty(self.inputs["frames"], np.uint8)
        logits, features = (empty(self.outputs[name], np.float32) for name in _OUTPUTS)
        binding = self._inference.io_binding()
        binding.bind_ortvalue_input("frames", frames)
        for name, output in zip(_OUTPUTS, (logits, features), strict=True):
            binding.bind_ortvalue_output(name, output)
        options = ort.RunOptions()
        if self._graphs:
            # A recorded graph keeps the addresses of its buffers: an identity is never given twice. What is made after
            # buffers were dropped runs without recording (-1), for a recording is never freed.
            self._made += 1
            identity = self._made if self._made <= _KEPT_BATCHES else -1
            options.add_run_config_entry("gpu_graph_id", str(identity))
        return _Buffers(frames, (logits, features), binding, options)


def _fetched(output: ort.OrtValue) -> NDArray[np.float32]:
    """A copy of an output on this side; of one that lies here already, ONNX Runtime gives the memory itself."""
    array: NDArray[np.float32] = output.numpy()
    return array.copy() if output.device_name() == "cpu" else array


def open_cpu(path: Path, cache: GraphCache | None, digest: FileDigest, streams: int) -> OrtBackend:
    """Load a model file on the CPU.

    Args:
        path: an ONNX file.
        cache: where to look for, and keep, the optimised graph. None: optimise it anew.
        digest: the file's SHA-256, to be started or told here.
        streams: how many runs at once the cores are shared out to; 1 for the lowest latency.

    Raises:
        ModelFileError: ONNX Runtime cannot load the file.
    """
    # 0: ONNX Runtime's own choice. With streams, each run has its caller's thread, and all of them share the rest.
    threads = 0 if streams == 1 else max(1, usable_cores() - streams + 1)
    entry = None if cache is None else cache.entry(path, RUNTIME)
    if entry is not None and (sha256 := entry.model_sha256()) is not None:
        options = session_options(threads)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        with contextlib.suppress(ModelFileError):
            backend = OrtBackend(load(entry.folder / _GRAPH, [CPU], options))
            digest.known(sha256)
            entry.used()
            return backend
    digest.start()
    if entry is None:
        return _optimise(path, None, threads)
    return entry.fill(lambda folder: _optimise(path, folder, threads), digest, worth=_is_ours)


def _optimise(path: Path, folder: Path | None, threads: int) -> OrtBackend:
    """The model, optimised for this processor; the optimised graph goes into `folder`."""
    options = session_options(threads)
    if folder is not None:
        options.optimized_model_filepath = str(folder / _GRAPH)
        # Beside the graph, weights are mapped into memory instead of parsed and copied.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    return OrtBackend(load(path, [CPU], options))


def _is_ours(backend: OrtBackend) -> bool:
    """Other models are refused: their graphs are not worth a place."""
    return SCHEMA_KEY in backend.metadata


def load(path: Path, providers: Sequence[Any], options: ort.SessionOptions) -> ort.InferenceSession:
    """A session on the first of `providers` that takes it.

    Raises:
        ModelFileError: ONNX Runtime cannot load the file.
    """
    try:
        # Its own way to fall back would print to stdout, and drop the options.
        return ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ModelFileError(
            f"{path} is not a model that {RUNTIME} can load ({first_line(error)}): "
            "expected an ONNX file that `tubes export WEIGHTS` wrote"
        ) from error


def session_options(threads: int = 0, log: int = _LOG_ERRORS_ONLY) -> ort.SessionOptions:
    """Options of a session: `threads` of its own, 0 for ONNX Runtime's choice, and the least severe line it logs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning between the operators of a run is worth its while; after the run the files are written on these cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Planned memory is laid out anew in the second run, and takes a tenth more; runs are no quicker for it.
    options.enable_mem_pattern = False
    options.log_severity_level = log
    return options
