"""What is measured of cases whose evidence is known, and how it is brought together."""

import builtins
import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import write_folder
from numpy.typing import NDArray
from planted import LENGTH, bright_square, clip_of, write_bright
from saliency_tubes import load_model
from saliency_tubes.choices import Align, Device, Fill
from saliency_tubes.errors import OptionError, OutputError
from saliency_tubes.explanation import Score
from saliency_tubes.faithfulness import command, localisation, looking, plots, rank_correlation
from saliency_tubes.faithfulness import evaluation as evaluation_module
from saliency_tubes.faithfulness.cases import Box, Case, CaseError, Evidence
from saliency_tubes.faithfulness.document import document
from saliency_tubes.faithfulness.evaluation import Evaluation, evaluate
from saliency_tubes.faithfulness.folder import written_to
from saliency_tubes.faithfulness.options import Method, Metric, Options
from saliency_tubes.faithfulness.plots import localisation_figure, perturbation_figure
from saliency_tubes.faithfulness.results import CaseResult, Measured
from saliency_tubes.faithfulness.summary import Summary, bootstrap, summarise, table
from saliency_tubes.model import TubeModel
from saliency_tubes.video import FrameFolder
from tiny import CHANNELS, tiny_spec, write_tiny

BOTH = (Method.TUBE, Method.RANDOM)
PLACES = [(8, 6), (30, 4), (14, 22), (27, 20)]  # all of these lie within the crop


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    """A model that sees brightness."""
    return load_model(write_bright(tmp_path_factory.mktemp("model") / "bright.onnx"), "cpu")


def scenes(first: int = 0, last: int = LENGTH - 1) -> Iterator[Case]:
    for number, (left, top) in enumerate(PLACES):
        mask = bright_square(left, top, first, last)
        moving = mask.any(axis=(1, 2))
        yield Case(f"scene {number}", clip_of(mask), 0, Evidence(mask=mask, moving=moving))


@pytest.fixture(scope="module")
def whole(model: TubeModel) -> Evaluation:
    """Everything measured of scenes whose square is there in the first half."""
    return evaluate(model, scenes(0, 3), Options(align=Align.CENTERS, steps=5))


def mean(evaluation: Evaluation, method: Method, metric: Metric) -> float:
    summary = evaluation.mean(method, metric)
    assert summary is not None
    return summary.mean


