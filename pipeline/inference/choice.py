"""Choice: of all that can compute a network on this machine, what does it fastest; tried once and remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline import models
from pipeline.errors import FramechainError, UsageError
from pipeline.inference import cache
from pipeline.inference.candidates import Candidate, Wish, load
from pipeline.inference.installed import cuda_may_be_here
from pipeline.inference.model import Model, admitted, homes, matching, native, runtimes
from pipeline.inference.trying import tried
from trackers.registry import UnknownName, nearest

logger = logging.getLogger("framechain")

_WORTH = 0.95  # of the time of one that computes more exactly: for less gain than that, exactness is not given up
_EXACTNESS = ("fp32", "fp16", "bf16")
_DEVICES = ("auto", "cpu", "cuda", "gpu", "npu", "mps")
"""What our runtimes call devices, without numbers."""

_PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "openvino", "torch", "ultralytics"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was remembered of trying."""

    weights: str
    chosen: Candidate
    others: list[Candidate] = field(default_factory=list)


def fastest(weights: str | Path, wish: Wish) -> Model:
    """Load a network in what computes it fastest here.

    The first time all that is installed is tried, each for a fraction of a second; what won is remembered for these
    weights on this machine, and said on the logger in both cases.

    Raises:
        UsageError: as `model.load`; or nothing here computes it on that device, in that precision or runtime.
        MissingExtra: the runtime it takes is not installed.
        FramechainError: a bundled or fetched model is damaged, or everything that could compute it fails.
    """
    path = models.resolve(weights)
    own = native(path)
    if wish.runtime == "native":
        return own.load(path, admitted(own.label, homes(own, path), wish.device)[0], None, wish.requests)
    digest = _digest(path)
    usual = replace(wish, requests=None)  # the number of workers must not change what is computed
    remembered = cache.folder() / f"{digest}.{_circumstances(weights, usual)}.json"
    if (choice := _recall(remembered)) is not None:
        _look_here(choice.chosen, weights, path)
        try:
            model = load(choice.chosen, digest, wish)
        except FramechainError as error:
            logger.warning("%s no longer works for %s (%s); trying all again", choice.chosen, weights, error)
            remembered.unlink(missing_ok=True)
        else:
            logger.info("%s: %s, the fastest when all were tried%s", path.name, choice.chosen, _failed(choice))
            return model
    elif remembered.exists():
        logger.warning("%s is damaged, or from another version; all runtimes are tried again", remembered)
        with suppress(OSError):
            remembered.unlink()
    candidates = tried(weights, digest, usual)
    chosen = _best(candidates)
    if chosen is None:
        faults = "; ".join(f"{one}: {one.fault}" for one in candidates)
        raise FramechainError(f"nothing here computes {path.name}; {faults}")
    others = [candidate for candidate in candidates if candidate is not chosen]
    made = Choice(path.name, chosen, others)
    try:
        # another process may have been first: all that run from now on shall compute the same
        made = _recall(cache.kept(remembered.name, json.dumps(asdict(made)).encode)) or made
    except FramechainError as error:
        logger.warning("%s; it will be tried again next time", error)
    _tell(made)
    _look_here(made.chosen, weights, path)
    return load(made.chosen, digest, wish)


def check_wish(weights: str | Path, device: str, runtime: str) -> None:
    """Refuse at once, without loading anything, what `fastest` would refuse after a while.

    Raises:
        UsageError: there are no such weights, or no runtime reads them; there is no such runtime or device.
        MissingExtra: the runtime is not installed.
        FramechainError: a bundled or fetched model is damaged.
    """
    path = models.resolve(weights)
    native(path)
    kind = device.partition(":")[0]
    if kind == "cuda" and not cuda_may_be_here():
        raise UsageError(
            f"there is no device '{device}' here: no NVIDIA GPU with its driver is to be seen (nvidia-smi lists them); "
            "use --device cpu, or install the driver"
        )
    if runtime in ("auto", "native"):
        ours = all(one.__module__.startswith("pipeline.") for _, one in runtimes.kinds())
        if ours and kind.partition(".")[0] not in _DEVICES:
            raise UsageError(f"there is no device '{device}'{nearest(device, _DEVICES)}")
        return
    try:
        named = runtimes.load(runtime)
    except UnknownName as error:
        raise UsageError(str(error.args[0])) from error
    if not matching(devices := named.devices(), device):
        there = ", ".join(("auto", *devices))
        raise UsageError(f"{named.label} has no device '{device}' here; use --runtime auto, or --device {there}")


