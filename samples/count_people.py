"""Count the people in a video: the whole chain in a loop of your own.

python samples/count_people.py street.mp4
"""

import argparse

from pipeline import Detect, Pipeline, Track

parser = argparse.ArgumentParser(description="Count the people in a video.")
parser.add_argument("source")
parser.add_argument("--weights", default="nanodet-g")
arguments = parser.parse_args()

people = set()
# a false alarm makes one person too many, a faint glimpse of a real one is seen better in the next frame
stages = [Detect(weights=arguments.weights, classes=["person"], confidence=0.5), Track()]
for frame in Pipeline([arguments.source], stages):
    people.update(frame.tracks.id.tolist())
print(f"{len(people)} people")