class TestMeasuring:
    def test_tubes_of_a_network_that_sees_the_square_point_at_it(self, whole: Evaluation) -> None:
        assert whole.complete
        assert [result.name for result in whole.results] == [f"scene {number}" for number in range(4)]
        assert mean(whole, Method.TUBE, Metric.POINTING_GAME) == 1
        assert mean(whole, Method.TUBE, Metric.TEMPORAL_POINTING_GAME) == 1
        assert mean(whole, Method.TUBE, Metric.ENERGY_RATIO) > 3 > mean(whole, Method.RANDOM, Metric.ENERGY_RATIO)
        assert mean(whole, Method.TUBE, Metric.TOP_IOU) > 0.3 > mean(whole, Method.RANDOM, Metric.TOP_IOU)
        assert mean(whole, Method.TUBE, Metric.DELETION_MEAN) < mean(whole, Method.RANDOM, Metric.DELETION_MEAN) - 0.1
        assert (
            mean(whole, Method.TUBE, Metric.INSERTION_MEAN) > mean(whole, Method.RANDOM, Metric.INSERTION_MEAN) + 0.05
        )
        assert mean(whole, Method.TUBE, Metric.COMPLETENESS_ERROR) < 1e-5

    def test_every_method_has_every_metric_of_volumes(self, whole: Evaluation) -> None:
        own = {Metric.COMPLETENESS_ERROR, Metric.RANDOMISED_CORRELATION}
        found = {(one.method, one.metric) for one in whole.summary()}

        assert found == {(method, metric) for method in Method for metric in Metric if metric not in own} | {
            (Method.TUBE, Metric.COMPLETENESS_ERROR)
        }
        assert {(one.method, one.fill) for one in whole.results[0].curves} == {(m, f) for m in Method for f in Fill}

    def test_curves_run_from_the_clip_to_the_fill_and_back(self, whole: Evaluation) -> None:
        for result in whole.results:
            for curves in result.curves:
                assert len(curves.deletion.scores) == len(curves.insertion.scores) == 6
                assert curves.deletion.scores[0] == pytest.approx(result.label.probability, rel=1e-5)
                assert curves.insertion.scores[-1] == curves.deletion.scores[0]
                assert result.value(curves.method, Metric.deletion(curves.fill)) == curves.deletion.auc
                assert result.value(curves.method, Metric.insertion(curves.fill)) == curves.insertion.auc

    def test_only_what_is_asked_for(self, model: TubeModel) -> None:
        calls = count_runs(model)
        evaluation = evaluate(calls, scenes(), Options(methods=BOTH, fills=()))

        assert {one.method for one in evaluation.summary()} == set(BOTH)
        assert {one.metric for one in evaluation.summary()} == {
            *(Metric.POINTING_GAME, Metric.ENERGY_RATIO, Metric.TOP_IOU, Metric.COMPLETENESS_ERROR)
        }  # the square is there all the time, so that there is nothing to find in time
        assert calls.clips == 0

    @pytest.mark.parametrize("batch", [1, 3, 8])
    def test_what_perturbation_costs(self, model: TubeModel, batch: int) -> None:
        calls = count_runs(model)
        options = Options(methods=BOTH, fills=(Fill.MEAN,), steps=4, batch=batch)

        evaluate(calls, list(scenes())[:1], options)

        assert calls.clips == 2 * (2 * 4 + 1)
        assert calls.largest == batch

    def test_the_batch_changes_nothing(self, model: TubeModel) -> None:
        one, other = (
            evaluate(model, list(scenes(2, 5))[:2], Options(methods=BOTH, fills=(Fill.BLUR,), steps=4, batch=batch))
            for batch in (1, 8)
        )

        assert [s.mean for s in one.summary()] == pytest.approx([s.mean for s in other.summary()], rel=1e-5)

    def test_seeds(self, model: TubeModel) -> None:
        def values(seed: int) -> list[float | None]:
            cases = [next(scenes())] * 4
            results = evaluate(model, cases, Options(methods=(Method.RANDOM,), fills=(), seed=seed)).results
            return [result.value(Method.RANDOM, Metric.ENERGY_RATIO) for result in results]

        assert values(1) == values(1) != values(2)
        assert len(set(values(1))) == 4  # each case has a volume of its own

    def test_without_evidence_the_rest_is_measured(self, model: TubeModel) -> None:
        (case,) = evaluate(
            model, [Case("x", clip_of(bright_square()))], Options(methods=BOTH, fills=(Fill.MEAN,))
        ).results

        assert case.label == case.predicted
        assert {one.metric for one in case.values if one.method is Method.TUBE} == {
            *(Metric.DELETION_MEAN, Metric.INSERTION_MEAN, Metric.AVERAGE_DROP, Metric.INCREASE),
            Metric.COMPLETENESS_ERROR,
        }

    def test_boxes_and_times(self, model: TubeModel) -> None:
        boxes = tuple(Box(frame, 27, 20, 37, 30) for frame in range(4))
        case = Case("x", clip_of(bright_square(27, 20, 0, 3)), "archery", Evidence(boxes=boxes, moving=(0, 3)))

        (result,) = evaluate(model, [case], Options(methods=(Method.TUBE,), fills=(), align=Align.CENTERS)).results

        assert result.value(Method.TUBE, Metric.POINTING_GAME) == 1
        assert result.value(Method.TUBE, Metric.TEMPORAL_POINTING_GAME) == 1

    def test_evidence_that_the_network_does_not_see(self, model: TubeModel) -> None:
        cut_off = np.zeros((LENGTH, 36, 45), dtype=np.bool_)
        cut_off[:, 0] = True  # the topmost row
        between = np.arange(LENGTH) == 1  # of frames 0, 2, 4 and 7
        case = Case("x", clip_of(bright_square()), 0, Evidence(mask=cut_off, moving=between))

        (result,) = evaluate(model, [case], Options(methods=BOTH, fills=())).results

        assert [one.metric for one in result.values] == [Metric.COMPLETENESS_ERROR]
        assert result.notes == (
            "the network sees nothing of the evidence: where it is, is not measured",
            "the network sees no frame in which the evidence happens: when it is, is not measured",
        )

    def test_evidence_everywhere_is_not_measured(self, model: TubeModel) -> None:
        """Every volume would point at it."""
        case = replace(next(scenes()), evidence=Evidence(mask=np.ones((36, 45), dtype=np.bool_), moving=(0, 3)))

        (result,) = evaluate(model, [case], Options(methods=BOTH, fills=())).results

        assert {one.metric for one in result.values} == {Metric.TEMPORAL_POINTING_GAME, Metric.COMPLETENESS_ERROR}
        assert result.notes == ("the evidence is everywhere the network looks: where it is, is not measured",)

    def test_a_network_that_does_not_care_has_no_increase_and_no_drop(self, tmp_path: Path) -> None:
        spec = tiny_spec(weight=np.zeros_like(tiny_spec().head.weight))
        blind = load_model(write_tiny(tmp_path / "blind.onnx", spec), "cpu")

        evaluation = evaluate(blind, scenes(), Options(methods=BOTH, fills=(Fill.BLUR,), steps=2))

        for method in BOTH:
            assert mean(evaluation, method, Metric.INCREASE) == mean(evaluation, method, Metric.AVERAGE_DROP) == 0
        assert mean(evaluation, Method.TUBE, Metric.POINTING_GAME) == 0
        assert mean(evaluation, Method.TUBE, Metric.ENERGY_RATIO) == 1

    def test_one_bad_case_does_not_stop_the_others(self, model: TubeModel, tmp_path: Path) -> None:
        good = next(scenes())
        refused = CaseError("cases.csv line 9", "the path is empty", names_clip=False)
        cases = [
            replace(good, source=tmp_path / "nowhere.mp4", place="cases.csv line 2"),
            replace(good, label="flying"),
            replace(good, evidence=Evidence(mask=np.ones((3, 36, 45), dtype=np.bool_))),
            refused,
            good,
        ]
        seen: list[Any] = []

        evaluation = evaluate(model, cases, Options(methods=BOTH, fills=()), on_case=seen.append)

        assert [error.source for error in evaluation.errors] == [
            "cases.csv line 2",
            "scene 0",
            "scene 0",
            refused.source,
        ]
        assert "nowhere.mp4 does not exist" in evaluation.errors[0].error
        assert "no class is called 'flying'" in evaluation.errors[1].error
        assert "expected bool (8, 36, 45)" in evaluation.errors[2].error
        assert [result.name for result in evaluation.results] == ["scene 0"]
        assert seen == [*evaluation.errors, *evaluation.results]

    @pytest.mark.parametrize("error", [ValueError("shapes differ"), MemoryError(), cv2.error("no")])
    def test_what_nobody_foresaw_does_not_stop_the_others(
        self, model: TubeModel, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        real = localisation.pointing_game

        def fails_once(*rest: Any) -> bool:
            monkeypatch.setattr(localisation, "pointing_game", real)
            raise error

        monkeypatch.setattr(localisation, "pointing_game", fails_once)

        evaluation = evaluate(model, scenes(), Options(methods=(Method.TUBE,), fills=()))

        assert [one.source for one in evaluation.errors] == ["scene 0"]
        assert f"did not foresee ({type(error).__name__}: {str(error) or 'MemoryError'})" in evaluation.errors[0].error
        assert len(evaluation.results) == 3

    def test_what_was_measured_outlives_an_error_between_cases(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Such as that of a terminal that is gone."""
        for name in "ab":
            write_folder(tmp_path / name, clip_of(bright_square()))
        (tmp_path / "cases.csv").write_text("path\na\nb\n")
        write_bright(tmp_path / "bright.onnx")
        said: list[str] = []

        @contextmanager
        def breaking(*_: object) -> Iterator[Any]:
            def seen(outcome: CaseResult) -> None:
                if outcome.name == "b":
                    raise OSError("no terminal")

            yield seen

        monkeypatch.setattr(command, "shown", breaking)
        options = Options(methods=(Method.TUBE,), fills=())
        rest = (None, options, None, None, tmp_path / "out", said.append)

        ending = command.run_command(tmp_path / "cases.csv", tmp_path / "bright.onnx", Device.CPU, *rest)

        assert ending.code == 1
        assert "stopped by an error (OSError: no terminal): what was measured until then follows" in said
        written = json.loads((tmp_path / "out" / "evaluation.json").read_bytes())
        assert (written["complete"], len(written["cases"])) == (False, 2)

    def test_cases_are_not_kept(self, model: TubeModel) -> None:
        """When another case is asked for, at most the clip of the last one is still there."""
        clips: list[weakref.ref[Any]] = []

        def cases() -> Iterator[Case]:
            for case in scenes():
                clips.append(weakref.ref(case.source))
                yield case
                del case
                assert sum(clip() is not None for clip in clips) <= 1

        evaluation = evaluate(model, cases(), Options(methods=BOTH, fills=(Fill.MEAN,), steps=2))

        assert len(evaluation.results) == len(clips) == 4


class TestSanity:
    def test_a_network_compared_with_itself_agrees(self, model: TubeModel) -> None:
        evaluation = evaluate(model, scenes(), Options(methods=(Method.TUBE,), fills=()), randomised=model)

        assert mean(evaluation, Method.TUBE, Metric.RANDOMISED_CORRELATION) == pytest.approx(1)
        assert evaluation.randomised == model.sha256

    @pytest.mark.parametrize("sampling", ["uniform", "dense"])
    def test_the_map_is_compared_with_that_of_the_same_clip_and_class(
        self, model: TubeModel, tmp_path: Path, sampling: str
    ) -> None:
        other = load_model(write_tiny(tmp_path / "other.onnx"), "cpu")
        case = replace(next(scenes()), label=3)

        evaluation = evaluate(
            model,
            [case],
            Options(methods=(Method.TUBE,), fills=(), sampling=sampling),  # type: ignore[arg-type]
            randomised=other,
        )

        one, two = (each.explain(case.source, 3, sampling=sampling).tube.map for each in (model, other))
        expected = rank_correlation(one, two)
        assert mean(evaluation, Method.TUBE, Metric.RANDOMISED_CORRELATION) == pytest.approx(expected, abs=1e-3)

    def test_a_clip_is_read_once(self, model: TubeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        reads: list[Any] = []
        real = FrameFolder.read
        monkeypatch.setattr(FrameFolder, "read", lambda *parts: reads.append(parts) or real(*parts))
        case = replace(next(scenes()), source=write_folder(tmp_path / "clip", next(scenes()).source), evidence=None)

        evaluate(model, [case], Options(methods=(Method.TUBE,), fills=()), randomised=model)

        assert len(reads) == 1

    def test_a_network_with_other_weights_does_not(self, model: TubeModel, tmp_path: Path) -> None:
        weight = np.zeros((5, CHANNELS), dtype=np.float32)
        other = load_model(write_tiny(tmp_path / "other.onnx", tiny_spec(weight=weight)), "cpu")

        evaluation = evaluate(model, scenes(), Options(methods=(Method.TUBE,), fills=()), randomised=other)

        assert mean(evaluation, Method.TUBE, Metric.RANDOMISED_CORRELATION) == 0  # its maps are constant

    def test_another_network_is_refused(self, model: TubeModel, tmp_path: Path) -> None:
        fewer = tiny_spec(weight=tiny_spec().head.weight[:4], bias=tiny_spec().head.bias[:4], labels=None)
        other = load_model(write_tiny(tmp_path / "other.onnx", fewer), "cpu")

        with pytest.raises(OptionError, match=r"other\.onnx is no randomised .*bright\.onnx"):
            evaluate(model, scenes(), randomised=other)


class TestWholeVideos:
    def test_localisation_alone(self, model: TubeModel) -> None:
        options = Options(sampling="dense", align="centers")  # type: ignore[arg-type]

        evaluation = evaluate(model, scenes(0, 3), options)

        assert mean(evaluation, Method.TUBE, Metric.POINTING_GAME) == 1
        assert mean(evaluation, Method.TUBE, Metric.TEMPORAL_POINTING_GAME) == 1
        assert not any(result.curves for result in evaluation.results)
        assert {one.method for one in evaluation.summary()} == set(Method) - {Method.FEATURES}
        assert [note for note in evaluation.results[0].notes if note.startswith("of a whole video")] == [
            "of a whole video, nothing is deleted or inserted: the network does not see it at once",
            "of a whole video, features without weights are not measured",
        ]

    def test_not_every_frame_of_a_long_video(self, model: TubeModel, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(looking, "MOST_FRAMES", 10)
        mask = np.zeros((90, 36, 45), dtype=np.bool_)
        mask[40:75, 20:30, 27:37] = True
        case = Case("long", clip_of(mask), 0, Evidence(mask=mask, moving=(40, 74)))

        (result,) = evaluate(model, [case], Options(fills=(), sampling="dense", align="centers")).results  # type: ignore[arg-type]

        assert result.value(Method.TUBE, Metric.POINTING_GAME) == 1
        assert result.value(Method.TUBE, Metric.TEMPORAL_POINTING_GAME) == 1
        assert result.notes[-1] == "measured at 10 of the video's 90 frames, at even distances"

    def test_steps_that_are_looked_at(self, model: TubeModel, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(looking, "MOST_FRAMES", 5)
        clip = clip_of(bright_square(27, 20, 2, 6)).repeat(10, axis=0)
        explanation = model.explain(clip, 0, sampling="dense")

        look = looking.Look.at(explanation)
        (_, values), *_ = look.volumes([Method.TUBE], model, np.random.default_rng(0))

        assert look.steps.tolist() == [0, 20, 40, 59, 79]
        np.testing.assert_array_equal(values, explanation.tube.values[look.steps])
        assert look.frames.shape == (5, 32, 32, 3)
        np.testing.assert_array_equal(look.clip_frames.indices, look.steps)
        # A cell is two of four frames, two apart: seven frames in all, of 80; the steps are 20 apart.
        assert look.cells == (23, 4, 4)
        assert look.half_cell == 4


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"methods": ("tubes",)}, "there is no method 'tubes': choose among tube, random"),
            ({"methods": ()}, "no method to measure: name one or more of tube"),
            ({"fills": ("black",)}, "there is no fill 'black': choose among blur, mean"),
            ({"steps": 0}, "steps is 0: expected a whole number of at least 1"),
            ({"batch": 0}, "batch is 0: expected"),
            ({"seed": -1}, "seed is -1: expected a whole number of at least 0"),
            ({"fit": "some"}, "there is no fit 'some'"),
            ({"sampling": "sparse"}, "there is no sampling 'sparse'"),
            ({"align": "left"}, "there is no alignment 'left'"),
        ],
    )
    def test_values_that_mean_nothing(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            Options(**options)


class TestSummary:
    def test_bootstrap_by_hand(self) -> None:
        """Of two cases 0 and 1, draws have the means 0, 1/2, 1/2 and 1: a quarter lies at each end."""
        np.testing.assert_array_equal(bootstrap(np.array([0.0, 1.0]), 0), [0, 1])
        np.testing.assert_array_equal(bootstrap(np.array([3.0, 3.0, 3.0]), 0), [3, 3])
        assert bootstrap(np.array([3.0]), 0) is None

    def test_bootstrap_of_many_is_the_normal_interval(self) -> None:
        values = np.random.default_rng(0).normal(5, 2, 4000)

        interval = bootstrap(values, 1)

        half = 1.96 * values.std() / np.sqrt(len(values))
        np.testing.assert_allclose(interval, [values.mean() - half, values.mean() + half], atol=0.1 * half)

    def test_bootstrap_of_curves_is_that_of_their_points(self) -> None:
        curves = np.random.default_rng(0).random((30, 4))

        band = bootstrap(curves, 3)

        assert band is not None
        np.testing.assert_allclose(band[:, 2], bootstrap(curves[:, 2], 3))

    def test_the_seed_decides(self) -> None:
        values = np.random.default_rng(0).random(20)

        np.testing.assert_array_equal(bootstrap(values, 1), bootstrap(values, 1))
        assert not np.array_equal(bootstrap(values, 1), bootstrap(values, 2))

    def test_means_are_over_the_cases_that_have_the_metric(self) -> None:
        results = [result(1.0, 0.25), result(0.0), result(1.0, 0.75)]

        first, second = summarise(results, 0)

        assert (first.metric, first.mean, first.n) == (Metric.POINTING_GAME, pytest.approx(2 / 3), 3)
        assert (second.metric, second.mean, second.n) == (Metric.TEMPORAL_POINTING_GAME, 0.5, 2)
        assert summarise(results[:1], 0)[0].low is None
        assert summarise([], 0) == ()

    def test_the_table_with_few_methods(self) -> None:
        rows = [
            Summary(Method.TUBE, Metric.POINTING_GAME, 0.974, 0.951, 0.99, 400),
            Summary(Method.RANDOM, Metric.POINTING_GAME, 0.1, None, None, 1),
            Summary(Method.TUBE, Metric.DELETION_BLUR, 0.3, 0.2, 0.4, 400),
            Summary(Method.TUBE, Metric.COMPLETENESS_ERROR, 2.1e-6, 1e-6, 3e-6, 400),
        ]

        assert table(rows).splitlines() == [
            "                    n  tube               random",
            "higher is better:",
            "  pointing game   400  0.97 [0.95, 0.99]  0.10",
            "lower is better:",
            "  deletion, blur  400  0.30 [0.20, 0.40]",
            "nearer to 0 is better:",
            "  completeness    400  2e-6 [1e-6, 3e-6]",
        ]

    def test_the_table_with_all_methods_fits_a_hundred_columns(self) -> None:
        own = (Metric.COMPLETENESS_ERROR, Metric.RANDOMISED_CORRELATION)
        rows = [Summary(method, m, 12.345, 9.9949, 150.1, 40000) for m in Metric for method in Method if m not in own]
        rows += [
            Summary(Method.TUBE, own[0], 2e-7, 1e-7, 3e-7, 40000),
            Summary(Method.TUBE, own[1], -0.12, -0.2, 0.1, 9),
        ]

        lines = table(rows).splitlines()

        assert max(map(len, lines)) <= 100
        place = next(i for i, line in enumerate(lines) if "pointing game" in line)
        assert lines[place].split() == ["pointing", "game", "40000", *["12.3"] * 5]
        assert lines[place + 1].split() == ["[9.99,", "150]"] * 5

    def test_an_evaluation_is_summed_up_once(self, whole: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
        fresh = replace(whole)
        first = fresh.summary()
        monkeypatch.setattr(evaluation_module, "summarise", lambda *_: pytest.fail("once more"))

        assert fresh.summary() == first
        assert fresh.mean(Method.TUBE, Metric.POINTING_GAME) == first[0]

    def test_nothing(self) -> None:
        assert table([]) == "nothing was measured"


class TestFiles:
    def test_the_document_holds_everything(self, whole: Evaluation, model: TubeModel) -> None:
        parsed = json.loads(json.dumps(document(whole), allow_nan=False))

        assert parsed["complete"] is True
        assert parsed["model"]["sha256"] == model.sha256
        assert parsed["options"]["fills"] == ["blur", "mean"]
        assert parsed["options"]["align"] == "centers"
        assert parsed["bootstrap"] == {"resamples": 2000, "confidence": 0.95, "seed": 0}
        assert parsed["versions"]["numpy"] == np.__version__
        assert parsed["summary"][0]["metric"] == "pointing_game"
        assert parsed["summary"][0]["better"] == "higher"
        case = parsed["cases"][2]
        assert (case["name"], case["label"]["index"], case["place"]) == ("scene 2", 0, None)
        values = {(one["method"], one["metric"]): one["value"] for one in case["values"]}
        assert values["tube", "pointing_game"] == 1
        assert len(case["curves"]) == 10
        assert len(case["curves"][0]["deletion"]) == 6
        assert parsed["errors"] == []

    def test_a_folder_is_written_and_replaced(self, whole: Evaluation, tmp_path: Path) -> None:
        out = tmp_path / "new" / "out"
        names = ["evaluation-localisation.png", "evaluation-perturbation.png", "evaluation.json"]

        assert (
            sorted(file.name for file in write_into(out, whole)) == sorted(file.name for file in out.iterdir()) == names
        )
        picture = cv2.imread(str(out / names[1]))
        assert picture is not None
        assert picture.std() > 10
        write_into(out, replace(whole, results=(), complete=False))
        assert [file.name for file in out.iterdir()] == ["evaluation.json"]  # no picture of what is gone
        assert json.loads((out / "evaluation.json").read_text())["complete"] is False

    def test_what_goes_wrong_leaves_the_earlier_document(self, whole: Evaluation, tmp_path: Path) -> None:
        write_into(tmp_path, whole)
        before = (tmp_path / "evaluation.json").read_bytes()

        with pytest.raises(ZeroDivisionError, match="on the way"), written_to(tmp_path, print):
            raise ZeroDivisionError("on the way")

        assert (tmp_path / "evaluation.json").read_bytes() == before
        assert not list(tmp_path.glob(".*"))

    def test_numbers_are_written_where_drawing_fails(
        self, whole: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_into(tmp_path, replace(whole, complete=False))
        monkeypatch.setattr(plots, "perturbation_figure", lambda _: 1 / 0)
        notes: list[str] = []

        with written_to(tmp_path, notes.append) as write:
            files = write(whole)

        assert files == (tmp_path / "evaluation.json",)
        assert json.loads(files[0].read_bytes())["complete"] is True
        assert [file.name for file in tmp_path.iterdir()] == ["evaluation.json"]  # nothing of what was before
        assert len(notes) == 1
        assert "no pictures: something went wrong" in notes[0]
        assert "ZeroDivisionError" in notes[0]

    def test_pictures_of_other_names_are_the_users(self, whole: Evaluation, tmp_path: Path) -> None:
        (tmp_path / "evaluation-mine.png").write_text("mine")
        (tmp_path / "evaluation-x.png").mkdir()

        write_into(tmp_path, whole)
        write_into(tmp_path, replace(whole, results=()))

        assert (tmp_path / "evaluation-mine.png").read_text() == "mine"
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "evaluation-mine.png",
            "evaluation-x.png",
            "evaluation.json",
        ]

    def test_a_folder_where_a_picture_goes_is_refused_at_once(self, whole: Evaluation, tmp_path: Path) -> None:
        write_into(tmp_path, replace(whole, results=()))
        (tmp_path / "evaluation-localisation.png").mkdir()

        with (
            pytest.raises(OutputError, match=r"evaluation-localisation\.png is there and is not of `tubes evaluate`"),
            written_to(tmp_path, print),
        ):
            pytest.fail("nothing may begin")

    @pytest.mark.parametrize("name", ["evaluation.json", "evaluation-perturbation.png"])
    def test_files_of_others_are_left_alone(self, whole: Evaluation, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("{}")

        with pytest.raises(OutputError, match=f"{name} is there and is not of `tubes evaluate`: move it"):
            write_into(tmp_path, whole)
        assert (tmp_path / name).read_text() == "{}"
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with (
            pytest.raises(OutputError, match=r"cannot write to .*file/out: .* choose another --out"),
            written_to(tmp_path / "file" / "out", print),
        ):
            pass

    def test_without_matplotlib_the_rest_is_written(
        self, whole: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = builtins.__import__

        def without(name: str, *rest: Any, **named: Any) -> Any:
            if name.startswith("matplotlib"):
                raise ImportError("No module named 'matplotlib'")
            return real(name, *rest, **named)

        for module in ("saliency_tubes.plot", "saliency_tubes.faithfulness.plots"):
            monkeypatch.delitem(__import__("sys").modules, module, raising=False)
        monkeypatch.setattr(builtins, "__import__", without)
        notes: list[str] = []

        with written_to(tmp_path, notes.append) as write:
            files = write(whole)

        assert files == (tmp_path / "evaluation.json",)
        assert len(notes) == 1
        assert "no pictures: plots need matplotlib" in notes[0]
        assert "pip install matplotlib" in notes[0]


class TestFigures:
    def test_panels_are_of_what_was_measured(self, whole: Evaluation, model: TubeModel) -> None:
        points, curves = localisation_figure(whole), perturbation_figure(whole)
        assert points is not None
        assert curves is not None
        assert [axes.get_title() for axes in points.axes] == [
            "pointing game",
            "energy ratio",
            "top IoU",
            "temporal pointing",
        ]
        assert [axes.get_title() for axes in curves.axes] == [
            *("deletion, blur: lower is better", "insertion, blur: higher is better"),
            *("deletion, mean: lower is better", "insertion, mean: higher is better"),
        ]
        line = next(line for line in curves.axes[2].get_lines() if line.get_label() == "random")
        of_random = [
            one for case in whole.results for one in case.curves if (one.method, one.fill) == ("random", "mean")
        ]
        np.testing.assert_allclose(line.get_ydata(), np.mean([one.deletion.scores for one in of_random], axis=0))
        assert not any("approximate" in text.get_text() for figure in (points, curves) for text in figure.texts)
        inexact = replace(whole, approximate="why")
        for figure in (localisation_figure(inexact), perturbation_figure(inexact)):
            assert figure is not None
            assert figure.texts[-1].get_text().endswith("; the tubes are approximate")
        without = evaluate(model, [Case("x", clip_of(bright_square()))], Options(methods=BOTH, fills=()))
        assert localisation_figure(without) is None
        assert perturbation_figure(without) is None


class CountedModel(TubeModel):
    """A model that counts the clips that it is asked about, apart from explanations."""

    clips = 0
    largest = 0

    def activations(self, frames: NDArray[np.uint8]) -> Any:
        self.clips += len(frames)
        self.largest = max(self.largest, len(frames))
        return super().activations(frames)


def count_runs(model: TubeModel) -> CountedModel:
    return CountedModel(model.path, model._session, model.spec)


def write_into(out: Path, evaluation: Evaluation) -> tuple[Path, ...]:
    with written_to(out, print) as write:
        return write(evaluation)


def result(pointing: float, temporal: float | None = None) -> CaseResult:
    values = [Measured(Method.TUBE, Metric.POINTING_GAME, pointing)]
    if temporal is not None:
        values.append(Measured(Method.TUBE, Metric.TEMPORAL_POINTING_GAME, temporal))
    return CaseResult("x", "", Score(0, None, 0.0, 1.0), Score(0, None, 0.0, 1.0), tuple(values), (), (), 0.1)
