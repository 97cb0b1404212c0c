"""The compiled inner loops do what NumPy does, and are done without where they cannot be had."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_contract import NAMES, random_scene

import trackers
from trackers import Tracks
from trackers.compiled import kernels


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("features", [False, True])
def test_both_ways_give_the_same_tracks(name: str, features: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    results: dict[str, list[Tracks]] = {}
    for switch in ("0", "1"):
        monkeypatch.setenv("FRAMECHAIN_COMPILED", switch)
        kernels.cache_clear()
        assert (kernels() is None) == (switch == "0")
        tracker = trackers.create(name)
        results[switch] = []
        for n, (boxes, scores, looks) in enumerate(random_scene(11, frames=150)):
            found = tracker.update(boxes, scores, features=looks if features else None, timestamp=n / 10)
            results[switch] += [found, found.lost(), found.tentative()]
    monkeypatch.undo()
    kernels.cache_clear()
    for plain, compiled in zip(results["0"], results["1"], strict=True):
        for column in ("id", "det_index", "class_id", "occluded", "occluder"):
            np.testing.assert_array_equal(getattr(plain, column), getattr(compiled, column))
        np.testing.assert_allclose(plain.xyxy, compiled.xyxy, rtol=1e-9, atol=1e-9)


def test_a_numba_that_cannot_be_loaded_is_told_and_done_without(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.2 or less')")
    code = "import trackers; print(len(trackers.create('sort', min_hits=0).update([[0, 0, 9, 9]])))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "FRAMECHAIN_COMPILED": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert "trackers run on NumPy alone: Numba needs NumPy 2.2 or less" in done.stderr


def test_what_can_be_kept_nowhere_is_compiled_all_the_same() -> None:
    pytest.importorskip("numba")
    from trackers.compiled.kernels import _compiled, _tell_nowhere

    _tell_nowhere.cache_clear()
    found: dict[str, Callable[[int], int]] = {}
    exec(compile("def twice(n): return 2 * n", "of-no-folder.py", "exec"), found)
    with pytest.warns(RuntimeWarning, match="set NUMBA_CACHE_DIR"):
        assert _compiled("i8(i8)")(found["twice"])(21) == 42
