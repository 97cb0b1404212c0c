"""Candidates: all the ways in which what is installed here can compute a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pipeline import models
from pipeline.errors import MissingExtra, UsageError
from pipeline.inference import cache
from pipeline.inference.installed import BrokenRuntime, gpus
from pipeline.inference.model import Arithmetic, BrokenDevice, Model, homes, matching, native, runtimes
from trackers.registry import UnknownName

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16", "int8"]
"""auto: whichever is fastest. fp32, bf16, fp16: only that. int8: a network that is quantised."""

_ONNX = Path("network.onnx")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a network is to be computed for, and what the user asked for.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:1", or another that a runtime has.
        precision: see `Precision`.
        runtime: "auto"; "native", the one that the file is made for, as the file is; or its name.
        requests: calls that will be made at once; None: as many as suit it.
        size: (height, width) that it is timed at where network and file do not say. images: in one call.
    """

    device: str = "auto"
    precision: Precision = "auto"
    runtime: str = "auto"
    requests: int | None = None
    size: tuple[int, int] = (640, 640)
    images: int = 1


@dataclass(slots=True)
class Candidate:
    """One way to compute a network.

    Attributes:
        source: the file. quantised: it is the same network in 8 bits. converted: it is made into ONNX first.
        seconds: that one image took; None where it was not timed. fault: why it is out of the question.
    """

    source: str
    runtime: str
    device: str
    precision: Arithmetic
    quantised: bool = False
    converted: bool = False
    seconds: float | None = None
    fault: str = ""

    def __str__(self) -> str:
        what = "int8" if self.quantised else self.precision
        return f"{runtimes.load(self.runtime).label} {what} on {self.device}"


def candidates(weights: str | Path, wish: Wish) -> list[Candidate]:
    """All that the wish leaves.

    Raises:
        UsageError: none is left; says what there would be.
        MissingExtra: what would be left is not installed.
    """
    path = models.resolve(weights)
    own = native(path)
    own.load(path, _nearest(own, path, wish)).close()  # what is wrong with the file itself is said as such
    if wish.runtime != "auto":
        try:
            runtimes.load(wish.runtime)
        except UnknownName as error:
            raise UsageError(str(error)) from error
    if wish.precision == "int8":
        _check_in_8_bits(weights, path, own, wish)
    offers = list(_offers(weights, path, own, wish))
    found = [one for one in offers if one.fault or wish.precision in ("auto", "int8", one.precision)]
    if not all(one.fault for one in found):
        return found
    if found:
        raise UsageError(found[0].fault)
    if offers:
        there = " or ".join(sorted({one.precision for one in offers}))
        raise UsageError(f"nothing here computes {path.name} in {wish.precision}; use --precision auto or {there}")
    if wish.runtime != "auto":
        label = runtimes.load(wish.runtime).label
        raise UsageError(f"{label} does not compute {path.name} on device '{wish.device}'; use --runtime auto")
    there = ", ".join(dict.fromkeys(["auto", *(device for _, device in _installed())]))
    lacking = "; the driver shows one, but no CUDA runtime is installed: install onnxruntime-gpu, tensorrt or PyTorch"
    raise UsageError(
        f"there is no device '{wish.device}' here that computes {path.name}"
        f"{lacking if gpus() and wish.device in ('cuda', *gpus()) else ''}; use --device with one of: {there}"
    )


def _offers(weights: str | Path, path: Path, own: type[Model], wish: Wish) -> Iterator[Candidate]:
    """All combinations of file, runtime, device and precision that fit the wish for a runtime and a device."""
    sibling = models.quantised(str(weights)) if wish.precision in ("auto", "int8") else None
    for name, runtime in runtimes.kinds():
        direct = runtime is own or runtime.takes(path)
        if wish.runtime not in ("auto", name) or not (direct or (own.portable(path) and runtime.takes(_ONNX))):
            continue
        if wish.runtime == "auto" and runtime.instead_of and runtime.instead_of in dict(_installed()):
            continue
        try:
            devices = matching(runtime.devices(), wish.device)
        except (MissingExtra, BrokenRuntime) as error:
            if name in (own.name, wish.runtime):
                raise
            if isinstance(error, BrokenRuntime):
                yield Candidate(str(path), name, "cpu", "fp32", fault=str(error))
            continue
        for device in devices:
            if sibling is None or wish.precision == "auto":
                for precision in runtime.precisions(device, path):
                    yield Candidate(str(path), name, device, precision, converted=not direct)
            if sibling is not None and device == "cpu":
                yield Candidate(str(sibling), name, device, "fp32", quantised=True)


def _installed() -> Iterator[tuple[str, str]]:
    for name, runtime in runtimes.kinds():
        try:
            yield from ((name, device) for device in runtime.devices())
        except (MissingExtra, BrokenRuntime):
            continue


def _nearest(own: type[Model], path: Path, wish: Wish) -> str:
    """The processor, where the file runs there; else the device that is wished for."""
    there = homes(own, path)
    return "cpu" if "cpu" in there else (matching(there, wish.device) or there)[0]


def _check_in_8_bits(weights: str | Path, path: Path, own: type[Model], wish: Wish) -> None:
    if models.quantised(str(weights)) is not None:
        return
    model = own.load(path, _nearest(own, path, wish))
    said = model.metadata.precision
    model.close()
    if said != "int8":
        raise UsageError(
            f"{path.name} is not in 8 bits, and making it so takes frames to calibrate with; run: framechain export "
            f"{weights} --precision int8 --calibration VIDEO, and give what it writes as the weights"
        )


def load(candidate: Candidate, digest: str, wish: Wish) -> Model:
    """Load a network as a candidate does, converting it where that has not been done.

    Args:
        digest: checksum of the weights.

    Raises:
        FramechainError: it cannot be loaded so.
    """
    path = source = Path(candidate.source)
    if candidate.converted:
        source = cache.kept(f"{digest}.{cache.FORMAT}.onnx", lambda: _to_onnx(path))
    runtime = runtimes.load(candidate.runtime)
    try:
        return runtime.load_for(source, candidate.device, candidate.precision, wish.requests, wish.size)
    except UsageError as error:
        if not candidate.converted or isinstance(error, BrokenDevice):
            raise
        source.unlink(missing_ok=True)  # damaged by whatever: it is made once more
        source = cache.kept(source.name, lambda: _to_onnx(path))
        return runtime.load_for(source, candidate.device, candidate.precision, wish.requests, wish.size)


def _to_onnx(path: Path) -> bytes:
    from pipeline.inference.portable import described, to_onnx, with_notes

    model = native(path).load(path, "cpu")
    try:
        made: bytes = with_notes(to_onnx(model, path), described(model.metadata)).SerializeToString(deterministic=True)
    finally:
        model.close()
    return made
