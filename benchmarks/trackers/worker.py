"""Runs one tracker over scenes, in whichever environment it lives: `python worker.py JOB.json`.

Imports NumPy and the package's adapter, nothing of ours. An adapter is a file with

    PACKAGE: str                       # name of the distribution, for its version
    def make(name, rate, features): ...   # a new tracker: name, frames a second, whether features are given

and what `make` returns has

    prepare(xyxy, scores, features, seconds)   # detections as the package wants them; not timed
    update(given)                              # one frame; timed
    rows(shown)                                # (M, 6): id, x1, y1, x2, y2, 1 if not measured but believed; not timed

An adapter may also have `make_together(name, rate, features, cameras)`: one object for several cameras, whose `prepare`
is given, and whose `update` returns, a list with an item for each camera; None where the package has no such thing.
"""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import json
import platform
import signal
import sys
import time
import traceback
from types import ModuleType
from typing import Any

sys.path.pop(0)  # this folder: its files must not be taken for packages of their names

import numpy as np

STUCK = 20.0
"""Seconds after which a single frame is given up."""


class TooSlow(Exception):
    """A frame took longer than `STUCK`."""


def main(job: dict[str, Any]) -> None:
    """Do a job, and write after each scene what is known, so that nothing is lost if this process is ended."""
    signal.signal(signal.SIGALRM, _stuck)
    adapter = _adapter(job["adapter"])
    report: dict[str, Any] = {"versions": _versions(adapter.PACKAGE), "scenes": {}}
    work = {"speed": _speed, "cameras": _cameras, "rows": _rows}[job["mode"]]
    if job["mode"] == "cameras":
        report["scenes"] = _kept(lambda: work(adapter, job))
    else:
        for name, path in job["scenes"].items():
            measured = _kept(lambda path=path: work(adapter, job, path))
            report["scenes"][name] = measured
            _write(job["out"], report)
            if "over" in measured or "error" in measured:  # what comes after is larger
                break
    _write(job["out"], report)


def _kept(work: Any) -> dict[str, Any]:
    try:
        return dict(work())
    except TooSlow:
        return {"over": STUCK * 1e3}
    except Exception as error:  # a rival's failure is a result
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _speed(adapter: ModuleType, job: dict[str, Any], path: str) -> dict[str, Any]:
    """Milliseconds a frame: a few frames to settle, then as many as the budget allows."""
    tracker, frames = _opened(adapter, job, path)
    times: list[float] = []
    begun = time.perf_counter()
    settled = 0
    for given in frames:
        times.append(_timed(tracker, given))
        spent = time.perf_counter() - begun
        if len(times) >= 3 and np.median(times[-3:]) > job["limit"]:
            return {"over": round(float(np.median(times[-3:])) * 1e3, 4)}
        if not settled and (len(times) == job["warmup"] or spent > job["budget"] / 2):
            settled, begun = len(times), time.perf_counter()
        if len(times) - settled >= 5 and settled and spent > job["budget"]:
            break
    return _summary(times[settled:])


def _cameras(adapter: ModuleType, job: dict[str, Any]) -> dict[str, Any]:
    """One step of all cameras: a tracker each, and one object for all of them where the package has it."""
    opened = [_opened(adapter, job, path) for path in job["scenes"].values()]
    steps = list(zip(*(frames for _, frames in opened), strict=True))
    times = [sum(_timed(tracker, given) for (tracker, _), given in zip(opened, step, strict=True)) for step in steps]
    result = {"separate": _summary(times[job["warmup"] :])}
    if hasattr(adapter, "make_together"):
        scenes = [np.load(path) for path in job["scenes"].values()]
        rate = float(scenes[0]["rate"])
        tracker = adapter.make_together(job["tracker"], rate, job["features"], len(scenes))
        if tracker is not None:
            columns = [_frames(scene, job["features"]) for scene in scenes]
            given = [
                tracker.prepare(list(step), number / rate) for number, step in enumerate(zip(*columns, strict=True))
            ]
            times = [_timed(tracker, each) for each in given]
            result["together"] = _summary(times[job["warmup"] :])
    return result


def _rows(adapter: ModuleType, job: dict[str, Any], path: str) -> dict[str, Any]:
    """What a tracker shows in every frame, written beside the report."""
    tracker, frames = _opened(adapter, job, path)
    times, tables = [], []
    for number, given in enumerate(frames, 1):
        signal.setitimer(signal.ITIMER_REAL, STUCK)
        begun = time.perf_counter()
        shown = tracker.update(given)
        times.append(time.perf_counter() - begun)
        rows = np.asarray(tracker.rows(shown), np.float64).reshape(-1, 6)
        tables.append(np.column_stack([np.full(len(rows), number), rows]))
    where = f"{job['out']}.{len(_written)}.npy"
    _written.append(where)
    np.save(where, np.concatenate(tables))
    return {"rows": where, **_summary(times)}


_written: list[str] = []


def _opened(adapter: ModuleType, job: dict[str, Any], path: str) -> tuple[Any, list[Any]]:
    scene = np.load(path)
    rate = float(scene["rate"])
    tracker = adapter.make(job["tracker"], rate, job["features"])
    frames = _frames(scene, job["features"])
    return tracker, [tracker.prepare(*found, number / rate) for number, found in enumerate(frames)]


def _frames(scene: Any, with_features: bool) -> list[tuple[Any, Any, Any]]:
    bounds = np.cumsum(scene["counts"])[:-1]
    boxes, scores = np.split(scene["xyxy"], bounds), np.split(scene["scores"], bounds)
    features = np.split(scene["features"], bounds) if with_features else [None] * len(boxes)
    return list(zip(boxes, scores, features, strict=True))


def _timed(tracker: Any, given: Any) -> float:
    signal.setitimer(signal.ITIMER_REAL, STUCK)
    begun = time.perf_counter()
    tracker.update(given)
    return time.perf_counter() - begun


def _stuck(*_: Any) -> None:
    raise TooSlow


def _summary(times: list[float]) -> dict[str, Any]:
    spent = np.array(times) * 1e3
    low, median, high = np.percentile(spent, [10, 50, 90]).round(4)
    return {"ms": median, "p10": low, "p90": high, "frames": len(times)}


def _versions(package: str) -> dict[str, str]:
    names = [name for name in (package, "numpy", "scipy") if name]
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _adapter(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("adapter", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["adapter"] = module
    spec.loader.exec_module(module)
    return module


def _write(path: str, report: dict[str, Any]) -> None:
    with open(path, "w") as file:
        json.dump(report, file)


if __name__ == "__main__":
    gc.collect()
    with open(sys.argv[1]) as given:
        job = json.load(given)
    main(job)
