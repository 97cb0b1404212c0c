"""What is made for GPUs, run on the processor: frames prepared by one gather, lanes of threads, recorded networks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.frame import Frame, Region
from pipeline.geometry import Letterbox
from pipeline.inference.graphs import Graphs, Network, Recording
from pipeline.inference.lanes import Lanes
from pipeline.inference.views import View, Views
from pipeline.normalisation import IMAGENET, Normalisation
from pipeline.stages.detect import Detect
from pipeline.stages.embed import Embed

torch = pytest.importorskip("torch")

BYTES = Normalisation(rgb=False, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(scope="module")
def street(data: Path) -> list[NDArray[np.uint8]]:
    video = cv2.VideoCapture(str(data / "video" / "vtest.avi"))
    return [np.asarray(video.read()[1], np.uint8) for _ in range(40)][::10]


def on_the_device(views: Views) -> NDArray[np.float32]:
    (prepared,) = Lanes("cpu").run_views(views, lambda images: [images])
    return prepared


def boxed(image: NDArray[np.uint8], size: int, region: Region | None = None) -> tuple[View, tuple[int, int]]:
    x1, y1, x2, y2 = region or (0, 0, image.shape[1], image.shape[0])
    box = Letterbox.around((y2 - y1, x2 - x1), (size, size), 32)
    return View(image, (x1, y1, x2, y2), box.place), box.target


@pytest.mark.parametrize("size", [320, 416, 640, 768, 1024])
def test_whole_frames_are_as_opencv_makes_them(size: int, street: list[NDArray[np.uint8]]) -> None:
    parts = [boxed(image, size) for image in street]
    views = Views(tuple(view for view, _ in parts), parts[0][1], BYTES, padding=114)
    difference = np.abs(on_the_device(views) - views.prepared())
    assert difference.mean() < 0.001
    assert difference.max() <= 1


def test_crops_of_several_frames_in_one_call(street: list[NDArray[np.uint8]]) -> None:
    random = np.random.default_rng(0)
    parts = []
    for n in range(60):
        x, y, width, height = random.integers([0, 0, 1, 1], [700, 500, 68, 76])
        parts.append(View(street[n % 4], (int(x), int(y), int(x + width), int(y + height))))
    views = Views(tuple(parts), (256, 128), IMAGENET)
    difference = np.abs(on_the_device(views) - views.prepared()) * np.array(IMAGENET.std)[:, None, None]
    assert difference.mean() < 0.02
    assert difference.max() <= 1.001


def test_a_region_sees_nothing_of_what_is_around_it(street: list[NDArray[np.uint8]]) -> None:
    """Its border is repeated, as if there were no other pixels."""
    image = street[0].copy()
    view, target = boxed(image, 640, (100, 50, 340, 290))
    views = Views((view,), target, BYTES)
    before = on_the_device(views)
    image[:50], image[290:], image[:, :100], image[:, 340:] = 0, 255, 255, 0
    np.testing.assert_array_equal(on_the_device(views), before)


def test_pixels_that_are_not_scaled_stay_the_same(street: list[NDArray[np.uint8]]) -> None:
    views = Views((View(street[0], (3, 5, 131, 69)),), (64, 128), IMAGENET)
    np.testing.assert_allclose(on_the_device(views), views.prepared(), atol=1e-6)


def test_one_pixel_is_enough() -> None:
    image = np.full((1, 1, 3), (1, 2, 3), np.uint8)
    views = Views((View(image, (0, 0, 1, 1)),), (4, 4), BYTES)
    np.testing.assert_array_equal(on_the_device(views), views.prepared())


def replayed(network: Network, images: Any) -> Recording:
    """A recording as CUDA's is: the same input and the same outputs each time."""
    static = images.clone()
    outputs = list(network(static))

    def replay() -> None:
        for out, new in zip(outputs, network(static), strict=True):
            out.copy_(new)

    return Recording(static, outputs, replay)


