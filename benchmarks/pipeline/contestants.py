"""Who runs: ways to detect and track in a video with one Ultralytics checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

REQUIREMENTS = ("ultralytics==8.4.190", "lap==0.5.13", "deep-sort-realtime==1.3.2", "setuptools<81")

Kind = Literal["framechain", "ultralytics", "loop"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way.

    Attributes:
        name: in results. kind: whose program runs. what: for readers.
        options: of its program, see `worker.py`.
    """

    name: str
    kind: Kind
    what: str
    options: dict[str, Any] = field(default_factory=dict)


CONTESTANTS = (
    Contestant("framechain", "framechain", "detect, track; the runtime it chooses by itself"),
    Contestant("framechain fp32", "framechain", "the same in full precision", {"precision": "fp32"}),
    Contestant("framechain bytetrack", "framechain", "the same with ByteTrack", {"tracker": "bytetrack"}),
    Contestant("framechain int8", "framechain", "its own int8 export, calibrated on the video", {"export": "int8"}),
    Contestant(
        "framechain deepsort",
        "framechain",
        "detect, embed, track with DeepSORT",
        {"tracker": "deepsort", "embed": True},
    ),
    Contestant("framechain default", "framechain", "detect, embed, track as `framechain run` does", {"embed": True}),
    Contestant("ultralytics", "ultralytics", "YOLO(.pt).track(stream=True)"),
    Contestant("ultralytics bytetrack", "ultralytics", "the same with ByteTrack", {"tracker": "bytetrack.yaml"}),
    Contestant("ultralytics onnx", "ultralytics", "its export to ONNX", {"export": "onnx"}),
    Contestant("ultralytics openvino", "ultralytics", "its export to OpenVINO", {"export": "openvino"}),
    Contestant(
        "ultralytics openvino bytetrack",
        "ultralytics",
        "the same with ByteTrack",
        {"export": "openvino", "tracker": "bytetrack.yaml"},
    ),
    Contestant(
        "ultralytics openvino fitted",
        "ultralytics",
        "its export to OpenVINO for the video's own shape",
        {"export": "openvino", "fitted": True},
    ),
    Contestant(
        "ultralytics openvino fitted bytetrack",
        "ultralytics",
        "the same with ByteTrack",
        {"export": "openvino", "fitted": True, "tracker": "bytetrack.yaml"},
    ),
    Contestant("loop", "loop", "OpenCV, YOLO(.pt) and deep-sort-realtime with its embedder"),
)
