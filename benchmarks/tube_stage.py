"""Claim: the tube stage is at least 300 times faster, with the same values.

From the features of one clip to its normalised tube: (768, 8, 7, 7) -> (16, 224, 224). The reference loops over the
channels, calls ``scipy.ndimage.zoom`` and normalises; ours is one matrix product, three more with the spline matrices,
and the same normalisation.

One call of the reference is a sample. Ours takes less than a millisecond, so its sample is the mean of as many calls in
a row as make up a time that can be compared, on one BLAS thread, as `explain` has it. Beside the result stand the call
that a user meets: the first after a pause, when caches are cold; and the very first, which builds the spline matrices.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from saliency_tubes.activation import class_activation_map
from saliency_tubes.bench.race import Clock, mean_seconds, seconds
from saliency_tubes.blas import one_blas_thread
from saliency_tubes.tube import Tube, build_tubes
from saliency_tubes.upsample import spline_matrix
from saliency_tubes_export import reference

from .agreement import compare_tubes
from .harness import Result, Row, TimesFaster
from .inputs import Inputs

NAME = "tube-stage"
_SHAPE = (16, 224, 224)
_CALLS = 200
_PAUSE_SECONDS = 0.2


def measure(inputs: Inputs, clock: Clock) -> list[Row]:
    """Race the two on the features that the eager network computes for the clip."""
    network = reference.load_network(inputs.weights)
    _, tensor = reference.infer(network, reference.load_clip(inputs.frames).tensor)
    features, weight = np.ascontiguousarray(tensor[0].numpy()), reference.classifier_row(network, inputs.label)

    def ours() -> tuple[Tube, ...]:
        return build_tubes([inputs.label], class_activation_map(features, weight)[None], _SHAPE)

    spline_matrix.cache_clear()
    first = seconds(ours)
    difference = compare_tubes(
        ours()[0].values,
        reference.build_tube(features, weight),
    )
    with one_blas_thread():
        reference_s, ours_s = clock.interleave(
            NAME,
            lambda _: seconds(lambda: reference.build_tube(features, weight)),
            lambda _: mean_seconds(ours, _CALLS),
        )
        single = statistics.median(_seconds_after_a_pause(ours) for _ in range(clock.rounds))
    facts = (
        ("largest difference of the tubes", difference),
        ("single call after a pause, s", single),
        ("first call, building the matrices, s", first),
    )
    return [Result(NAME, "features to tube", "s", ours_s, reference_s, TimesFaster(300), facts)]


def _seconds_after_a_pause(job: Callable[[], object]) -> float:
    time.sleep(_PAUSE_SECONDS)
    return seconds(job)