def as_on_a_gpu(stage: Detect | Embed, record: Callable[[Network, Any], Recording] = replayed) -> None:
    model: Any = stage.detector.model if isinstance(stage, Detect) else stage.embedder.model
    model.batches = True
    model._graphs = Graphs(model._forward, record, model.label)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_detector_finds_the_same_when_it_prepares_its_input(data: Path, street: list[NDArray[np.uint8]]) -> None:
    pytest.importorskip("ultralytics")

    def found(stage: Detect, times: int = 1) -> list[Frame]:
        for _ in range(times):
            frames = [Frame(street[0]), Frame(street[3]), Frame(street[0], region=(0, 0, 400, 500))]
            stage.process(frames)
        return frames

    with Detect(weights=data / "weights" / "yolo11n.pt", runtime="native", device="cpu", image_size=320) as stage:
        plain = found(stage)
        as_on_a_gpu(stage)
        for one, other in zip(plain, found(stage, times=3), strict=True):
            assert len(one.detections)
            np.testing.assert_allclose(one.detections.xyxy, other.detections.xyxy, atol=0.05)
            np.testing.assert_allclose(one.detections.confidence, other.detections.confidence, atol=0.001)
            np.testing.assert_array_equal(one.detections.class_id, other.detections.class_id)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_all_crops_of_all_frames_are_one_call(tmp_path: Path, street: list[NDArray[np.uint8]]) -> None:
    class Averages(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)

    torch.jit.save(torch.jit.trace(Averages(), torch.zeros(1, 3, 256, 128)), str(tmp_path / "averages.pt"))
    random = np.random.default_rng(1)
    low = random.uniform(0, 500, (4, 9, 2))
    boxes = np.concatenate([low, low + random.uniform(10, 60, (4, 9, 2))], axis=2).astype(np.float32)

    def vectors(stage: Embed) -> list[NDArray[np.float32]]:
        frames = []
        for image, xyxy in zip(street, boxes, strict=True):
            frame = Frame(image)
            frame.detections = frame.detections.__class__(xyxy, np.ones(9, np.float32), np.zeros(9, np.int64))
            frames.append(frame)
        stage.process(frames)
        return [np.asarray(frame.detections.features) for frame in frames]

    with Embed(weights=tmp_path / "averages.pt", runtime="native", device="cpu") as stage:
        plain = vectors(stage)
        as_on_a_gpu(stage)
        calls: list[int] = []
        model: Any = stage.embedder.model
        forward = model._forward
        model._graphs = Graphs(lambda images: calls.append(len(images)) or forward(images), replayed, "it")
        for one, other in zip(plain, vectors(stage), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
    assert calls == [36]


def test_a_shape_is_recorded_once_it_comes_again_and_only_so_many_are() -> None:
    recorded: list[tuple[int, ...]] = []

    def record(network: Network, images: Any) -> Recording:
        recorded.append(tuple(images.shape))
        return replayed(network, images)

    graphs = Graphs(lambda images: [images * 2], record, "it")
    for _ in range(6):
        for size in range(1, 21):
            given = torch.rand(size, 2)
            torch.testing.assert_close(graphs(given)[0], given * 2)
    assert recorded == [(size, 2) for size in range(1, 17)]
    graphs.clear()
    for _ in range(3):
        graphs(torch.rand(20, 2))
    assert recorded[-1] == (20, 2)


@pytest.mark.parametrize(
    "error", [RuntimeError("not permitted when stream is capturing"), torch.cuda.OutOfMemoryError("out of memory")]
)
def test_what_cannot_be_recorded_is_said_once_and_runs_all_the_same(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def record(network: Network, images: Any) -> Recording:
        if len(images) == 3:
            raise error
        return replayed(network, images)

    graphs = Graphs(lambda images: [images + 1], record, "PyTorch")
    for _ in range(8):
        assert graphs(torch.zeros(2))[0].tolist() == [1, 1]
        assert graphs(torch.zeros(3))[0].tolist() == [1, 1, 1]
    (said,) = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "CUDA graph" in said
    assert str(error) in said


def test_threads_share_a_recorded_network_and_each_gets_its_own_results() -> None:
    """Whatever overwrites the static outputs comes after they were copied."""
    graphs = Graphs(lambda images: [images.mean((2, 3))], replayed, "it")
    lanes = Lanes("cpu")

    def run(batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        return lanes.run(batch, graphs)

    batches = [np.full((2, 3, 4, 4), n, np.float32) for n in range(200)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, batches))
    for n, (means,) in enumerate(results):
        assert (means == n).all()
