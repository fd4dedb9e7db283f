import numpy as np
import pytest
from saliency_tubes import blas
from saliency_tubes.blas import one_blas_thread
from threadpoolctl import threadpool_info


def threads() -> set[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def several() -> None:
    if max(threads(), default=1) < 2:
        pytest.skip("NumPy's BLAS has one thread here anyway")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(blas.VARIABLE, raising=False)


def test_where_blas_was_told_to_take_one_thread_it_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blas.VARIABLE, "1")
    monkeypatch.setattr(blas, "_blas", lambda: pytest.fail("was looked for"))

    with one_blas_thread(), one_blas_thread():
        pass


def test_blas_has_one_thread_inside_and_what_it_had_outside() -> None:
    before = threads()

    with one_blas_thread():
        assert threads() == {1}
    assert threads() == before


def test_the_last_that_leaves_lifts_the_limit_whatever_the_order() -> None:
    before = threads()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()

    first.__exit__(None, None, None)
    assert threads() == {1}
    second.__exit__(None, None, None)

    assert threads() == before


def test_the_limit_is_lifted_after_an_error() -> None:
    before = threads()

    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert threads() == before
