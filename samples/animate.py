"""Turn a part of a video into an animated WebP, such as the one in the README.

python samples/animate.py out/demo.mp4 docs/demo.webp --start 4 --seconds 4
"""

import argparse

import av
import cv2

from pipeline import open_source

parser = argparse.ArgumentParser(description="Turn a part of a video into an animated WebP.")
parser.add_argument("video")
parser.add_argument("output")
parser.add_argument("--start", type=float, default=0.0, help="seconds")
parser.add_argument("--seconds", type=float, default=4.0)
parser.add_argument("--width", type=int, default=640)
parser.add_argument("--fps", type=int, default=10)
arguments = parser.parse_args()

images = []
with open_source(arguments.video) as frames:
    for frame in frames:
        if arguments.start + len(images) / arguments.fps <= frame.timestamp < arguments.start + arguments.seconds:
            height = round(frame.image.shape[0] * arguments.width / frame.image.shape[1] / 2) * 2
            images.append(cv2.resize(frame.image, (arguments.width, height), interpolation=cv2.INTER_AREA))

with av.open(arguments.output, "w", format="webp", options={"loop": "0"}) as container:
    stream = container.add_stream("libwebp_anim", rate=arguments.fps, options={"quality": "55"})
    stream.pix_fmt, stream.height, stream.width = "yuv420p", *images[0].shape[:2]
    for image in images:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
    container.mux(stream.encode())
