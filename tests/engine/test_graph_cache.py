import os
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from saliency_tubes import graph_cache, session
from saliency_tubes.errors import ModelFileError
from saliency_tubes.graph_cache import GraphCache
from saliency_tubes.session import open_session

pytest.importorskip("onnx")

from tiny import tiny_spec, write_tiny


@pytest.fixture
def cache(tmp_path: Path) -> GraphCache:
    return GraphCache(tmp_path / "graphs")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tubes.onnx")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are loaded, in order."""
    files: list[Path] = []
    real = session._load

    def load(path: Path, *arguments: object) -> object:
        files.append(path)
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "_load", load)
    return files


def logits(model: Path, cache: GraphCache | None) -> NDArray[np.float32]:
    clip = np.random.default_rng(1).integers(0, 256, (1, *tiny_spec().input_shape), dtype=np.uint8)
    return open_session(model, "cpu", cache).run(clip).logits


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
    assert open_session(model, "cpu", cache).metadata == open_session(model, "cpu").metadata
    assert open_session(model, "cpu", cache).sha256 == open_session(model, "cpu").sha256


def test_another_file_under_the_same_name_is_not_mistaken_for_the_old_one(
    model: Path, cache: GraphCache, loaded: list[Path]
) -> None:
    old, spec = logits(model, cache), tiny_spec()
    write_tiny(model, replace(spec, weight=2 * spec.weight))

    new, again = logits(model, cache), logits(model, cache)

    assert np.abs(new - old).max() > 0.1
    np.testing.assert_array_equal(new, again)
    assert loaded[-2] == model  # made anew, and found by the third
    assert loaded[-1].parent in entries(cache)


@pytest.mark.parametrize("damage", ["graph.onnx", "graph.bin", "content.sha256"])
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
    open_session(write_tiny(tmp_path / "foreign.onnx", metadata={}), "cpu", cache)

    assert entries(cache) == []


def test_the_same_model_under_another_name_shares_the_entry(model: Path, cache: GraphCache) -> None:
    open_session(model, "cpu", cache)
    copy = model.with_name("copy.onnx")
    copy.write_bytes(model.read_bytes())

    open_session(copy, "cpu", cache)

    assert len(entries(cache)) == 1


def test_a_cache_that_cannot_be_written_is_done_without(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    np.testing.assert_array_equal(logits(model, GraphCache(tmp_path / "file")), logits(model, None))


def test_a_model_that_cannot_be_loaded_says_so_and_leaves_nothing(tmp_path: Path, cache: GraphCache) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")

    with pytest.raises(ModelFileError, match=r"bad\.onnx is not a model that ONNX Runtime"):
        open_session(tmp_path / "bad.onnx", "cpu", cache)
    assert entries(cache) == []


def test_only_the_latest_entries_are_kept_and_nothing_foreign_is_touched(tmp_path: Path, cache: GraphCache) -> None:
    def entry(model: Path) -> Path:
        return cache.entry(open_session(model, "cpu", cache).sha256, session.RUNTIME_VERSION)

    spec = tiny_spec()
    models = [
        write_tiny(tmp_path / f"{i}.onnx", replace(spec, bias=spec.bias + np.float32(i)))
        for i in range(graph_cache._KEPT + 2)
    ]
    mine = cache.folder / "mine"
    mine.mkdir(parents=True)
    (mine / "content.sha256").write_text("of my own")
    os.utime(mine, (1, 1))
    for age, model in enumerate(reversed(models[1:])):
        os.utime(entry(model), (1000 - age, 1000 - age))

    newest = entry(models[0])

    assert newest in entries(cache)
    assert len(entries(cache)) == graph_cache._KEPT + 1
    assert (mine / "content.sha256").read_text() == "of my own"


def test_what_a_killed_process_left_is_removed_after_a_while(model: Path, cache: GraphCache) -> None:
    left = {age: cache.folder / f"{'0' * 64}.{'a' * 11}{age}.partial" for age in (0, 1)}
    foreign = cache.folder / "holiday.partial"
    for folder in (*left.values(), foreign):
        folder.mkdir(parents=True)
    for folder in (left[1], foreign):
        os.utime(folder, (1000, 1000))

    open_session(model, "cpu", cache)

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
    cache: GraphCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cache.entry("0" * 64, "1")

    assert cache.entry("0" * 64, "2") != here
    monkeypatch.setattr(graph_cache, "_processor", lambda: "another")
    assert cache.entry("0" * 64, "1") != here


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
