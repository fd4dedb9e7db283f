"""What a model file says of itself: the metadata of an exported ONNX, written and read in this one place.

Metadata keys, all under ``saliency_tubes.``:

    schema         the version of this layout, "1"
    spec           JSON: geometry, preprocessing, labels, origin, versions, measured parity
    weight         W of the linear classifier, (K, C), base64 of little-endian float32, row-major
    bias           b of the linear classifier, (K,), the same way
    coverage       V, (t, h, w), where the pooling covers some places more often than others
    hidden_weight  W1, (D, C), and hidden_bias, b1, (D,), where there is a hidden layer; W is (K, D) then
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .choices import Layout, Precision
from .errors import LabelError, ModelFileError
from .head import Head, Hidden
from .metadata import decode, encode, expect, floats, integers, text

SCHEMA = "1"
_PREFIX = "saliency_tubes."
SCHEMA_KEY = _PREFIX + "schema"
FILE_PRECISIONS = (Precision.FP32, Precision.FP16)
_LONGEST_REASON = 400  # characters: it stands on pages and, cut short, on pictures
_FEW = 5  # of many names, as many as a sentence can carry


@dataclass(frozen=True)
class Preprocessing:
    """How a frame becomes the network's input.

    The frame is squashed to `resize_hw` (bilinear), its centre `crop_hw` is cut out, and the exported graph then
    computes ``(rgb / 255 - mean) / std`` for each channel. The runtime does the first two steps only.
    """

    name: str
    resize_hw: tuple[int, int]
    crop_hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Parity:
    """What was measured when the file was exported, against the network it came from.

    Differences are the largest absolute ones; the relative ones divide them by the largest magnitude of the
    reference. `completeness` is ``max_k |mean(map_k) + b_k - logit_k|`` over the largest logit magnitude.
    """

    reference: str
    tolerance: float
    logits_abs: float
    logits_rel: float
    features_abs: float
    features_rel: float
    completeness: float


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """Everything the runtime needs to know about an exported network.

    Attributes:
        architecture: the network's name, such as ``"mfnet-3d"``.
        frames: T, the number of frames the graph takes.
        sampling: how those frames are picked from a clip; ``"uniform"``.
        preprocessing: see `Preprocessing`.
        features_shape: (C, t, h, w) of the graph's ``features`` output.
        layout: how the graph's convolutions are written down.
        precision: what the graph computes in, fp32 or fp16; its outputs are float32 all the same.
        storage: what the file keeps the network's large weights in, fp32 or fp16.
        head: how features become logits.
        labels: K class names, or None when the export was given none.
        checkpoint_name: file name of the weights that were exported.
        checkpoint_sha256: their SHA-256, in hexadecimal.
        versions: (package, version) pairs that made the file.
        parity: what the export measured, or None for a file that was never compared.
        approximate: a sentence on why the maps do not add up to the logits exactly; None where they do.
    """

    architecture: str
    frames: int
    sampling: str
    preprocessing: Preprocessing
    features_shape: tuple[int, int, int, int]
    layout: Layout
    precision: Precision
    head: Head
    labels: tuple[str, ...] | None
    checkpoint_name: str
    checkpoint_sha256: str
    versions: tuple[tuple[str, str], ...]
    parity: Parity | None
    storage: Precision = Precision.FP32
    approximate: str | None = None

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return self.head.num_classes

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3), the shape of one clip of the graph's ``frames`` input."""
        return (self.frames, *self.preprocessing.crop_hw, 3)

    def label_name(self, index: int) -> str | None:
        """The name of class `index`, or None when the file carries no names."""
        return None if self.labels is None else self.labels[index]

    def label_index(self, label: int | np.integer | str) -> int:
        """The class index that `label` stands for.

        Args:
            label: an index, the decimal text of one, a class name, or how the name of one class only begins; case does
                not matter.

        Raises:
            LabelError: out of range, unknown, or the name, or its beginning, of several classes.
        """
        asked = str(label).strip()
        try:
            index = int(asked)
        except ValueError:
            return self._index_of_name(asked)
        if not 0 <= index < self.num_classes:
            raise LabelError(
                f"label {index} is out of range: this model has {self.num_classes} classes, "
                f"so a label is a number from 0 to {self.num_classes - 1}"
            )
        return index

    def _index_of_name(self, name: str) -> int:
        if self.labels is None:
            raise LabelError(
                f"label {name!r} is a name, but this model file carries no class names: give a number from 0 to "
                f"{self.num_classes - 1}, or export again with --labels FILE"
            )
        folded = [known.casefold() for known in self.labels]
        wanted = name.casefold()
        exact = [i for i, known in enumerate(self.labels) if known == name]
        exact = exact or [i for i, known in enumerate(folded) if known == wanted]
        begun = [i for i, known in enumerate(folded) if wanted and known.startswith(wanted)]
        matches = exact or begun
        if len(matches) == 1:
            return matches[0]
        if matches:
            verb, mend = (
                ("names", "its number") if exact else ("begins the names of", "more of the name, or the number")
            )
            found = ", ".join(f"{i} ({self.labels[i]})" for i in matches[:_FEW])
            more = f" and {len(matches) - _FEW} more" if len(matches) > _FEW else ""
            raise LabelError(f"label {name!r} {verb} classes {found}{more}: give {mend}")
        close = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.0)
        names = ", ".join(repr(self.labels[folded.index(one)]) for one in close)
        raise LabelError(f"no class is called {name!r}; the closest names are {names}")

    def describe(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON types."""
        return {
            "architecture": self.architecture,
            "frames": self.frames,
            "sampling": self.sampling,
            "preprocessing": asdict(self.preprocessing),
            "features_shape": self.features_shape,
            "layout": self.layout,
            "precision": self.precision,
            "storage": self.storage,
            "head": self.head.kind,
            "hidden_units": None if self.head.hidden is None else len(self.head.hidden.bias),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "checkpoint_name": self.checkpoint_name,
            "checkpoint_sha256": self.checkpoint_sha256,
            "versions": dict(self.versions),
            "parity": None if self.parity is None else asdict(self.parity),
            "approximate": self.approximate,
        }

    def to_metadata(self) -> dict[str, str]:
        """The ONNX metadata entries that `from_metadata` reads back."""
        head = self.head
        arrays = {"weight": head.weight, "bias": head.bias, "coverage": head.coverage}
        if head.hidden is not None:
            arrays |= {"hidden_weight": head.hidden.weight, "hidden_bias": head.hidden.bias}
        return {
            SCHEMA_KEY: SCHEMA,
            _PREFIX + "spec": json.dumps(self.describe(), allow_nan=False, ensure_ascii=False),
            **{_PREFIX + name: encode(array) for name, array in arrays.items() if array is not None},
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ModelSpec":
        """Read a spec from an ONNX file's metadata, trusting nothing in it.

        Raises:
            ModelFileError: entries are missing, of another schema version, malformed or contradictory.
        """
        if SCHEMA_KEY not in metadata:
            raise ModelFileError(
                "this ONNX file carries no saliency-tubes metadata: it is somebody's plain network, "
                "not one that `tubes export` wrote. Export it with `tubes export NETWORK`"
            )
        schema = metadata[SCHEMA_KEY]
        if schema != SCHEMA:
            raise ModelFileError(
                f"this model file has metadata schema {schema[:20]!r}, and this version reads {SCHEMA!r}: "
                "upgrade saliency-tubes, or export the weights again with `tubes export WEIGHTS`"
            )
        try:
            return cls._from_metadata(metadata)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ModelFileError(
                f"the saliency-tubes metadata of this model file is damaged ({type(error).__name__}: {error}): "
                "export the weights again with `tubes export WEIGHTS`"
            ) from error

    @classmethod
    def _from_metadata(cls, metadata: Mapping[str, str]) -> "ModelSpec":
        document = expect(json.loads(metadata[_PREFIX + "spec"]), dict, "spec")
        shape = integers(document["features_shape"], 4, "features_shape")
        classes = integers([document["num_classes"]], 1, "num_classes")[0]
        preprocessing = expect(document["preprocessing"], dict, "preprocessing")
        labels = document["labels"]
        parity = document["parity"]
        spec = cls(
            architecture=text(document["architecture"], "architecture"),
            frames=integers([document["frames"]], 1, "frames")[0],
            sampling=text(document["sampling"], "sampling"),
            preprocessing=_preprocessing(preprocessing),
            features_shape=(shape[0], shape[1], shape[2], shape[3]),
            layout=Layout(text(document["layout"], "layout")),
            precision=Precision(text(document.get("precision", Precision.FP32), "precision")),
            storage=Precision(text(document.get("storage", document.get("precision", Precision.FP32)), "storage")),
            head=_head(metadata, document, classes, shape),
            labels=None if labels is None else _labels(labels, classes),
            checkpoint_name=text(document["checkpoint_name"], "checkpoint_name"),
            checkpoint_sha256=text(document["checkpoint_sha256"], "checkpoint_sha256"),
            versions=tuple(
                (text(k, "versions"), text(v, "versions"))
                for k, v in expect(document["versions"], dict, "versions").items()
            ),
            parity=None if parity is None else _parity(expect(parity, dict, "parity")),
            approximate=_reason(document.get("approximate")),
        )
        for name, known, found in (
            ("sampling", ("uniform",), spec.sampling),
            ("head", (spec.head.kind,), text(document["head"], "head")),
            ("precision", FILE_PRECISIONS, spec.precision),
            ("storage", FILE_PRECISIONS, spec.storage),
        ):
            if found not in known:
                raise ValueError(f"{name} is '{found}', expected {' or '.join(repr(str(one)) for one in known)}")
        return spec


def stored_precision(metadata: Mapping[str, str]) -> Precision:
    """What a file's graph computes in: fp16 where its metadata says so, fp32 anywhere else."""
    try:
        return Precision(json.loads(metadata[_PREFIX + "spec"]).get("precision", Precision.FP32))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):  # not ours, or damaged: said elsewhere
        return Precision.FP32


