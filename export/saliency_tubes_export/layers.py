"""Layers by the names that they have in a framework's code."""

import ast
import difflib
from collections.abc import Sequence

import onnx
from saliency_tubes.errors import TailError

from .lookup import Lookup

_SCOPES = "pkg.torch.onnx.name_scopes"  # where PyTorch notes the modules that a node comes from
_FEW = 5


def layer_output(model: onnx.ModelProto, layer: str) -> str:
    """The tensor that a layer gives: that of its last node which has places.

    Args:
        model: the graph, for one clip, its shapes static, with the names and notes that its exporter gave it.
        layer: a module's path, such as ``"layer3.1"``; a part of the nodes' names between slashes; or a node's name.

    Raises:
        TailError: no layer is called so, or none of its tensors has places.
    """
    look = Lookup(model)
    known: dict[str, None] = {}
    found, placeless = None, False
    for node in look.graph.node:
        scopes = _scopes(node)
        known.update(dict.fromkeys(scopes))
        if layer not in scopes:
            continue
        sides = look.shapes.get(node.output[0], ())
        if len(sides) in (4, 5) and sum(side != 1 for side in sides[1:]) > 1:
            found = str(node.output[0])
        placeless = True
    if found is not None:
        return found
    if placeless:
        raise TailError(f"what the layer {layer!r} gives has no places (t, h, w): name an earlier one with --layer")
    raise TailError(f"no layer is called {layer!r}: {_suggestion(layer, list(known))}")


def _scopes(node: onnx.NodeProto) -> list[str]:
    """The names under which a node can be found: of modules, outermost first, and its own."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    parts: list[str] = []
    if noted is not None:
        try:
            found = [one for one in ast.literal_eval(noted) if isinstance(one, str)]
            parts = [name for one in found[:-1] if (name := one.removeprefix("module").removeprefix("."))]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # it is only a note
            parts = []
    if not parts:
        parts = [one for one in str(node.name).split("/") if one][:-1]
    return [*parts, *([str(node.name)] if node.name else [])]


def _suggestion(layer: str, known: Sequence[str]) -> str:
    if not known:
        return "its nodes have no names. Name a tensor with --features"
    close = difflib.get_close_matches(layer, known, n=_FEW, cutoff=0.0)
    return f"the closest names are {', '.join(close)}"
