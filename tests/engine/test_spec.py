import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from saliency_tubes.choices import Precision
from saliency_tubes.errors import LabelError, ModelFileError
from saliency_tubes.spec import ModelSpec
from tiny import tiny_spec


def damaged(**changes: object) -> dict[str, str]:
    metadata = tiny_spec().to_metadata()
    document = json.loads(metadata["saliency_tubes.spec"])
    return metadata | {"saliency_tubes.spec": json.dumps(document | changes)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": None},
        {"parity": None},
        {"precision": Precision.FP16},
        {"storage": Precision.FP16},
        {"approximate": "two layers are not linear"},
        {"approximate": "é" * 400},
    ],
)
def test_metadata_round_trip(changes: dict[str, object]) -> None:
    spec = tiny_spec(**changes)

    again = ModelSpec.from_metadata(spec.to_metadata())

    assert again.describe() == spec.describe()
    np.testing.assert_array_equal(again.head.weight, spec.head.weight)
    np.testing.assert_array_equal(again.head.bias, spec.head.bias)


def test_a_file_that_says_nothing_of_its_precision_is_float32() -> None:
    metadata = tiny_spec(precision=Precision.FP16).to_metadata()
    document = json.loads(metadata["saliency_tubes.spec"])
    assert document.pop("precision") == "fp16"
    del document["storage"]

    spec = ModelSpec.from_metadata(metadata | {"saliency_tubes.spec": json.dumps(document)})

    assert spec.precision is spec.storage is Precision.FP32


def test_a_file_that_says_nothing_of_its_storage_keeps_what_it_computes_in() -> None:
    metadata = tiny_spec(precision=Precision.FP16).to_metadata()
    document = json.loads(metadata["saliency_tubes.spec"])
    del document["storage"]

    spec = ModelSpec.from_metadata(metadata | {"saliency_tubes.spec": json.dumps(document)})

    assert spec.storage is Precision.FP16


