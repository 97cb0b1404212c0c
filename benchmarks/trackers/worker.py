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
from collections.abc import Iterable
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
    report: dict[str, Any] = {"versions": _versions(adapter.PACKAGE)}
    for part, work in (("rows", _rows), ("mot", _speed), ("crowds", _speed)):
        for name, path in job.get(part, {}).items():
            measured = _kept(lambda work=work, path=path: work(adapter, job, path))
            report.setdefault(part, {})[name] = measured
            _write(job["out"], report)
            if "over" in measured or "error" in measured:  # what comes after is larger
                break
        if part == "mot" and "cameras" in job:
            report["cameras"] = _kept(lambda: _cameras(adapter, job))
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
    return _clocked(job, ([(tracker, given)] for given in frames))


def _cameras(adapter: ModuleType, job: dict[str, Any]) -> dict[str, Any]:
    """One step of all cameras: a tracker each, and one object for all of them where the package has it."""
    opened = [_opened(adapter, job, path) for path in job["cameras"].values()]
    trackers = [tracker for tracker, _ in opened]
    steps = zip(*(frames for _, frames in opened), strict=True)
    result = {"separate": _clocked(job, (list(zip(trackers, step, strict=True)) for step in steps))}
    if hasattr(adapter, "make_together"):
        scenes = [np.load(path) for path in job["cameras"].values()]
        rate = float(scenes[0]["rate"])
        tracker = adapter.make_together(job["tracker"], rate, job["features"], len(scenes))
        if tracker is not None:
            columns = [_frames(scene, job["features"]) for scene in scenes]
            joined = enumerate(zip(*columns, strict=True))
            given = [tracker.prepare(list(step), number / rate) for number, step in joined]
            result["together"] = _clocked(job, ([(tracker, each)] for each in given))
    return result


def _clocked(job: dict[str, Any], steps: Iterable[list[tuple[Any, Any]]]) -> dict[str, Any]:
    """What steps take, each of them one or more updates: by the clock, and of the processor's time."""
    times: list[tuple[float, float]] = []
    settled, begun = 0, time.perf_counter()
    for step in steps:
        signal.setitimer(signal.ITIMER_REAL, STUCK)
        before, cpu = time.perf_counter(), time.process_time()
        for tracker, given in step:
            tracker.update(given)
        times.append((time.perf_counter() - before, time.process_time() - cpu))
        if len(times) >= 3 and np.median(times[-3:], axis=0)[1] > job["limit"]:
            return {"over": round(float(np.median(times[-3:], axis=0)[0]) * 1e3)}
        spent = time.perf_counter() - begun
        if not settled and (len(times) == job["warmup"] or spent > job["budget"] / 2):
            settled, begun = len(times), time.perf_counter()
        elif settled and len(times) - settled >= 5 and spent > job["budget"]:
            break
    return _summary(times[settled:])


def _rows(adapter: ModuleType, job: dict[str, Any], path: str) -> dict[str, Any]:
    """What a tracker shows in every frame, written beside the report."""
    tracker, frames = _opened(adapter, job, path)
    times: list[tuple[float, float]] = []
    tables = []
    for number, given in enumerate(frames, 1):
        signal.setitimer(signal.ITIMER_REAL, STUCK)
        before, cpu = time.perf_counter(), time.process_time()
        shown = tracker.update(given)
        times.append((time.perf_counter() - before, time.process_time() - cpu))
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


def _stuck(*_: Any) -> None:
    raise TooSlow


def _summary(times: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians and the range between the deciles; `cpu` is what to compare by on a machine that others use too."""
    spent, cpu = np.array(times).T * 1e3
    low, median, high = np.percentile(spent, [10, 50, 90]).round(4)
    return {"ms": median, "p10": low, "p90": high, "cpu": round(float(np.median(cpu)), 4), "frames": len(times)}


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
    assert spec is not None
    assert spec.loader is not None
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