def remembered() -> Iterator[tuple[cache.Entry, Choice]]:
    """All choices in the cache."""
    for entry in cache.entries():
        if entry.path.suffix == ".json" and (choice := _recall(entry.path)) is not None:
            yield entry, choice


def _tell(choice: Choice) -> None:
    if choice.chosen.seconds is None:
        return  # there was no choice
    timed = sorted((one for one in choice.others if one.seconds is not None), key=lambda one: one.seconds or 0)
    told = ", ".join(f"{one} {1000 * (one.seconds or 0):.1f}" for one in timed)
    logger.info(
        "%s: %s, %.1f ms an image, is the fastest here, and remembered (%s)%s",
        choice.weights,
        choice.chosen,
        1000 * (choice.chosen.seconds or 0),
        told,
        _failed(choice),
    )


def _failed(choice: Choice) -> str:
    """What was tried and does not work: nobody shall compute on something slower without knowing it."""
    faults: dict[str, list[str]] = {}
    for one in choice.others:
        if one.fault:
            faults.setdefault(one.fault, []).append(str(one))
    told = "".join(
        f"; {' and '.join(ones)} {'does' if len(ones) == 1 else 'do'} not work: {fault}"
        for fault, ones in faults.items()
    )
    return f"{told}; once that is put right, framechain cache clear has all tried again" if told else ""


def _look_here(candidate: Candidate, weights: str | Path, path: Path) -> None:
    """The same weights may have been elsewhere when it was chosen."""
    candidate.source = str((models.quantised(str(weights)) if candidate.quantised else None) or path)


def _best(candidates: Sequence[Candidate]) -> Candidate | None:
    """The fastest; None where none works."""
    if len(candidates) == 1:
        return candidates[0]
    timed = [one for one in candidates if one.seconds is not None]
    if not timed:
        return None
    least = min(one.seconds or 0 for one in timed)
    close = [one for one in timed if (one.seconds or 0) * _WORTH <= least]
    return min(close, key=lambda one: (one.quantised, _EXACTNESS.index(one.precision), one.seconds))


def _recall(file: Path) -> Choice | None:
    """What a file of the cache says; None where it is absent or makes no sense."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        chosen, others = Candidate(**raw["chosen"]), [Candidate(**one) for one in raw["others"]]
        runtimes.load(chosen.runtime)
        return Choice(raw["weights"], chosen, others)
    except (OSError, ValueError, KeyError, TypeError, UnknownName):
        return None


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(file for file in path.glob("*") if file.suffix in (".xml", ".bin"))
    if path.suffix.lower() == ".xml":
        files = [path, path.with_suffix(".bin")]
    sums = [models.sha256(file) for file in files if file.is_file()] or [str(path)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def _circumstances(weights: str | Path, wish: Wish) -> str:
    """Another value wherever another choice might be right: another wish, machine, driver or version."""
    said: list[Any] = [asdict(wish), str(models.quantised(str(weights))), cache.FORMAT, *_machine()]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _machine() -> Iterator[str]:
    yield from (platform.machine(), platform.system(), str(available_cores()), _processor())
    driver = Path("/proc/driver/nvidia")
    for file in (*sorted(driver.glob("gpus/*/information")), driver / "version"):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        yield "".join(line for line in text.splitlines() if line.startswith(("Model", "NVRM")))
    for package in _PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    told = {
        line.partition(":")[0].strip(): line for line in lines if line.startswith(("model name", "flags", "Features"))
    }
    return hashlib.sha256("".join(sorted(told.values())).encode()).hexdigest()
