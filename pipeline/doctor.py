"""Doctor: what is installed and what works on this machine, each thing tried and none guessed."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import numpy as np

from pipeline.errors import MissingExtra, UsageError
from pipeline.hardware import KINDS, accelerator
from pipeline.inference.model import runtimes
from pipeline.ocr.engine import engines
from pipeline.source import create_source, open_source


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Attributes:
        topic: what it belongs to. what: the thing.
        works: True, False, or None where it is optional and not installed.
        detail: version and device, or why not; with the line that installs it.
    """

    topic: str
    what: str
    works: bool | None
    detail: str


def examine() -> Iterator[Finding]:
    """Try everything, one finding after the other; takes some seconds."""
    yield Finding("machine", "python", True, f"{platform.python_version()} on {platform.platform()}")
    yield Finding("machine", "processor", True, f"{os.cpu_count()} cores, {platform.machine()}")
    yield from _packages()
    for name in runtimes.names():
        yield from _runtime(name)
    yield _tried("video", "H.264 in MP4", _encode_and_decode)
    yield from _hardware()
    for name in engines.names():
        yield _tried("text", name, partial(_read_a_word, name))
    yield _display()


def _packages() -> Iterator[Finding]:
    """Every package that Framechain's own metadata names, with the extra it belongs to."""
    seen = set()
    for requirement in requires("framechain") or []:
        name = requirement.split(";")[0].split("[")[0].strip().split(">")[0].split("=")[0].strip()
        extra = requirement.split("extra ==")[1].strip(" \"'") if "extra ==" in requirement else None
        if name == "framechain" or name in seen or extra in ("dev", "all"):
            continue
        seen.add(name)
        try:
            yield Finding("packages", name, True, version(name))
        except PackageNotFoundError:
            cure = f"pip install 'framechain[{extra}]'" if extra else "pip install --force-reinstall framechain"
            yield Finding("packages", name, None if extra else False, f"not installed: {cure}")


def _runtime(name: str) -> Iterator[Finding]:
    try:
        for probe in runtimes.load(name).probe():
            yield Finding("runtimes", f"{name} {probe.device}", probe.works, probe.detail)
    except MissingExtra as error:
        yield Finding("runtimes", name, None, str(error))
    except UsageError as error:
        yield Finding("runtimes", name, False, str(error))


def _tried(topic: str, what: str, attempt: Callable[[], str]) -> Finding:
    start = time.perf_counter()
    try:
        detail = attempt()
    except MissingExtra as error:
        return Finding(topic, what, None, str(error))
    except Exception as error:
        return Finding(topic, what, False, " ".join(f"{type(error).__name__}: {error}".split())[:200])
    return Finding(topic, what, True, f"{detail} ({time.perf_counter() - start:.1f} s)")


def _encode_and_decode() -> str:
    """Write ten frames of the synthetic scene as MP4 and count them back."""
    from pipeline.sinks.video import Video

    with tempfile.TemporaryDirectory(prefix="framechain-doctor-") as folder:
        path = Path(folder) / "try.mp4"
        scene, sink = create_source("test:320x240@25,frames=10"), Video(path=path)
        sink.open()
        sink.begin(scene.open())
        for frame in scene:
            sink.write(frame)
        sink.close()
        with open_source(str(path)) as written:
            count = sum(1 for _ in written)
        if count != 10:
            raise RuntimeError(f"10 frames were written and {count} came back")
        return f"10 frames written and read, {path.stat().st_size} bytes"


def _hardware() -> Iterator[Finding]:
    """What this build of PyAV could decode with, and whether it is here."""
    from av.codec.hwaccel import hwdevices_available

    for kind in KINDS:
        if kind in hwdevices_available():
            try:
                accelerator(kind)
            except UsageError as error:
                yield Finding("video", f"decoding by {kind}", None, str(error))
            else:
                yield Finding("video", f"decoding by {kind}", True, "the device opens")


def _read_a_word(name: str) -> str:
    """Draw a word and read it."""
    import cv2

    image = np.full((96, 480, 3), 255, np.uint8)
    cv2.putText(image, "FRAME 42", (20, 68), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 4, cv2.LINE_AA)
    text, _ = engines.load(name)().recognize(image)
    if text.replace(" ", "") != "FRAME42":
        raise RuntimeError(f"'FRAME 42' was read as '{text}'")
    return "reads a drawn word"


def _display() -> Finding:
    """Whether --show can open a window."""
    from pipeline.sinks.window import Window

    try:
        Window().open()
    except UsageError as error:
        return Finding("window", "--show", None, str(error))
    return Finding("window", "--show", True, "a display is there")
