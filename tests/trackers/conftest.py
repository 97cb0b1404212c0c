"""Tests of the inner loops run twice: on NumPy, and compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trackers.compiled import kernels


@pytest.fixture(params=["numpy", "compiled"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which of the two do the work."""
    monkeypatch.setenv("FRAMECHAIN_COMPILED", "0" if request.param == "numpy" else "1")
    kernels.cache_clear()
    if request.param == "compiled":
        pytest.importorskip("numba")
        assert kernels() is not None
    yield request.param
    monkeypatch.undo()
    kernels.cache_clear()
