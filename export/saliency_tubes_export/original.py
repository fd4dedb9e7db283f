"""A graph as it came, run clip by clip in ONNX Runtime: what the exported file has to compute."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from saliency_tubes import __version__
from saliency_tubes.errors import ExportError, first_line

from .clip_input import ClipInput
from .eager import Eager
from .parity import Original
from .running import cpu_session
from .tail import Tail
from .weights import named_plainly

VERSIONS = (("saliency-tubes", __version__), ("onnx", onnx.__version__), ("onnxruntime", ort.__version__))

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Origin:
    """Where a graph came from, for the metadata of what is made of it.

    Attributes:
        name: of its file, or of the network.
        architecture: what the metadata call the network.
        sha256: of its file or weights, in hexadecimal.
        versions: (package, version) pairs, beside `VERSIONS`: what made the graph.
    """

    name: str
    architecture: str
    sha256: str
    versions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph that is run as it came.

    Attributes:
        origin: where it is from, for messages.
        model: the graph.
        clip: how it takes a clip.
    """

    origin: Origin
    model: onnx.ModelProto
    clip: ClipInput

    def runs(self, names: Sequence[str], clips: NDArray[np.float32]) -> Iterator[tuple[Tensors, Tensors]]:
        """For each clip: what the graph was given, and what these tensors became.

        Raises:
            ExportError: the graph does not have them, or does not run.
        """
        given = {info.name for info in self.model.graph.input}
        computed = [name for name in dict.fromkeys(names) if name not in given]
        session = self._session(computed)
        for i in range(len(clips)):
            feeds = _cast(self.clip.feeds(clips[i : i + 1]), session)
            try:
                found = session.run(None, feeds)
            except Exception as error:  # ONNX Runtime's exceptions share no public base class
                raise ExportError(
                    f"ONNX Runtime cannot run {self.origin.name} on a clip of {'x'.join(map(str, self.clip.shape))}: "
                    f"{first_line(error)}"
                ) from error
            yield feeds, {**feeds, **dict(zip(computed, found, strict=True))}

    def _session(self, names: Sequence[str]) -> ort.InferenceSession:
        twin, folder = named_plainly(self.model)
        computed = {name for node in twin.graph.node for name in node.output}
        if missing := set(names) - computed:
            renamed = f"{self.origin.name}: upgrading the opset has renamed {missing.pop()}"
            raise ExportError(f"{renamed}: export it again with a newer opset")
        del twin.graph.output[:]
        twin.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        try:
            return cpu_session(twin, folder)
        except Exception as error:
            raise ExportError(f"ONNX Runtime cannot load {self.origin.name}: {first_line(error)}") from error


def _cast(feeds: Tensors, session: ort.InferenceSession) -> Tensors:
    """float32 arrays as what a graph takes, which may be float16."""
    halves = {info.name for info in session.get_inputs() if info.type == "tensor(float16)"}
    return {name: array.astype(np.float16) if name in halves else array for name, array in feeds.items()}


def original_of(graph: Graph, tail: Tail, eager: Eager | None, made: str = "") -> Original:
    """What the exported file is measured against.

    Args:
        graph: as it came.
        tail: what in it the file's outputs are.
        eager: the network itself, where it is at hand: its outputs have to be the graph's, and its logits are taken.
        made: what was made of the graph before, in words.
    """
    tensors = [tail.logits, *(one.tensor for one in tail.pathways)]
    outputs = [] if eager is None else [info.name for info in graph.model.graph.output]

    def run(clips: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, volumes = [], []
        for feeds, found in graph.runs([*tensors, *outputs], clips):
            own = {} if eager is None else eager.checked(feeds, {name: found[name] for name in outputs})
            logits.append(own.get(tail.logits, found[tail.logits]).reshape(1, -1))
            volumes.append(tail.features([found[name] for name in tensors[1:]]))
        return np.concatenate(logits), np.concatenate(volumes)

    where = f"graph{made} in ONNX Runtime {ort.__version__}"
    return Original(f"the original {where}" if eager is None else f"{eager.name}, and its {where}", run)
