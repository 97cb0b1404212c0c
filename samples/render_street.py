"""Render a street scene with exact ground truth: python samples/render_street.py out/street.mp4

Beside the video, in a folder of its name: gt/gt.txt and seqinfo.ini as MOTChallenge lays them out, and plates.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from street.assets import MissingPhotograph, photograph
from street.render import render


def size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT, even numbers as H.264 wants them."""
    width, height = (int(part) for part in text.split("x"))
    if width < 160 or height < 90 or width % 2 or height % 2:
        raise ValueError(text)
    return width, height


def seconds(text: str) -> float:
    """A length of video."""
    value = float(text)
    if not 0 < value <= 60:
        raise ValueError(text)
    return value


def main() -> int:
    """Parse, render, say what was written."""
    parser = argparse.ArgumentParser(description="Render a street scene with exact ground truth.")
    parser.add_argument(
        "video", type=Path, help="the MP4 to write; its ground truth goes into a folder of the same name"
    )
    parser.add_argument("--assets", type=Path, help="folder with bus.jpg (default: the installed ultralytics wheel)")
    parser.add_argument("--seconds", type=seconds, default=12.0, help="length; the plot takes 12 (default)")
    parser.add_argument("--size", type=size, default=(1280, 720), metavar="WxH", help="even numbers, default 1280x720")
    parser.add_argument("--seed", type=int, default=0, help="grain, sway, and all that is left to chance")
    options = parser.parse_args()
    try:
        photo = photograph(options.assets)
        truth = render(photo, options.video, options.seconds, options.size, options.seed)
    except (MissingPhotograph, OSError) as error:
        print(f"render_street: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.video} and its ground truth {truth}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
