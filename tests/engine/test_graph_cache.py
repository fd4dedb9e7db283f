import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import published
from numpy.typing import NDArray
from saliency_tubes import backend_ort, graph_cache, session
from saliency_tubes.choices import Device
from saliency_tubes.errors import ModelFileError
from saliency_tubes.graph_cache import GraphCache
from saliency_tubes.session import open_session

onnx = pytest.importorskip("onnx")

from tiny import tiny_spec, write_tiny  # noqa: E402


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GraphCache:
    monkeypatch.setattr(graph_cache, "_SETTLED_SECONDS", 0.0)  # the tests' files are new
    return GraphCache(tmp_path / "graphs")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tubes.onnx")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are loaded, in order."""
    files: list[Path] = []
    real = backend_ort.load

    def load(path: Path, *arguments: object) -> object:
        files.append(path)
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(backend_ort, "load", load)
    return files


def opened(model: Path, cache: GraphCache | None, device: str = "cpu") -> session.Session:
    """A session whose graph, if it is to be kept, is in its place."""
    loaded = open_session(model, device, cache=cache)
    published()
    return loaded


def logits(model: Path, cache: GraphCache | None, device: str = "cpu") -> NDArray[np.float32]:
    clip = np.random.default_rng(1).integers(0, 256, (1, *tiny_spec().input_shape), dtype=np.uint8)
    return opened(model, cache, device).run(clip).logits


def entries(cache: GraphCache) -> list[Path]:
    return sorted(cache.folder.iterdir())


def test_the_second_process_loads_the_optimised_graph_and_computes_the_same(
    model: Path, cache: GraphCache, loaded: list[Path]
) -> None:
    first, second = logits(model, cache), logits(model, cache)

    (entry,) = entries(cache)
    assert loaded == [model, entry / "graph.onnx"]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, logits(model, None), rtol=1e-6)
    assert opened(model, cache).metadata == opened(model, None).metadata
    assert opened(model, cache).digest.result() == opened(model, None).digest.result()


def test_another_file_under_the_same_name_is_not_mistaken_for_the_old_one(
    model: Path, cache: GraphCache, loaded: list[Path]
) -> None:
    old, spec = logits(model, cache), tiny_spec()
    write_tiny(model, replace(spec, head=replace(spec.head, weight=2 * spec.head.weight)))

    new, again = logits(model, cache), logits(model, cache)

    assert np.abs(new - old).max() > 0.1
    np.testing.assert_array_equal(new, again)
    assert loaded[-2] == model  # made anew, and found by the third
    assert loaded[-1].parent in entries(cache)


@pytest.mark.parametrize("damage", ["graph.onnx", "graph.bin", "content.json"])
@pytest.mark.parametrize("content", ["nothing", "zeros"])
def test_a_damaged_entry_is_made_anew(
    model: Path, cache: GraphCache, damage: str, content: str, loaded: list[Path]
) -> None:
    expected = logits(model, cache)
    (entry,) = entries(cache)
    (entry / damage).write_bytes(bytes((entry / damage).stat().st_size if content == "zeros" else 0))

    np.testing.assert_array_equal(logits(model, cache), expected)
    assert loaded[-1] == model
    np.testing.assert_array_equal(logits(model, cache), expected)
    assert loaded[-1] == entry / "graph.onnx"
    assert entries(cache) == [entry]


def test_a_model_that_is_not_ours_takes_no_place(tmp_path: Path, cache: GraphCache) -> None:
    opened(write_tiny(tmp_path / "foreign.onnx", metadata={}), cache)

    assert entries(cache) == []


def test_the_entry_knows_the_digest_so_that_the_file_is_not_read_again(
    model: Path, cache: GraphCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = opened(model, cache).digest.result()

    def compute(digest: graph_cache.FileDigest) -> None:
        raise AssertionError("the model file was hashed")

    monkeypatch.setattr(graph_cache.FileDigest, "start", compute)

    assert opened(model, cache).digest.result() == expected


def test_a_file_written_in_place_with_its_time_set_back_is_another(
    model: Path, cache: GraphCache, loaded: list[Path]
) -> None:
    opened(model, cache)
    before, spec = model.stat(), tiny_spec()
    other = write_tiny(
        model.with_name("other.onnx"), replace(spec, head=replace(spec.head, bias=spec.head.bias + np.float32(1)))
    ).read_bytes()
    assert len(other) == before.st_size
    model.write_bytes(other)
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))

    opened(model, cache)

    assert loaded == [model, model]


def test_a_file_that_was_just_written_is_not_kept(
    model: Path, cache: GraphCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_cache, "_SETTLED_SECONDS", 1000.0)

    opened(model, cache)

    assert entries(cache) == []


def test_weights_in_files_of_their_own_are_not_kept(model: Path, cache: GraphCache) -> None:
    plain = onnx.load(model)
    onnx.save(plain, model, save_as_external_data=True, location="weights.bin", size_threshold=0)

    expected = logits(model, None)

    np.testing.assert_array_equal(logits(model, cache), expected)
    assert not cache.folder.exists()  # not even for a while: such weights are large