def _head(metadata: Mapping[str, str], document: Mapping[str, Any], classes: int, shape: tuple[int, ...]) -> Head:
    def array(name: str, *sides: int) -> NDArray[np.float32]:
        return decode(metadata[_PREFIX + name], sides, name)

    hidden, inputs = None, shape[0]
    if document.get("hidden_units") is not None:
        (inputs,) = integers([document["hidden_units"]], 1, "hidden_units")
        hidden = Hidden(array("hidden_weight", inputs, shape[0]), array("hidden_bias", inputs))
    coverage = array("coverage", *shape[1:]) if _PREFIX + "coverage" in metadata else None
    return Head(array("weight", classes, inputs), array("bias", classes), coverage, hidden)


def _preprocessing(document: Mapping[str, Any]) -> Preprocessing:
    resize = integers(document["resize_hw"], 2, "resize_hw")
    crop = integers(document["crop_hw"], 2, "crop_hw")
    mean = floats(document["mean"], "mean")
    std = floats(document["std"], "std")
    if crop[0] > resize[0] or crop[1] > resize[1]:
        raise ValueError(f"the crop {crop} is larger than the resized frame {resize}")
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError("mean and std must be three numbers each, std positive")
    return Preprocessing(
        name=text(document["name"], "preprocessing"),
        resize_hw=(resize[0], resize[1]),
        crop_hw=(crop[0], crop[1]),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def _parity(document: Mapping[str, Any]) -> Parity:
    numbers = ("tolerance", "logits_abs", "logits_rel", "features_abs", "features_rel", "completeness")
    values = floats([document[name] for name in numbers], "parity")
    return Parity(text(document["reference"], "parity"), *values)


def _reason(value: Any) -> str | None:
    """Why maps are approximate; files from before there were such maps say nothing."""
    if value is None:
        return None
    reason = text(value, "approximate")
    if not reason.strip() or len(reason) > _LONGEST_REASON:
        raise ValueError(f"approximate is a text of {len(reason)} characters, expected 1 to {_LONGEST_REASON}")
    return reason


def _labels(values: Any, classes: int) -> tuple[str, ...]:
    labels: Sequence[Any] = expect(values, list, "labels")
    if len(labels) != classes:
        raise ValueError(f"there are {len(labels)} labels for {classes} classes")
    return tuple(text(label, "labels") for label in labels)
