"""One case: its clip is explained, and the tube and the baselines are measured."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..choices import Fill
from ..errors import ModelFileError
from ..explanation import Explanation, softmax
from ..model import Label, Source, TubeModel
from . import localisation, perturbation
from .agreement import rank_correlation
from .cases import Case
from .looking import Look
from .options import Method, Metric, Options
from .regions import when, where
from .results import CaseResult, Measured, MeasuredCurves

_GPU_BATCH = 8  # on a CPU, clips gain nothing from company
Finding = Measured | MeasuredCurves | str  # a note is a string


@dataclass(frozen=True, eq=False)
class Measurer:
    """Measures cases, one after another.

    Attributes:
        model: whose explanations are measured.
        options: what is measured.
        randomised: the same network with shuffled weights, whose maps should be others; None to leave that out.
    """

    model: TubeModel
    options: Options
    randomised: TubeModel | None

    def measure(self, case: Case, number: int) -> CaseResult:
        """Measure a case.

        Args:
            case: which.
            number: its place among the cases, from which its random volume comes.

        Raises:
            SourceError: its clip or its evidence cannot be read, or do not fit each other.
            LabelError: the model does not have its label.
            ModelFileError: the network gives no finite output, or the runtime fails.
        """
        started = time.perf_counter()
        explanation = self._explain(self.model, case.source, case.label)
        look = Look.at(explanation)
        known = _Known.of(case, look)
        rng = np.random.default_rng((self.options.seed, number))
        findings = list(self._findings(look, known, rng))
        notes = [*explanation.notes, *known.notes, *(one for one in findings if isinstance(one, str))]
        approximation = explanation.approximation
        known_of_all = (self.model.note, None if approximation is None else approximation.note)
        return CaseResult(
            name=case.name,
            place=case.place,
            label=explanation.score(explanation.tube.label),
            predicted=explanation.predicted,
            values=tuple(one for one in findings if isinstance(one, Measured)),
            curves=tuple(one for one in findings if isinstance(one, MeasuredCurves)),
            notes=tuple(note for note in notes if note not in known_of_all),
            seconds=time.perf_counter() - started,
        )

    def _findings(self, look: Look, known: "_Known", rng: np.random.Generator) -> Iterator[Finding]:
        fills = self.options.fills if look.is_window else ()
        fillings = {fill: perturbation.filled(look.frames, fill) for fill in fills}
        for method, volume in look.volumes(self.options.methods, self.model, rng):
            yield from (Measured(method, *one) for one in _localised(volume, known, look))
            if fillings:
                yield from self._perturbed(look, method, volume, fillings)
        if Method.TUBE in self.options.methods:
            yield Measured(Method.TUBE, Metric.COMPLETENESS_ERROR, look.explanation.completeness)
            if self.randomised is not None:
                yield self._agreement(self.randomised, look)
        if not look.is_window:
            yield from _left_out(look, self.options)

    def _perturbed(
        self, look: Look, method: Method, volume: NDArray[np.float32], fillings: Mapping[Fill, NDArray[np.uint8]]
    ) -> Iterator[Finding]:
        label = look.tube.label
        batch = self.options.batch or (1 if self.model.on_cpu else _GPU_BATCH)

        def score(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
            return softmax(self.model.activations(clips).logits)[:, label].astype(np.float32)

        for fill, filling in fillings.items():
            deletion, insertion = perturbation.deletion_insertion(
                look.frames, volume, score, filling, self.options.steps, batch
            )
            yield MeasuredCurves(method, fill, deletion, insertion)
            yield Measured(method, Metric.deletion(fill), deletion.auc)
            yield Measured(method, Metric.insertion(fill), insertion.auc)
        full = np.float32(look.explanation.score(label).probability)  # as exact as what it is compared with
        if full > 0:  # a class may be so unlikely that there is nothing to drop
            masked = score(perturbation.masked_by(look.frames, volume)[None])
            yield Measured(method, Metric.AVERAGE_DROP, perturbation.average_drop(full, masked[0]))
            yield Measured(method, Metric.INCREASE, perturbation.increase(full, masked[0]))

    def _explain(self, model: TubeModel, source: Source, label: Label | None) -> Explanation:
        how = self.options
        return model.explain(source, label, sampling=how.sampling, fit=how.fit, align=how.align)

    def _agreement(self, randomised: TubeModel, look: Look) -> Finding:
        label = look.tube.label
        try:
            if look.is_window:  # its frames are at hand
                features = randomised.activations(look.frames[None]).features[0]
                other = randomised.spec.head.maps(features, np.array([label])).maps[0]
            else:
                other = self._explain(randomised, look.explanation.source, label).tube.map
        except ModelFileError as error:  # shuffled weights may overflow
            return f"the network with shuffled weights explains nothing to compare with: {error}"
        return Measured(Method.TUBE, Metric.RANDOMISED_CORRELATION, rank_correlation(look.tube.map, other))


@dataclass(frozen=True, eq=False)
class _Known:
    """The evidence, as far as metrics are defined with it: (T, H, W) bool where, and (T,) bool when."""

    mask: NDArray[np.bool_] | None = None
    moving: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, case: Case, look: Look) -> "_Known":
        if case.evidence is None:
            return cls()
        frames = look.clip_frames
        mask, moving = where(case.evidence, frames), when(case.evidence, frames)
        notes = []
        if mask is not None and not mask.any():
            notes.append("the network sees nothing of the evidence: where it is, is not measured")
            mask = None
        if mask is not None and mask.all():  # every volume would be right
            notes.append("the evidence is everywhere the network looks: where it is, is not measured")
            mask = None
        if moving is not None and not moving.any():
            notes.append("the network sees no frame in which the evidence happens: when it is, is not measured")
            moving = None
        if moving is not None and moving.all():  # every volume would be right
            moving = None
        return cls(mask, moving, tuple(notes))


def _localised(volume: NDArray[np.float32], known: _Known, look: Look) -> Iterator[tuple[Metric, float]]:
    if known.mask is not None:
        yield Metric.POINTING_GAME, float(localisation.pointing_game(volume, known.mask, look.half_cell))
        yield Metric.ENERGY_RATIO, localisation.energy_ratio(volume, known.mask)
        yield Metric.TOP_IOU, localisation.top_iou(volume, known.mask)
    if known.moving is not None:
        hit = localisation.temporal_pointing_game(volume, known.moving, look.half_cell_in_time)
        yield Metric.TEMPORAL_POINTING_GAME, float(hit)


def _left_out(look: Look, options: Options) -> Iterator[str]:
    """What is not measured of a whole video."""
    if options.fills:
        yield "of a whole video, nothing is deleted or inserted: the network does not see it at once"
    if Method.FEATURES in options.methods:
        yield "of a whole video, features without weights are not measured"
    if len(look.steps) < look.explanation.clip.length:
        yield f"measured at {len(look.steps)} of the video's {look.explanation.clip.length} frames, at even distances"
