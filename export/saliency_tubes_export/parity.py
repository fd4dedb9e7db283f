"""Does the exported file compute what the network computes? Names, then shapes, then numbers, then completeness."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from saliency_tubes.activation import completeness_error
from saliency_tubes.choices import Precision
from saliency_tubes.errors import ParityError
from saliency_tubes.session import Session, open_session
from saliency_tubes.spec import ModelSpec, Parity, Preprocessing
from saliency_tubes.synthetic import synthetic_clip

# Relative, of logits and features, by what a file computes in and what it keeps its weights in. In float16, some 200
# roundings one after the other came to between 0.1 % and 2 % of MFNet-3D's largest feature, and to less than 1 % of its
# largest logit: the reference checkpoint and four fresh ones, clips of 32 to 224 pixels, both layouts. Of these
# roundings those of the weights alone came to between 0.03 % and 0.9 % (0.2 % with trained weights).
TOLERANCES = {
    (Precision.FP32, Precision.FP32): 1e-4,
    (Precision.FP32, Precision.FP16): 2e-2,
    (Precision.FP16, Precision.FP16): 5e-2,
}
COMPLETENESS_TOLERANCE = 1e-4  # relative; what is added up there is float32 in every file
_SEED = 0


@dataclass(frozen=True, eq=False)
class Original:
    """The network that was exported, as it was.

    Attributes:
        name: what runs it.
        run: from clips (N, 3, T, H, W) float32, normalised RGB, to logits (N, K) and features (N, C, t, h, w).
    """

    name: str
    run: Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class ParityReport:
    """What was compared, and how it came out.

    Attributes:
        inputs: the file's graph inputs, name and shape.
        outputs: its outputs, name and shape.
        parity: the measured differences.
        notes: what else there is to know of the export.
        approximate: whether the maps need not add up to the logits.
    """

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    parity: Parity
    notes: tuple[str, ...] = ()
    approximate: bool = False

    @property
    def passed(self) -> bool:
        """Whether every relative difference is within its tolerance (NaN is not); approximate maps have none."""
        parity = self.parity
        close = all(value <= parity.tolerance for value in (parity.logits_rel, parity.features_rel))
        return close and (self.approximate or parity.completeness <= COMPLETENESS_TOLERANCE)

    def require(self, original: str) -> None:
        """Let nothing pass that is not equal to the original, which is called so in the message.

        Raises:
            ParityError: a difference is beyond its tolerance.
        """
        if not self.passed:
            raise ParityError(
                f"the exported file differs from the {original} by more than the tolerance, so it was not kept:\n"
                f"{self.table()}"
            )

    def table(self) -> str:
        """The report as lines of text."""
        p = self.parity
        rows = [f"{'input' if i == 0 else '':<13} {name} {shape}" for i, (name, shape) in enumerate(self.inputs)]
        rows += [f"{'outputs' if i == 0 else '':<13} {name} {shape}" for i, (name, shape) in enumerate(self.outputs)]
        rows += [f"compared with {p.reference}", f"{'':<13} {'largest difference':>18} {'relative':>9}"]
        rows += [
            f"{'logits':<13} {p.logits_abs:>18.2e} {p.logits_rel:>9.1e}",
            f"{'features':<13} {p.features_abs:>18.2e} {p.features_rel:>9.1e}",
            f"{'completeness':<13} {'':>18} {p.completeness:>9.1e}",
            f"{'tolerance':<13} {'':>18} {p.tolerance:>9.1e}  {'passed' if self.passed else 'FAILED'}",
        ]
        return "\n".join([*rows, *(f"note: {note}" for note in self.notes)])


def measure(original: Original, path: Path, spec: ModelSpec) -> ParityReport:
    """Run the original network, and the written file in ONNX Runtime, on the same clip, and compare.

    The original's clip is normalised here, in float64, so that the graph's own prefix is compared too. A second clip in
    the same batch checks that the batch axis is free.

    Raises:
        ParityError: the names or shapes of the graph are not what the metadata promises.
    """
    session = open_session(path, "cpu")
    _check_interface(session, spec)
    frames = np.stack([synthetic_clip(spec.input_shape, _SEED), synthetic_clip(spec.input_shape, _SEED + 1)])
    logits, features = original.run(normalised(frames, spec.preprocessing))
    ours = session.run(frames)
    session.digest.result()  # until then the file is open, and some systems let no open file be moved
    with np.errstate(invalid="ignore"):  # infinite values, as float16 may give, become NaN here, and do not pass
        logits_abs, logits_rel = _difference(ours.logits, logits)
        features_abs, features_rel = _difference(ours.features, features)
        found = spec.head.maps(ours.features[0], np.arange(spec.num_classes))
        completeness = completeness_error(found.maps, found.bias, ours.logits[0]).max() / np.abs(ours.logits[0]).max()
    parity = Parity(
        reference=original.name,
        tolerance=TOLERANCES[spec.precision, spec.storage],
        logits_abs=logits_abs,
        logits_rel=logits_rel,
        features_abs=features_abs,
        features_rel=features_rel,
        completeness=float(completeness),
    )
    approximate = spec.approximate is not None
    return ParityReport(_listing(session.inputs), _listing(session.outputs), parity, approximate=approximate)


def normalised(frames: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """(N, T, H, W, 3) uint8 RGB -> (N, 3, T, H, W) float32, ``(rgb / 255 - mean) / std`` by way of float64."""
    mean, std = (np.array(values) for values in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray(((frames / 255 - mean) / std).astype(np.float32).transpose(0, 4, 1, 2, 3))


def _check_interface(session: Session, spec: ModelSpec) -> None:
    promised = {"frames": spec.input_shape, "logits": (spec.num_classes,), "features": spec.features_shape}
    found = session.inputs | session.outputs
    if list(found) != list(promised):
        raise ParityError(f"the exported graph has inputs and outputs {list(found)}, expected {list(promised)}")
    for name, shape in promised.items():
        if found[name][1:] != shape:
            raise ParityError(f"{name} of the exported graph has shape {found[name]}, expected {('N', *shape)}")
        if isinstance(found[name][0], int):
            raise ParityError(
                f"{name} of the exported graph has shape {found[name]}, however many clips go in: export the network "
                "with a batch axis of any length"
            )


def _difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[float, float]:
    """Largest absolute difference, and the same relative to the largest magnitude of `theirs`."""
    largest = float(np.abs(ours - theirs).max())
    scale = float(np.abs(theirs).max())
    return largest, largest / scale if scale else largest


def _listing(shapes: dict[str, tuple[int | str | None, ...]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, "(" + ", ".join(str(side) for side in shape) + ")") for name, shape in shapes.items())
