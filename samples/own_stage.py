"""A stage of your own in the chain: warn when somebody stands still for long.

python samples/own_stage.py street.mp4
"""

import argparse
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from pipeline import Detect, Frame, Pipeline, Stage, Track


class Loitering(Stage):
    """Prints the id of each person who has hardly moved for some seconds."""

    name = "loitering"
    requires = frozenset({"tracks"})
    seconds: float = Field(3.0, gt=0, description="how long is long")
    speed: float = Field(0.1, gt=0, description="box heights per second that count as standing")

    def process(self, frames: Sequence[Frame]) -> None:
        """Look at the speed and age of each track."""
        for frame in frames:
            tracks = frame.tracks
            height = tracks.xyxy[:, 3] - tracks.xyxy[:, 1]
            still = np.linalg.norm(tracks.velocity, axis=1) < self.speed * height
            for track_id in tracks.id[still & (tracks.age > self.seconds)].tolist():
                print(f"{frame.timestamp:.1f} s: person {track_id} is standing there")


parser = argparse.ArgumentParser(description="Warn of people who stand still.")
parser.add_argument("source")
parser.add_argument("--weights", default="nanodet-g")
arguments = parser.parse_args()

chain = [Detect(weights=arguments.weights, classes=["person"]), Track(), Loitering()]
print(Pipeline([arguments.source], chain).run().fps, "FPS")