def test_a_file_that_says_nothing_of_its_maps_has_exact_ones() -> None:
    metadata = tiny_spec(approximate="two layers are not linear").to_metadata()
    document = json.loads(metadata["saliency_tubes.spec"])
    assert document.pop("approximate") == "two layers are not linear"

    spec = ModelSpec.from_metadata(metadata | {"saliency_tubes.spec": json.dumps(document)})

    assert spec.approximate is None


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("", "approximate is a text of 0 characters, expected 1 to 400"),
        ("  ", "approximate is a text of 2 characters, expected 1 to 400"),
        ("x" * 401, "approximate is a text of 401 characters, expected 1 to 400"),
        ("\x1b[31mred", "approximate holds characters that cannot be printed"),
        ("\u202egnp.exe", "approximate holds characters that cannot be printed"),
        (True, "approximate is bool, expected str"),
        (["why"], "approximate is list, expected str"),
    ],
)
def test_a_reason_that_cannot_be_shown_is_refused(reason: object, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        ModelSpec.from_metadata(damaged(approximate=reason))


def test_weights_are_stored_as_little_endian_float32() -> None:
    spec = tiny_spec()

    stored = base64.b64decode(spec.to_metadata()["saliency_tubes.weight"])

    assert stored[:4] == np.array(spec.head.weight[0, 0], dtype="<f4").tobytes()
    assert len(stored) == 4 * spec.head.weight.size


def test_a_plain_onnx_file_is_told_how_to_be_exported() -> None:
    with pytest.raises(ModelFileError, match=r"carries no saliency-tubes metadata.*`tubes export NETWORK`"):
        ModelSpec.from_metadata({"author": "somebody"})


def test_another_schema_version_is_refused() -> None:
    with pytest.raises(ModelFileError, match=r"metadata schema '2', and this version reads '1'"):
        ModelSpec.from_metadata(tiny_spec().to_metadata() | {"saliency_tubes.schema": "2"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames is .0., expected 1 whole number"),
        ({"frames": 1e3}, "frames is .1000.0., expected 1 whole number"),
        ({"frames": True}, "frames is .True., expected"),
        ({"features_shape": [6, 2, 4]}, "expected 4 whole number"),
        ({"features_shape": [7, 2, 4, 4]}, "weight holds 120 bytes, expected 140"),
        ({"num_classes": 6}, "weight holds 120 bytes, expected 144"),
        ({"labels": ["a", "b"]}, "there are 2 labels for 5 classes"),
        ({"labels": ["a", "b", "c", "d", "\x1b[2J"]}, "labels holds characters that cannot be printed"),
        ({"labels": "abcde"}, "labels is str, expected list"),
        ({"architecture": 3}, "architecture is int, expected str"),
        ({"sampling": "random"}, "sampling is 'random', expected 'uniform'"),
        ({"head": "mlp"}, "head is 'mlp', expected 'mean-linear'"),
        ({"precision": "fp8"}, "'fp8' is not a valid Precision"),
        ({"precision": "tf32"}, "precision is 'tf32', expected 'fp32' or 'fp16'"),
        ({"precision": None}, "precision is NoneType, expected str"),
        ({"storage": "bf16"}, "storage is 'bf16', expected 'fp32' or 'fp16'"),
        ({"versions": []}, "versions is list, expected dict"),
        ({"parity": {"reference": "x"}}, "KeyError: 'tolerance'"),
        ({"preprocessing": {}}, "KeyError"),
    ],
)
def test_contradictory_metadata_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelFileError, match=rf"metadata of this model file is damaged \(.*{message}"):
        ModelSpec.from_metadata(damaged(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_hw": [99, 32]}, "larger than the resized frame"),
        ({"std": [0.2, 0.0, 0.2]}, "std positive"),
        ({"mean": [0.2, 0.2]}, "three numbers each"),
        ({"mean": [0.2, "0.2", 0.2]}, "expected finite numbers"),
    ],
)
def test_impossible_preprocessing_is_refused(changes: dict[str, object], message: str) -> None:
    preprocessing = tiny_spec().describe()["preprocessing"] | changes

    with pytest.raises(ModelFileError, match=message):
        ModelSpec.from_metadata(damaged(preprocessing=preprocessing))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("spec", "{", "JSONDecodeError"),
        ("spec", "[" * 100_000, "RecursionError"),
        ("spec", "[]", "spec is list, expected dict"),
        ("weight", "????", "weight is not base64"),
        ("weight", "AAAA", "weight holds 3 bytes"),
        ("bias", base64.b64encode(np.full(5, np.nan, "<f4").tobytes()).decode(), "bias holds values that are not fin"),
    ],
)
def test_damaged_entries_are_refused(key: str, value: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        ModelSpec.from_metadata(tiny_spec().to_metadata() | {f"saliency_tubes.{key}": value})


def test_a_missing_entry_is_refused() -> None:
    metadata = tiny_spec().to_metadata()
    del metadata["saliency_tubes.bias"]

    with pytest.raises(ModelFileError, match=r"KeyError: 'saliency_tubes\.bias'"):
        ModelSpec.from_metadata(metadata)


@pytest.mark.parametrize(("label", "index"), [(0, 0), (4, 4), ("3", 3), (" 3 ", 3), ("bowling", 1), ("BOWLing", 1)])
def test_labels_are_indices_or_names(label: int | str, index: int) -> None:
    assert tiny_spec().label_index(label) == index


@pytest.mark.parametrize("label", [5, -1, "5", "-1", 10**30])
def test_a_label_out_of_range_is_told_the_range(label: int | str) -> None:
    with pytest.raises(LabelError, match=r"out of range: this model has 5 classes.*from 0 to 4"):
        tiny_spec().label_index(label)


def test_an_unknown_name_is_told_the_three_closest() -> None:
    with pytest.raises(LabelError, match=r"no class is called 'boling'; the closest names are 'bowling'(, '\w+'){2}$"):
        tiny_spec().label_index("boling")


def test_a_name_needs_a_model_with_names() -> None:
    with pytest.raises(LabelError, match=r"carries no class names: give a number from 0 to 4.*--labels FILE"):
        replace(tiny_spec(), labels=None).label_index("bowling")


@pytest.mark.parametrize(("text", "index"), [("bowl", 1), ("B", 1), ("ea", 4), ("DANCING", 3)])
def test_how_a_name_begins_is_enough_where_one_name_begins_so(text: str, index: int) -> None:
    assert tiny_spec().label_index(text) == index


def test_a_whole_name_wins_over_longer_ones_that_begin_with_it() -> None:
    spec = tiny_spec(labels=("running", "run", "runner", "a", "b"))

    assert spec.label_index("run") == 1


def test_a_beginning_of_several_names_lists_them() -> None:
    labels = tuple(f"kick {what}" for what in "abcde")

    with pytest.raises(
        LabelError, match=r"'kick' begins the names of classes 0 \(kick a\), .*4 \(kick e\): give more of"
    ):
        tiny_spec(labels=labels).label_index("kick")


def test_the_exact_spelling_wins_over_another_case() -> None:
    spec = tiny_spec(labels=("bowling", "Bowling", "a", "b", "c"))

    assert (spec.label_index("Bowling"), spec.label_index("bowling")) == (1, 0)
    with pytest.raises(LabelError, match=r"names classes 0 \(bowling\), 1 \(Bowling\)"):
        spec.label_index("BOWLING")


def test_nothing_begins_with_an_empty_label() -> None:
    with pytest.raises(LabelError, match="no class is called ''"):
        tiny_spec(labels=("one", "two", "three", "four", "five")).label_index("")


def test_a_name_of_two_classes_is_ambiguous() -> None:
    with pytest.raises(LabelError, match=r"names classes 0 \(Run\), 3 \(run\): give its number"):
        replace(tiny_spec(), labels=("Run", "b", "c", "run", "e")).label_index("RUN")
