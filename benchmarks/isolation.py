"""What a bad camera takes from a good one: frames a second and results of a steady camera, alone and beside each kind.

    python -m benchmarks.isolation [--seconds 8] [--rounds 5] [--json isolation.json]

The steady camera and its neighbour go through one chain that detects and tracks; small pictures, so that the machine
has room for both, and what is lost is lost to the neighbour's fault. All kinds take turns, so that a busy machine hits
all alike; cameras live in a process of their own. Frames a second are those that came out of the chain. The camera
plays the same pictures again and again; detections are compared with those of the runs alone, to the last bit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
from pydantic import PrivateAttr

from benchmarks.soak.camera import Camera
from pipeline import Frame, Pipeline
from pipeline.sink import Sink
from pipeline.source import create_source
from pipeline.stages.detect import Detect
from pipeline.stages.track import Track

RATE = 25.0
"""Pictures a second of the steady camera."""

SIZE = (160, 96)
"""Pixels of all pictures."""

_PICTURES = 50
"""That the camera plays again and again: two seconds, so that every run sees them all."""

KINDS = {
    "": "alone",
    "off": "nobody listens",
    "dead": "accepts the connection and never answers",
    "silent": "answers and sends no picture",
    "corrupt": "sends nothing but garbage",
    "slow": "1 picture a second",
    "fast": "4 times as fast",
}


class Watch(Sink):
    """Notes when each frame came, and what was found in it."""

    name = "watch"

    _seen: dict[str, list[tuple[float, int, bytes]]] = PrivateAttr(default_factory=dict)

    def write(self, frame: Frame) -> None:
        """Note it."""
        found = frame.detections
        result = found.xyxy.tobytes() + found.confidence.tobytes() + found.class_id.tobytes()
        self._seen.setdefault(frame.source, []).append((time.monotonic(), frame.index, result))

    def of(self, source: str) -> list[tuple[float, int, bytes]]:
        """(monotonic clock, index, what was found) of the frames of a source so far."""
        return list(self._seen.get(source, ()))


@dataclass
class Beside:
    """The steady camera beside a neighbour.

    Attributes:
        fps: of the steady camera in each round. ratios: to the run alone of the same round.
        compared: looks at pictures that were looked at alone. differing: those of them with other results.
    """

    kind: str
    fps: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    compared: int = 0
    differing: int = 0


@contextmanager
def cameras() -> Iterator[tuple[dict[str, str], int]]:
    """The address of each, by kind, and how many pictures they have; "steady" is the one that is measured."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_play, args=(theirs,), daemon=True)
    process.start()
    with socket.create_server(("127.0.0.1", 0)) as dead, socket.create_server(("127.0.0.1", 0)) as off:
        addresses, pictures = ours.recv()
        addresses["dead"] = f"http://127.0.0.1:{dead.getsockname()[1]}/mjpeg"
        addresses["off"] = f"http://127.0.0.1:{off.getsockname()[1]}/mjpeg"
        off.close()
        try:
            yield addresses, pictures
        finally:
            ours.send("over")
            process.join()


def measure(addresses: dict[str, str], kind: str, seconds: float) -> tuple[float, list[tuple[int, bytes]]]:
    """Frames a second of the steady camera beside a neighbour, and what was found in them, each with its index."""
    watch = Watch()
    sources = [create_source(addresses["steady"], id="steady")]
    if kind:
        sources.append(create_source(addresses[kind], id=kind, open_timeout=1))
    pipeline = Pipeline(sources, [Detect(image_size=SIZE[0], runtime="onnxruntime"), Track()], [watch], keep_going=True)
    pipeline.start()
    try:
        while len(watch.of("steady")) < RATE:  # a second for everything to begin
            if pipeline.join(0.02):
                break
        start = time.monotonic()
        pipeline.join(seconds)
        seen = watch.of("steady")
    finally:
        pipeline.stop()
        pipeline.wait(20)
    times = [at for at, _, _ in seen if at >= start]
    return (len(times) - 1) / (times[-1] - times[0]), [(index, result) for _, index, result in seen]


def isolation(seconds: float, rounds: int, kinds: tuple[str, ...] = tuple(KINDS)) -> list[Beside]:
    """Measure all kinds in turns; the first one is the steady camera alone."""
    figures = {kind: Beside(kind) for kind in kinds}
    alone: dict[int, bytes] = {}  # what was found in each picture
    with cameras() as (addresses, pictures):
        for _ in range(rounds):
            for kind, beside in figures.items():
                fps, found = measure(addresses, kind, seconds)
                beside.fps.append(fps)
                beside.ratios.append(fps / figures[""].fps[-1])
                for index, result in found:
                    if not kind:
                        alone.setdefault(index % pictures, result)
                    if (expected := alone.get(index % pictures)) is not None:
                        beside.compared += 1
                        beside.differing += result != expected
    return list(figures.values())


def table(figures: list[Beside]) -> str:
    """As Markdown."""
    lines = ["| neighbour | FPS | × alone | least … most | looks compared | with other results |", "|" + "---|" * 6]
    for one in figures:
        median, spread = statistics.median(one.ratios), f"{min(one.ratios):.3f} … {max(one.ratios):.3f}"
        lines.append(
            f"| {KINDS[one.kind]} | {statistics.median(one.fps):.2f} | {median:.3f} | {spread} | {one.compared} "
            f"| {one.differing} |"
        )
    return "\n".join(lines)


def _play(owner: Connection) -> None:
    """Play all cameras until `owner` says that it is over; begins by telling where they are."""
    pictures = _pictures()
    made = {"steady": RATE, "fast": 4 * RATE, "slow": 1.0, "corrupt": RATE, "silent": RATE}
    playing = {kind: Camera(pictures, rate) for kind, rate in made.items()}
    playing["corrupt"].garbage = sys.maxsize
    playing["silent"].frozen = True
    owner.send(({kind: camera.uri for kind, camera in playing.items()}, len(pictures)))
    owner.recv()


def _pictures() -> list[bytes]:
    """The street scene of samples/ as JPEG."""
    script = Path(__file__).parents[1] / "samples/render_street.py"
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "street.mp4"
        command = [sys.executable, str(script), str(video), "--size", "320x180", "--seconds", "3"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        capture, pictures = cv2.VideoCapture(str(video)), []
        while len(pictures) < _PICTURES and (read := capture.read())[0]:
            pictures.append(cv2.imencode(".jpg", cv2.resize(read[1], SIZE))[1].tobytes())
        capture.release()
    return pictures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    figures = isolation(options.seconds, options.rounds)
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
