"""The process in which an OCR engine runs by itself; `isolated.py` starts it and talks to it over its pipes."""

from __future__ import annotations

import sys

import numpy as np

from pipeline.errors import FramechainError
from pipeline.isolation.child import attach
from pipeline.isolation.messages import Closed
from pipeline.ocr.engine import engines


def main() -> None:
    """Load the engine that the command line names, and read images until nobody asks any more."""
    channel = attach()
    try:
        engine = engines.load(sys.argv[1])(int(sys.argv[2]))
    except FramechainError as error:
        channel.send({"refused": str(error)})
        return
    channel.send({"ready": engine.name})
    while True:
        try:
            asked, pixels = channel.receive()
        except Closed:
            return
        image = np.frombuffer(pixels, np.uint8).reshape(asked["shape"])
        try:
            lines = engine.read_line(image) if asked["size"] is None else engine.read(image, asked["size"])
        except Exception as error:
            channel.send({"failed": f"{type(error).__name__}: {error}"})
            continue
        channel.send({"lines": [(line.text, line.confidences, line.xyxy) for line in lines]})


if __name__ == "__main__":
    main()
