from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes.activation import completeness_error
from saliency_tubes.errors import ModelFileError
from saliency_tubes.head import Head, Hidden
from saliency_tubes.spec import ModelSpec
from tiny import CLASSES, FEATURES, tiny_head, tiny_spec

CHANNELS, *PLACES = FEATURES
UNITS = 4


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def coverage() -> NDArray[np.float32]:
    values = np.abs(random(*PLACES, seed=1)) + np.float32(0.1)
    return np.asarray(values / values.mean(), np.float32)


HEADS = {
    "mean-linear": tiny_head(),
    "weighted-mean-linear": tiny_head(coverage=coverage()),
    "mean-linear-relu-linear": tiny_head(
        weight=random(CLASSES, UNITS), hidden=Hidden(random(UNITS, CHANNELS, seed=2), random(UNITS, seed=3))
    ),
    "weighted-mean-linear-relu-linear": tiny_head(
        weight=random(CLASSES, UNITS),
        coverage=coverage(),
        hidden=Hidden(random(UNITS, CHANNELS, seed=2), random(UNITS, seed=3)),
    ),
}


def logits(head: Head, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """By the definition, in double precision."""
    values = features.astype(np.float64)
    if head.coverage is not None:
        values = values * head.coverage
    pooled = values.mean(axis=(1, 2, 3))
    if head.hidden is not None:
        pooled = np.maximum(head.hidden.weight @ pooled + head.hidden.bias, 0)
    return np.asarray(head.weight @ pooled + head.bias)


@pytest.mark.parametrize("kind", HEADS)
def test_maps_and_bias_add_up_to_the_logits(kind: str) -> None:
    head = HEADS[kind]
    assert head.kind == kind
    for seed in range(40):  # other hidden units are active in each
        features = random(*FEATURES, seed=seed)
        found = head.maps(features, np.arange(CLASSES))
        expected = logits(head, features)
        np.testing.assert_allclose(completeness_error(found.maps, found.bias, expected), 0, atol=2e-6)
        assert np.ptp(expected) > 0.1


def test_heads_are_told_in_words() -> None:
    uneven = np.array([[[0.5, 1.58, 0.92]]], np.float32)
    hidden = HEADS["mean-linear-relu-linear"].hidden

    assert tiny_head().words == "average pooling, linear"
    assert tiny_head(coverage=uneven).words == "average pooling that counts places unevenly (0.5 to 1.6 times), linear"
    assert tiny_head(hidden=hidden).words == "average pooling, linear to 4 units, ReLU, linear"
    assert tiny_head(coverage=uneven, hidden=hidden).words == (
        "average pooling that counts places unevenly (0.5 to 1.6 times), linear to 4 units, ReLU, linear"
    )


@pytest.mark.parametrize("kind", HEADS)
def test_a_batch_is_what_each_clip_is_alone(kind: str) -> None:
    head = HEADS[kind]
    features, labels = random(3, *FEATURES), np.array([[0, 2], [4, 1], [3, 3]])
    together = head.maps(features, labels)
    assert together.maps.shape == (3, 2, *PLACES)
    for one, row, maps, bias in zip(features, labels, together.maps, together.bias, strict=True):
        alone = head.maps(one, row)
        np.testing.assert_allclose(maps, alone.maps, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(bias, alone.bias, rtol=1e-5, atol=1e-6)
        assert alone.maps.dtype == np.float32


def test_the_clip_decides_which_hidden_units_speak() -> None:
    # Two units, two channels: the first reads one channel, the second the other one's negative.
    head = Head(
        weight=np.array([[1, 10]], np.float32),
        bias=np.array([0.5], np.float32),
        hidden=Hidden(np.array([[1, 0], [0, -1]], np.float32), np.array([0, 3], np.float32)),
    )
    features = np.stack([np.full((1, 1, 2), 2), np.full((1, 1, 2), 1)]).astype(np.float32)
    both = head.maps(features, np.array([0]))  # relu(2) + 10 relu(3 - 1)
    np.testing.assert_array_equal(both.maps, np.full((1, 1, 1, 2), 2 - 10))
    np.testing.assert_array_equal(both.bias, [0.5 + 30])
    features[1] = 4
    first = head.maps(features, np.array([0]))  # relu(3 - 4) is silent
    np.testing.assert_array_equal(first.maps, np.full((1, 1, 1, 2), 2))
    np.testing.assert_array_equal(first.bias, [0.5])


def test_places_that_windows_cover_twice_count_twice() -> None:
    head = Head(np.ones((1, 1), np.float32), np.zeros(1, np.float32), np.array([[[0.5, 1.5]]], np.float32))
    np.testing.assert_array_equal(head.maps(np.full((1, 1, 1, 2), 2, np.float32), np.array([0])).maps, [[[[1, 3]]]])


@pytest.mark.parametrize("kind", HEADS)
def test_metadata_keep_the_head(kind: str) -> None:
    spec = tiny_spec(head=HEADS[kind])
    again = ModelSpec.from_metadata(spec.to_metadata()).head
    assert again.kind == kind
    features = random(*FEATURES)
    for one, other in zip(
        (spec.head.maps(features, np.arange(CLASSES)), spec.head.maps(features, np.array([1]))),
        (again.maps(features, np.arange(CLASSES)), again.maps(features, np.array([1]))),
        strict=True,
    ):
        np.testing.assert_array_equal(one.maps, other.maps)
        np.testing.assert_array_equal(one.bias, other.bias)


def without(metadata: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key != f"saliency_tubes.{name}"}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("weighted-mean-linear", lambda m: without(m, "coverage"), "head is 'weighted-mean-linear', expected 'mean-li"),
        ("mean-linear-relu-linear", lambda m: without(m, "hidden_bias"), r"KeyError: 'saliency_tubes\.hidden_bias'"),
        (
            "mean-linear-relu-linear",
            lambda m: (
                m | {"saliency_tubes.spec": m["saliency_tubes.spec"].replace('"hidden_units": 4', '"hidden_units": 3')}
            ),
            "hidden_weight holds 96 bytes, expected 72",
        ),
        (
            "mean-linear-relu-linear",
            lambda m: (
                m | {"saliency_tubes.spec": m["saliency_tubes.spec"].replace('"hidden_units": 4', '"hidden_units": -1')}
            ),
            "hidden_units is",
        ),
        ("weighted-mean-linear", lambda m: m | {"saliency_tubes.coverage": "AAAA"}, "coverage holds 3 bytes"),
    ],
)
def test_metadata_that_contradict_themselves_are_refused(
    kind: str, change: object, message: str, tmp_path: Path
) -> None:
    metadata = tiny_spec(head=HEADS[kind]).to_metadata()
    with pytest.raises(ModelFileError, match=message):
        ModelSpec.from_metadata(change(metadata))  # type: ignore[operator]