def test_an_entry_of_another_file_under_its_name_is_not_believed(model: Path, cache: GraphCache) -> None:
    expected = logits(model, cache)
    (entry,) = entries(cache)
    content = json.loads((entry / "content.json").read_text())
    content["files"]["graph.bin"][0] += 1  # another place on the disk: copied here from elsewhere
    (entry / "content.json").write_text(json.dumps(content))

    np.testing.assert_array_equal(logits(model, cache), expected)
    assert json.loads((entry / "content.json").read_text()) != content


def test_a_cache_that_cannot_be_written_is_done_without(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    np.testing.assert_array_equal(logits(model, GraphCache(tmp_path / "file")), logits(model, None))


def test_a_model_that_cannot_be_loaded_says_so_and_leaves_nothing(tmp_path: Path, cache: GraphCache) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")

    with pytest.raises(ModelFileError, match=r"bad\.onnx is not a model that onnxruntime"):
        opened(tmp_path / "bad.onnx", cache)
    assert entries(cache) == []


def test_only_the_latest_entries_are_kept_and_nothing_foreign_is_touched(tmp_path: Path, cache: GraphCache) -> None:
    def entry(model: Path) -> Path:
        opened(model, cache)
        found = cache.entry(model, backend_ort.RUNTIME)
        assert found is not None
        return found.folder

    spec = tiny_spec()
    models = [
        write_tiny(tmp_path / f"{i}.onnx", replace(spec, head=replace(spec.head, bias=spec.head.bias + np.float32(i))))
        for i in range(graph_cache._KEPT + 2)
    ]
    mine = cache.folder / "mine"
    mine.mkdir(parents=True)
    (mine / "content.json").write_text("of my own")
    os.utime(mine, (1, 1))
    for age, model in enumerate(reversed(models[1:])):
        os.utime(entry(model), (1000 - age, 1000 - age))

    newest = entry(models[0])

    assert newest in entries(cache)
    assert len(entries(cache)) == graph_cache._KEPT + 1
    assert (mine / "content.json").read_text() == "of my own"


def test_what_a_killed_process_left_is_removed_after_a_while(model: Path, cache: GraphCache) -> None:
    left = {age: cache.folder / f"{'0' * 64}.{'a' * 11}{age}.partial" for age in (0, 1)}
    foreign = cache.folder / "holiday.partial"
    for folder in (*left.values(), foreign):
        folder.mkdir(parents=True)
    for folder in (left[1], foreign):
        os.utime(folder, (1000, 1000))

    opened(model, cache)

    assert left[0].exists()
    assert not left[1].exists()
    assert foreign.exists()


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(graph_cache.VARIABLE)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert GraphCache.of_user() is None

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert GraphCache.of_user() is None


def test_another_runtime_or_processor_has_entries_of_its_own(
    model: Path, cache: GraphCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cache.entry(model, "1")

    assert cache.entry(model, "1") == here
    assert cache.entry(model, "2") != here
    monkeypatch.setattr(graph_cache, "_processor", lambda: "another")
    assert cache.entry(model, "1") != here


def test_a_model_file_that_is_gone_has_no_entry(tmp_path: Path, cache: GraphCache) -> None:
    assert cache.entry(tmp_path / "gone.onnx", "1") is None


@pytest.mark.skipif(not session.installed(Device.OPENVINO), reason="openvino is not installed")
class TestOpenVino:
    def test_the_second_process_finds_what_was_compiled(self, model: Path, cache: GraphCache) -> None:
        first = logits(model, cache, "openvino")
        (entry,) = entries(cache)
        made = graph_cache._states(entry)

        again = logits(model, cache, "openvino")

        assert entries(cache) == [entry]
        assert [Path(name).suffix for name in made] == [".blob"]
        assert graph_cache._states(entry) == made
        np.testing.assert_array_equal(again, first)
        np.testing.assert_allclose(first, logits(model, None), atol=1e-4)

    def test_a_damaged_blob_is_made_anew(self, model: Path, cache: GraphCache) -> None:
        expected = logits(model, cache, "openvino")
        (entry,) = entries(cache)
        blob = next(entry.glob("*.blob"))
        content = blob.read_bytes()
        blob.chmod(0o600)
        blob.write_bytes(bytes(len(content)))

        np.testing.assert_array_equal(logits(model, cache, "openvino"), expected)
        assert next(entry.glob("*.blob")).read_bytes() != bytes(len(content))

    def test_a_model_that_is_not_ours_takes_no_place(self, tmp_path: Path, cache: GraphCache) -> None:
        opened(write_tiny(tmp_path / "foreign.onnx", metadata={}), cache, "openvino")

        assert entries(cache) == []

    def test_a_cache_that_cannot_be_written_is_done_without(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")

        logits(model, GraphCache(tmp_path / "file"), "openvino")


def test_the_variable_moves_the_cache_or_turns_it_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(graph_cache.VARIABLE, str(tmp_path))
    chosen = GraphCache.of_user()
    assert chosen is not None
    assert chosen.folder == tmp_path

    monkeypatch.setenv(graph_cache.VARIABLE, "")
    assert GraphCache.of_user() is None

    monkeypatch.delenv(graph_cache.VARIABLE)
    standard = GraphCache.of_user()
    assert standard is not None
    assert standard.folder.name == "saliency-tubes"
