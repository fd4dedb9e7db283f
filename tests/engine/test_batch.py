import json
import os
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import moving_square, write_folder, write_video
from saliency_tubes import load_model
from saliency_tubes.batch.command import STOP_WORDS, save_as
from saliency_tubes.batch.folder import locked
from saliency_tubes.batch.plan import folder_names, plan
from saliency_tubes.batch.results import Record, open_results
from saliency_tubes.batch.run import BatchSummary, Procedure, run_batch
from saliency_tubes.batch.sources import Named, find_clips
from saliency_tubes.choices import Artifact
from saliency_tubes.errors import LabelError, OutputError
from saliency_tubes.explanation import Explanation
from saliency_tubes.model import Job, TubeModel
from saliency_tubes.progress import Pace, shown
from tiny import LABELS, tiny_spec, write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TubeModel:
    return load_model(write_tiny(tmp_path_factory.mktemp("model") / "tubes.onnx"), "cpu")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three clips in `v`, which is also the current one."""
    for index, name in enumerate(("a", "b", "c")):
        (tmp_path / "v").mkdir(exist_ok=True)
        write_video(tmp_path / "v" / f"{name}.mp4", moving_square(8 + index))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Batch:
    """Runs batches into `out`, and knows which clips the last one explained."""

    def __init__(self, model: TubeModel) -> None:
        self.model = model
        self.explained: list[str] = []

    def __call__(self, *sources: str, out: str = "out", **options: Any) -> BatchSummary:
        settings = {"model": "abc", **options.pop("settings", {})}
        procedure = Procedure(
            explain=partial(self._explain, top_k=options.pop("top_k", 0)),
            save=options.pop("save", partial(save_as, artifacts=[Artifact.GIF])),
            settings=settings,
        )
        self.explained = []
        return run_batch(find_clips(sources, Path(out)), Path(out), self.model.spec, procedure, **options)

    def _explain(
        self, jobs: Iterable[Job], *, top_k: int, finish: Callable[[Job, Explanation], Record]
    ) -> Iterator[Any]:
        def seen() -> Iterator[Job]:
            for job in jobs:
                self.explained.append(job.source.name)
                yield job

        yield from self.model.explain_jobs(seen(), finish, top_k=top_k)


@pytest.fixture
def batch(model: TubeModel, place: Path) -> Batch:
    return Batch(model)


def lines(out: str = "out") -> dict[str, dict[str, Any]]:
    """The lines of the record by the names of their sources."""
    documents = list(map(json.loads, Path(out, "results.jsonl").read_text().splitlines()))
    named = {Path(document["source"]).name: document for document in documents}
    assert len(named) == len(documents)
    return named


def counts(summary: BatchSummary) -> tuple[int, int, int]:
    return summary.explained, summary.before, summary.failed


def test_a_batch_writes_a_line_a_clip_and_their_folders(batch: Batch, place: Path) -> None:
    summary = batch("v", labels=["bowling"], top_k=1)

    assert counts(summary) == (3, 0, 0)
    assert (summary.results, summary.gallery) == (Path("out/results.jsonl"), Path("out/index.html"))
    line = lines()["b.mp4"]
    assert line["source"] == str(place / "v" / "b.mp4")
    assert (line["status"], line["name"], line["error"]) == ("done", "b", None)
    assert line["seconds"] > 0
    first = line["labels"][0]
    assert (first["index"], first["name"], first["folder"]) == (1, "bowling", "b/1")
    assert first["files"] == ["info.json", "overlay.gif"]
    info = json.loads(Path("out/b/1/info.json").read_text())
    assert first["logit"] == info["label"]["logit"]
    assert line["predicted"] == info["predicted"]
    assert 0 <= first["statistics"]["border_energy"] <= 1
    assert first["statistics"]["peak_frame"] in info["sampling"]["frame_indices"]
    assert all(Path("out", label["thumbnail"]).read_bytes()[:2] == b"\xff\xd8" for label in line["labels"])
    assert {label["index"] for label in line["labels"]} == {1, line["predicted"]["index"]}
    assert all(name in Path("out/index.html").read_text() for name in ('"a"', '"b"', '"c"'))


def test_what_is_done_is_not_done_again(batch: Batch) -> None:
    batch("v")
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.name != "index.html"}

    summary = batch("v")

    assert counts(summary) == (0, 3, 0)
    assert batch.explained == []
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.name != "index.html"} == before


def test_a_torn_last_line_is_done_again(batch: Batch) -> None:
    batch("v")
    record = Path("out/results.jsonl")
    whole = record.read_bytes()
    for torn in (
        whole[:-1],
        whole[:-40],
        whole[: whole.rindex(b'{"schema"') + 5],
        whole + b'{"sch',
        whole[:-5] + b"\0" * 4 + b"\n",
    ):
        record.write_bytes(torn)
        done_again = [] if torn.startswith(whole) else ["c.mp4"]

        summary = batch("v")

        assert batch.explained == done_again
        assert counts(summary) == (len(done_again), 3 - len(done_again), 0)
        assert len(lines()) == 3


def test_a_first_line_that_is_torn_is_ours_still(batch: Batch) -> None:
    Path("out").mkdir()
    Path("out/results.jsonl").write_bytes(b'{"schema": "saliency-tu')

    assert counts(batch("v")) == (3, 0, 0)
    assert len(lines()) == 3


@pytest.mark.parametrize("spoil", ["out/b/{}", "out/b/{}/overlay.gif", "empty out/b/{}/overlay.gif", "thumbnail"])
def test_a_line_counts_only_with_its_files(batch: Batch, spoil: str) -> None:
    batch("v")
    label = lines()["b.mp4"]["labels"][0]
    how, _, name = spoil.rpartition(" ")
    path = Path("out", label["thumbnail"]) if spoil == "thumbnail" else Path(name.format(label["index"]))
    if how:
        path.write_bytes(b"")
    else:
        path.rename("gone")

    assert counts(batch("v")) == (1, 2, 0)
    assert batch.explained == ["b.mp4"]
    assert path.exists()
    assert len(lines()) == 3


def test_a_changed_clip_model_option_or_label_is_done_again(batch: Batch) -> None:
    batch("v", labels=[2])
    os.utime("v/a.mp4", (1, 1))
    batch("v", labels=[2])
    assert batch.explained == ["a.mp4"]
    write_video(Path("v/c.mp4"), moving_square(15))
    batch("v", labels=[2])
    assert batch.explained == ["c.mp4"]
    batch("v", labels=[2], settings={"model": "other"})
    assert len(batch.explained) == 3
    batch("v", labels=[2], settings={"model": "other", "stride": 2})
    assert len(batch.explained) == 3
    batch("v", labels=[3], settings={"model": "other", "stride": 2})
    assert len(batch.explained) == 3
    assert [line["labels"][0]["index"] for line in lines().values()] == [3, 3, 3]


def test_a_changed_frame_of_a_folder_is_noticed(batch: Batch) -> None:
    write_folder(Path("frames"), moving_square(5))
    batch("frames")
    assert counts(batch("frames")) == (0, 1, 0)
    os.utime("frames/frame3.png", (1, 1))

    assert counts(batch("frames")) == (1, 0, 0)


def test_clips_that_come_later_join_the_others(batch: Batch) -> None:
    batch("v/a.mp4")
    batch("v/b.mp4")

    assert set(lines()) == {"a.mp4", "b.mp4"}
    assert counts(batch("v")) == (1, 2, 0)


def test_a_bad_clip_is_recorded_and_tried_again(batch: Batch) -> None:
    Path("v/aa.mp4").write_bytes(b"nonsense")

    assert counts(batch("v")) == (3, 0, 1)
    line = lines()["aa.mp4"]
    assert line["status"] == "failed"
    assert "aa.mp4 cannot be opened as a video" in line["error"]
    assert (line["predicted"], line["labels"]) == (None, [])
    assert "cannot be opened as a video" in Path("out/index.html").read_text()

    write_video(Path("v/aa.mp4"), moving_square(6))
    assert counts(batch("v")) == (1, 3, 0)
    assert batch.explained == ["aa.mp4"]
    assert lines()["aa.mp4"]["status"] == "done"


def test_failures_of_other_clips_stay_on_record(batch: Batch) -> None:
    Path("bad.mp4").write_bytes(b"nonsense")
    batch("bad.mp4")

    assert counts(batch("v")) == (3, 0, 0)
    assert lines()["bad.mp4"]["status"] == "failed"


def test_outputs_that_cannot_be_written_are_that_clips_failure(batch: Batch) -> None:
    (theirs := Path("out/b/2/thesis.txt")).parent.mkdir(parents=True)
    theirs.write_text("years of work")

    assert counts(batch("v", labels=[2])) == (2, 0, 1)
    assert "holds files that this program did not write (thesis.txt)" in lines()["b.mp4"]["error"]
    assert theirs.read_text() == "years of work"


def test_labels_of_a_list_and_a_row_with_an_unknown_one(batch: Batch) -> None:
    Path("list.csv").write_text("path,label\nv/a.mp4,bowling\nv/b.mp4,flying\nv/a.mp4,3\nv/../v/a.mp4,1\nv/c.mp4,\n")

    assert counts(batch("list.csv", labels=["eating"])) == (2, 0, 1)
    found = lines()
    assert [label["index"] for label in found["a.mp4"]["labels"]] == [1, 3]
    assert [label["index"] for label in found["c.mp4"]["labels"]] == [4]
    refused = found["list.csv line 3"]
    assert "flying" in refused["error"]
    assert (refused["status"], refused["fingerprint"]) == ("failed", None)
    assert counts(batch("list.csv", labels=["eating"])) == (0, 2, 1)
    assert len(lines()) == 3


def test_a_folder_for_all_labels_together_is_on_record(batch: Batch) -> None:
    save = partial(save_as, artifacts=[Artifact.HTML])

    batch("v/a.mp4", labels=[1, 2], save=save)
    assert lines()["a.mp4"]["together"] == {"folder": "a/1+2", "files": ["info.json", "report.html"]}
    assert counts(batch("v/a.mp4", labels=[1, 2], save=save)) == (0, 1, 0)
    Path("out/a/1+2/report.html").unlink()

    assert counts(batch("v/a.mp4", labels=[1, 2], save=save)) == (1, 0, 0)


def test_a_wrong_label_for_all_is_an_error_before_anything_is_done(batch: Batch) -> None:
    with pytest.raises(LabelError, match="label 5 is out of range"):
        batch("v", labels=[5])
    assert batch.explained == []


def test_clips_of_one_name_keep_a_folder_each(batch: Batch) -> None:
    for folder in ("x", "y"):
        Path("many", folder).mkdir(parents=True)
        write_video(Path("many", folder, "a.mp4"), moving_square(6 if folder == "x" else 12))

    batch("many")
    assert {
        Path(line["source"]).parent.name: line["name"]
        for line in map(json.loads, Path("out/results.jsonl").read_text().splitlines())
    } == {"x": "x_a", "y": "y_a"}
    batch("v", "many")

    assert batch.explained == ["a.mp4", "b.mp4", "c.mp4"]
    lengths = {
        name: json.loads(next(Path("out", name).glob("*/info.json")).read_text())["clip"]["length"]
        for name in ("a", "x_a", "y_a")
    }
    assert lengths == {"a": 8, "x_a": 6, "y_a": 12}


def names(*paths: str, known: dict[str, str] | None = None) -> list[str]:
    found = folder_names({path: Path(path) for path in paths}, known or {}, ["index.html", ".lock"])
    return [found[path] for path in paths]


def test_folder_names_are_distinct_and_readable() -> None:
    assert names("/v/a.mp4", "/v/b.mp4") == ["a", "b"]
    assert names("/v/one/a.mp4", "/v/two/a.avi") == ["one_a", "two_a"]
    assert names("/p/v/a.mp4", "/q/v/a.mp4") == ["p_v_a", "q_v_a"]
    assert names("/v/A.mp4", "/w/a.mp4") == ["v_A", "w_a"]
    assert names("/v/caf\u00e9.mp4", "/w/cafe\u0301.mp4") == ["v_caf\u00e9", "w_cafe\u0301"]
    assert names("/v/one/a.mp4", "/v/two/a.mp4", "/v/one_a.mp4") == ["v_one_a", "v_two_a", "one_a"]
    assert names("/v/index.html.mp4")[0] == "v_index.html"
    one, two = names("/v/a.mp4", "/v/a.avi")
    assert one != two
    assert one.startswith("a~")
    assert len(one) == 18
    assert all(len(os.fsencode(name)) <= 255 for name in names(f"/video/{'x' * 251}.mp4", f"/wideo/{'x' * 251}.mp4"))


def test_folder_names_stay_whatever_comes_later() -> None:
    assert names("/v/a.mp4", "/w/a.mp4", known={"/w/a.mp4": "a"}) == ["v_a", "a"]
    assert names("/v/a.mp4", known={"/gone/a.mp4": "a", "/gone/b.mp4": "v_a"})[0].endswith("_a") is False
    assert names("/w/a.mp4", "/v/a.mp4") == ["w_a", "v_a"]  # in whatever order


def test_a_clip_named_through_different_paths_is_one(place: Path) -> None:
    Path("link.mp4").symlink_to("v/a.mp4")
    clips = [
        Named(Path("link.mp4"), "1"),
        Named(Path("v/a.mp4"), "bowling"),
        Named(place / "v" / ".." / "v" / "a.mp4", "2"),
        Named(Path("v/a.mp4")),
    ]

    (planned,), refused = plan(clips, tiny_spec(), {}, known={}, reserved=[])

    assert planned.source == place / "v" / "a.mp4"
    assert planned.labels == (1, 2)
    assert planned.name == "link"
    assert refused == []


def test_a_folder_is_for_one_batch_at_a_time(batch: Batch) -> None:
    with locked(Path("out")), pytest.raises(OutputError, match="another `tubes batch` is writing to out: wait for it"):
        batch("v")

    assert batch.explained == []
    assert counts(batch("v")) == (3, 0, 0)


@pytest.mark.parametrize("theirs", ["results.jsonl", "index.html", "gallery/me.jpg"])
def test_what_others_wrote_is_left_alone(batch: Batch, theirs: str) -> None:
    path = Path("out", theirs)
    path.parent.mkdir(parents=True)
    path.write_text("precious")

    with pytest.raises(
        OutputError, match=r"out/(results\.jsonl|index\.html|gallery) is there and was not written by this"
    ):
        batch("v")

    assert path.read_text() == "precious"
    assert [entry.name for entry in Path("out").iterdir()] == [theirs.split("/")[0]]


@pytest.mark.parametrize(
    "line",
    [
        "mine",
        '{"schema": "saliency-tubes/results/1", "status": "done"}',
        '{"schema": "saliency-tubes/results/2"}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_not_ours_is_not_lost(batch: Batch, line: str) -> None:
    batch("v")
    record = Path("out/results.jsonl")
    content = record.read_text()
    record.write_text(content.replace("\n", f"\n{line}\n", 1))

    with pytest.raises(OutputError, match=r"results\.jsonl line 2 was not written by this version"):
        batch("v")

    assert line in record.read_text()


def test_an_out_that_cannot_be(batch: Batch) -> None:
    Path("file").write_text("x")
    with pytest.raises(OutputError, match="cannot write to file/out: Not a directory"):
        batch("v", out="file/out")
    with pytest.raises(OutputError, match="cannot write to file: File exists"):
        batch("v", out="file")


def test_an_interruption_keeps_what_is_finished(batch: Batch) -> None:
    @contextmanager
    def watch(total: int) -> Iterator[Callable[[Record], None]]:
        def seen(record: Record) -> None:
            if record.name == "b":
                raise KeyboardInterrupt

        yield seen

    with pytest.raises(KeyboardInterrupt):
        batch("v", watch=watch)

    finished = set(lines())  # the clip behind it may have been in hand
    assert finished >= {"a.mp4", "b.mp4"}
    assert '"b"' in Path("out/index.html").read_text()
    assert counts(batch("v")) == (3 - len(finished), len(finished), 0)


def test_records_survive_many_threads(tmp_path: Path) -> None:
    record = Record("/v/a.mp4", "a", None, (), None, (), "bad", None, "f")
    with open_results(tmp_path / "out") as results:
        threads = [
            threading.Thread(target=lambda i=i: results.append(replace(record, source=f"/v/{i}.mp4", error="x" * 9000)))
            for i in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with open_results(tmp_path / "out") as results:
        assert sorted(one.source for one in results.records) == sorted(f"/v/{i}.mp4" for i in range(20))


def test_a_record_comes_back_as_it_was(batch: Batch) -> None:
    strange = b"v/caf\xe9 <script>\xe2\x80\xa8.mp4"
    Path("v/a.mp4").rename(os.fsdecode(strange))
    batch("v")

    with open_results(Path("out")) as results:
        assert [Record.from_line(record.line()) for record in results.records] == results.records
        assert os.path.realpath(strange) in {os.fsencode(record.source) for record in results.records}
    assert b"\n".join(record.line().strip() for record in results.records).isascii()


def test_approximate_maps_are_on_record(place: Path) -> None:
    batch = Batch(load_model(write_tiny(place / "approximate.onnx", tiny_spec(approximate="<why>")), "cpu"))
    batch("v")

    line = lines()["a.mp4"]
    assert line["approximate"] == "<why>"
    assert line["notes"][0].startswith("approximate: <why>; the maps miss the logit by ")
    with open_results(Path("out")) as results:
        assert [Record.from_line(record.line()) for record in results.records] == results.records
        assert {record.approximate for record in results.records} == {"<why>"}


def test_a_line_from_before_there_were_approximate_maps_is_of_exact_ones(batch: Batch) -> None:
    batch("v")
    document = lines()["a.mp4"]
    assert document.pop("approximate") is None

    assert Record.from_line(json.dumps(document).encode()).approximate is None


def test_a_line_that_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path) -> None:
    record = Record("/v/a.mp4", "a", None, (), None, (), "bad", None, "f")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_results(tmp_path / "out") as results:
        results.append(record)
        whole = (tmp_path / "out" / "results.jsonl").read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
        try:
            with pytest.raises(OutputError, match=r"cannot write to .*results\.jsonl: No space left on device"):
                results.append(record)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        results.append(record)

    assert (tmp_path / "out" / "results.jsonl").read_bytes() == whole * 2


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


DONE = Record("/v/a.mp4", "a", None, (), None, (), None, 1.0, "f")
FAILED = replace(DONE, error="/v/a.mp4 is bad")


def test_the_pace_in_words() -> None:
    clock = Clock()
    pace = Pace(2000, clock)
    assert str(pace) == "0 of 2000 clips"
    clock.now += 10
    for record in [DONE] * 19 + [FAILED, replace(FAILED, fingerprint=None)]:
        pace.count(record)
    assert str(pace) == "20 of 2000 clips, 2 failed, 2.0 clips/s, 16 min 30 s left".replace(" 30 s", "")
    clock.now += 3590
    assert str(pace) == "20 of 2000 clips, 2 failed, 0.3 clips/min, 99 h 00 min left"


def test_without_a_terminal_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    said: list[str] = []
    with shown(3, said.append, STOP_WORDS, clock) as seen:
        for record in (DONE, replace(FAILED, source="list.csv line 2", fingerprint=None), FAILED):
            clock.now += 6
            seen(record)

    assert said == [
        "failed: list.csv line 2: /v/a.mp4 is bad",
        "1 of 3 clips, 1 failed, 5.0 clips/min, 24 s left",
        "failed: /v/a.mp4 is bad",
    ]


def test_a_stop_says_how_to_go_on() -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), shown(3, said.append, STOP_WORDS) as seen:
        seen(DONE)
        raise KeyboardInterrupt

    assert said == ["stopped. What is finished is on record; the same command goes on from there"]


def test_a_constant_tube_has_a_thumbnail_and_no_numbers(place: Path, tmp_path: Path) -> None:
    spec = tiny_spec(weight=np.zeros_like(tiny_spec().head.weight))
    batch = Batch(load_model(write_tiny(tmp_path / "flat.onnx", spec), "cpu"))

    assert counts(batch("v/a.mp4")) == (1, 0, 0)
    (label,) = lines()["a.mp4"]["labels"]
    assert label["statistics"]["border_energy"] is None
    assert Path("out", label["thumbnail"]).stat().st_size > 0
    assert any("same everywhere" in note for note in lines()["a.mp4"]["notes"])
    assert label["name"] in LABELS


def test_what_a_killed_run_left_half_written_is_removed_on_the_next(batch: Batch) -> None:
    batch("v")
    Path("out/a/1/info.json").unlink(missing_ok=True)
    label = next(path for path in Path("out/a").iterdir() if path.is_dir())
    for file in label.iterdir():
        file.unlink()
    label.rmdir()
    left = Path(f"out/a/.{label.name}.0123456789ab.partial")
    left.mkdir()
    (left / "overlay.gif").write_text("half")
    Path("out/a/.mine.partial").mkdir()

    assert counts(batch("v")) == (1, 2, 0)

    assert not left.exists()
    assert Path("out/a/.mine.partial").is_dir()


def test_thumbnails_have_the_shape_that_the_crop_has_in_the_clip(batch: Batch) -> None:
    batch("v/a.mp4")

    (label,) = lines()["a.mp4"]["labels"]
    height, width = cv2.imread(str(Path("out", label["thumbnail"]))).shape[:2]
    assert width / height == pytest.approx(64 / 48, abs=0.05)  # squashed crops of 64x48
