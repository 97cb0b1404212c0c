"""Trying: how fast each candidate computes a network, found out in a process of its own.

That process may need torch to convert a checkpoint, and a runtime whose driver does not suit it may take its process
down: neither shall happen to the chain's own.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from pipeline.errors import FramechainError, Interrupted, UsageError
from pipeline.inference.candidates import Candidate, Wish, candidates, load
from pipeline.inference.model import Model, shortened

logger = logging.getLogger("framechain")

_SECONDS = 0.2  # that each candidate is timed for, after it is warm
_WARM = 3  # in the third a GPU records what it repeats from then on
_MARK = "framechain: "  # before what is told: libraries print as well
_STRAY = 0.1  # how far the size of its outputs may be from that of the first of the same network, relative


def tried(weights: str | Path, digest: str, wish: Wish) -> list[Candidate]:
    """All candidates, each with its `seconds` or its `fault`; processors are only tried where no GPU will do.

    A single one is not timed.

    Args:
        digest: checksum of the weights.

    Raises:
        UsageError: there is no candidate.
        FramechainError: the process cannot be started.
    """
    found: list[Candidate] = []
    results: list[list[Any]] = []
    while not found or len(results) < len(found):
        first = not found
        order = {"weights": str(weights), "digest": digest, "wish": asdict(wish), "results": results}
        with _Process(order) as process:
            for told in process:
                if "error" in told:
                    raise (UsageError if told["usage"] else FramechainError)(told["error"])
                if "log" in told:
                    logger.log(told["log"][0], "%s", told["log"][1])
                    continue
                if "result" in told:
                    results.append(told["result"])
                    continue
                found = [Candidate(**raw) for raw in told["candidates"]]
                if first and len(found) > 1:
                    logger.info("%s: trying once what computes it fastest here", Path(weights).name)
        if process.interrupted:
            raise Interrupted("while it was tried what computes fastest here; that begins again next time")
        if not found:
            raise FramechainError(f"the process that tries runtimes {process.ending}; name one with --runtime")
        if len(results) < len(found):
            results.append([None, f"its process {process.ending}"])  # the others are tried in another one
    for candidate, (seconds, fault) in zip(found, results, strict=True):
        candidate.seconds, candidate.fault = seconds, fault
    return found


class _Process:
    """A process that tries candidates; iterating gives what it says.

    Attributes:
        ending: how it ended, once it has. interrupted: whether Ctrl-C ended it, which the terminal tells it as well.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.ending, self.interrupted = "", False
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path)},
            text=True,
        )
        assert self._child.stdin is not None
        with suppress(BrokenPipeError), self._child.stdin as given:
            json.dump(order, given)

    def __enter__(self) -> Self:
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith(_MARK):
                yield json.loads(line.removeprefix(_MARK))

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            self._child.kill()
        code = self._child.wait()
        self.interrupted = code == -signal.SIGINT
        assert self._child.stdout is not None
        self._child.stdout.close()
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or [""])[-1][:120]
        self._errors.close()
        self.ending = f"ended with code {code}" + (f" ({last})" if last else "")


class _Forwarded(logging.Handler):
    """What is logged here is said by the process that asked."""

    def emit(self, record: logging.LogRecord) -> None:
        _tell(log=[record.levelno, record.getMessage()])


def _main() -> None:
    """Body of the process: the order on standard input; on standard output the candidates, then a line for each."""
    order = json.load(sys.stdin)
    logger.setLevel(logging.INFO)
    logger.addHandler(_Forwarded())
    wish = Wish(**{**order["wish"], "size": tuple(order["wish"]["size"])})
    try:
        found = sorted(candidates(order["weights"], wish), key=lambda one: one.device == "cpu")
    except FramechainError as error:
        _tell(error=str(error), usage=isinstance(error, UsageError))
        return
    _tell(candidates=[asdict(one) for one in found])
    sizes: dict[str, list[float]] = {}
    gpu_works = any(
        seconds is not None and one.device != "cpu" for one, (seconds, _) in zip(found, order["results"], strict=False)
    )
    for candidate in found[len(order["results"]) :]:
        seconds, fault = None, candidate.fault
        if not fault and len(found) > 1 and not (gpu_works and candidate.device == "cpu"):
            try:
                seconds = _timed(candidate, order["digest"], wish, sizes)
                gpu_works = gpu_works or candidate.device != "cpu"
            except Exception as error:
                fault = str(error) if isinstance(error, FramechainError) else shortened(error)
        _tell(result=[seconds, fault])


def _tell(**what: Any) -> None:
    print(_MARK + json.dumps(what), flush=True)


def _timed(candidate: Candidate, digest: str, wish: Wish, sizes: dict[str, list[float]]) -> float:
    """Seconds an image with as many calls at once as suit it.

    Args:
        sizes: root mean squares of the outputs of each network; those of the first candidate are noted.

    Raises:
        ValueError: the outputs are not like those of the first. Whatever a runtime raises.
    """
    model = load(candidate, digest, wish)
    try:
        batch = _batch(model, wish)
        for _ in range(_WARM):
            outputs = model.run(batch)
        found = [float(np.sqrt(np.mean(np.square(out, dtype=np.float64)))) for out in outputs]
        expected = sizes.setdefault(candidate.source, found)
        if len(found) != len(expected) or not np.allclose(found, expected, rtol=_STRAY, atol=1e-3):
            raise ValueError("its results differ from those of the others")
        return _seconds(model, batch, model.parallel) / wish.images
    finally:
        model.close()


def _batch(model: Model, wish: Wish) -> Any:
    free = model.metadata.image_size or wish.size
    height, width = (side or most for side, most in zip(model.input_shape[2:], free, strict=True))
    return np.random.default_rng(0).uniform(0, 1, (wish.images, 3, height, width)).astype(np.float32)


def _seconds(model: Model, batch: Any, at_once: int) -> float:
    """Of a call, that many being made at once."""
    calls = 0
    lock = threading.Lock()
    start = time.perf_counter()

    def work() -> None:
        nonlocal calls
        while time.perf_counter() - start < _SECONDS:
            model.run(batch)
            with lock:
                calls += 1

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - start) / calls


if __name__ == "__main__":
    _main()
