"""Each stage by itself, in a loop of your own, without the engine.

python samples/stages_alone.py street.mp4
"""

import argparse

from pipeline import Detect, Embed, ReadText, Track, open_source

parser = argparse.ArgumentParser(description="Run the stages one by one.")
parser.add_argument("source")
parser.add_argument("--weights", default="nanodet-g")
parser.add_argument("--embedder", default="person-embedder")
parser.add_argument("--max-frames", type=int, default=50)
arguments = parser.parse_args()

detect, embed = Detect(weights=arguments.weights), Embed(weights=arguments.embedder)
track, read_text = Track(), ReadText()
for frame in open_source(arguments.source, max_frames=arguments.max_frames):
    for stage in (detect, embed, track, read_text):
        stage.process([frame])
    texts = {text.track_id: text.text for text in frame.texts}
    for track_id, box in zip(frame.tracks.id.tolist(), frame.tracks.xyxy.round().tolist(), strict=True):
        print(frame.index, track_id, box, texts.get(track_id, ""))
