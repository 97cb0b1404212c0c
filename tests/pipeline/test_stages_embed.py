"""Embed against the plain way, one crop at a time, and against people whose identity is known."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from networks import averages, constant
from numpy.typing import NDArray

from pipeline.detections import Detections
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.stages.embed import Embed
from trackers.mot_format import read

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet, RGB, 0..1


@pytest.fixture(scope="module")
def osnet(data: Path) -> Path:
    return data / "weights" / "osnet_x0_25_msmt17.onnx"


class Person(Frame):
    """A frame with the people of the ground truth, and who they are."""

    identities: list[int]


@pytest.fixture(scope="module")
def street(data: Path) -> list[Person]:
    """Every 25th frame of TUD-Stadtmitte with the boxes of its ground truth."""
    truth = read(data / "mot" / "MOT15" / "TUD-Stadtmitte" / "gt" / "gt.txt")
    video = cv2.VideoCapture(str(data / "video" / "TUD-Stadtmitte.mp4"))
    frames = []
    for index in range(179):
        image = np.asarray(video.read()[1], np.uint8)
        if index % 25 == 0:
            rows = truth.frame == index + 1
            frame = Person(image, index=index, detections=detections(truth.xyxy[rows]))
            frame.identities = truth.id[rows].tolist()
            frames.append(frame)
    return frames


def detections(xyxy: Any, class_id: Sequence[int] | None = None, names: tuple[str, ...] = ()) -> Detections:
    boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)
    numbers = np.zeros(len(boxes), np.int64) if class_id is None else np.asarray(class_id, np.int64)
    return Detections(boxes, np.ones(len(boxes), np.float32), numbers, names=names)


def embed(stage: Embed, frames: Sequence[Frame], batch: int = 1) -> list[NDArray[np.float32]]:
    copies = [Frame(frame.image, index=frame.index, detections=frame.detections) for frame in frames]
    for start in range(0, len(copies), batch):
        stage.process(copies[start : start + batch])
    features = [copy.detections.features for copy in copies]
    return [feature for feature in features if feature is not None]


def patch(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def bilinear(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """The textbook's interpolation: centres of pixels at +0.5, the border repeated."""

    def shares(old: int, new: int) -> NDArray[np.float64]:
        table = np.zeros((new, old))
        for n in range(new):
            at = min(max((n + 0.5) * old / new - 0.5, 0), old - 1)
            low = int(at)
            table[n, low] += 1 - (at - low)
            table[n, min(low + 1, old - 1)] += at - low
        return table

    rows, columns = shares(image.shape[0], height), shares(image.shape[1], width)
    planes = rows @ image.transpose(2, 0, 1).astype(np.float64) @ columns.T
    return planes.transpose(1, 2, 0)


def test_the_vectors_are_those_of_one_crop_at_a_time(osnet: Path, street: list[Person]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(osnet), providers=["CPUExecutionProvider"])
    for frame, features in zip(street, embed(Embed(runtime="native", weights=osnet), street), strict=True):
        assert features.shape == (len(frame.detections), 512)
        assert features.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
        height, width = frame.image.shape[:2]
        for box, feature in zip(frame.detections.xyxy, features, strict=True):
            x1, y1, x2, y2 = (round(float(v)) for v in np.clip(box, 0, [width, height, width, height]))
            rgb = bilinear(frame.image[y1:y2, x1:x2, ::-1], 256, 128) / 255.0
            planes = ((rgb - MEAN) / DEVIATION).transpose(2, 0, 1)[None].astype(np.float32)
            (vector,) = session.run(None, {session.get_inputs()[0].name: planes})[0]
            assert float(vector @ feature) / np.linalg.norm(vector) > 0.999


def test_the_nearest_vector_is_the_same_person_a_second_later(osnet: Path, street: list[Person]) -> None:
    """TUD-Stadtmitte runs at 25 frames per second; people there cross and hide one another."""
    vectors = embed(Embed(runtime="native", weights=osnet, batch=8), street)
    hits = asked = 0
    for before, after, old, new in zip(street, street[1:], vectors, vectors[1:], strict=False):
        for identity, vector in zip(after.identities, new, strict=True):
            if identity in before.identities:
                asked += 1
                hits += before.identities[int((old @ vector).argmax())] == identity
    assert asked > 30
    assert hits / asked > 0.8


@pytest.mark.parametrize("batch", [3, 8])
def test_the_bytes_do_not_depend_on_the_batch(osnet: Path, street: list[Person], batch: int) -> None:
    other = Frame(patch(80, 60), detections=detections([[1, 2, 30, 70], [10, 10, 50, 60]]))
    empty = Frame(patch(50, 40))
    frames: list[Frame] = [street[0], other, *street[1:4], empty, *street[4:]]
    stage = Embed(runtime="native", weights=osnet)
    expected = [features.tobytes() for features in embed(stage, frames)]
    assert [features.tobytes() for features in embed(stage, frames, batch)] == expected
    assert [features.tobytes() for features in embed(Embed(runtime="native", weights=osnet), frames, batch)] == expected


def test_the_bytes_do_not_depend_on_the_thread(osnet: Path, street: list[Person]) -> None:
    with Embed(runtime="native", weights=osnet) as stage:
        expected = [features.tobytes() for features in embed(stage, street)]
        with ThreadPoolExecutor(3) as pool:
            found = pool.map(lambda frame: embed(stage, [frame])[0].tobytes(), street * 2)
            assert list(found) == expected * 2


def test_batches_as_a_gpu_gets_them_give_the_same(osnet: Path, street: list[Person]) -> None:
    with Embed(runtime="native", weights=osnet, device="cpu") as stage:
        alone = embed(stage, [*street, Frame(patch(9, 9))])
        assert stage._embedder is not None
        stage._embedder.model.batches = True  # on a CPU nothing else asks for whole batches
        together = embed(stage, [*street, Frame(patch(9, 9))], batch=100)
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_frames_without_objects_have_no_rows_but_the_columns(osnet: Path, street: list[Person]) -> None:
    none, some, none_either = embed(
        Embed(runtime="native", weights=osnet), [Frame(patch(9, 9)), street[0], Frame(patch(9, 8))], batch=3
    )
    assert none.shape == none_either.shape == (0, 512)
    assert some.shape == (len(street[0].detections), 512)


def test_everything_but_the_features_stays_as_it_was(osnet: Path, street: list[Person]) -> None:
    frame = Frame(street[0].image.copy(), detections=detections([[10, 20, 60, 150]], [3], ("a", "b", "c", "d")))
    before = frame.detections
    Embed(runtime="native", weights=osnet).process([frame])
    assert frame.detections.xyxy is before.xyxy
    assert frame.detections.class_id is before.class_id
    assert frame.detections.names == before.names
    assert before.features is None
    np.testing.assert_array_equal(frame.image, street[0].image)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_networks_for_any_or_a_given_number_of_crops(batch: int | str, tmp_path: Path) -> None:
    """The network gives mean channels, so the vector of a plain crop is its colour, normalised."""
    colours = np.random.default_rng(0).integers(0, 256, (9, 3), np.uint8)
    image = np.repeat(np.repeat(colours[None], 20, axis=0), 10, axis=1)  # nine vertical bars, 10 pixels wide
    bars = detections([[10 * n, 0, 10 * n + 10, 20] for n in range(9)])
    stage = Embed(runtime="native", weights=averages(tmp_path / "averages.onnx", [batch, 3, 16, 8]))
    features, none = embed(stage, [Frame(image, detections=bars), Frame(image)], batch=2)
    expected = (colours[:, ::-1] / 255 - MEAN) / DEVIATION
    np.testing.assert_allclose(features, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    assert none.shape == (0, 3)


def test_a_network_for_any_size_of_crop_gets_persons(tmp_path: Path) -> None:
    stage = Embed(runtime="native", weights=averages(tmp_path / "averages.onnx", ["n", 3, "h", "w"]))
    (features,) = embed(stage, [Frame(patch(40, 30), detections=detections([[0, 0, 30, 40]]))])
    assert features.shape == (1, 3)


def test_a_crowd_larger_than_one_call(tmp_path: Path) -> None:
    image = patch(60, 60)
    boxes = np.random.default_rng(0).uniform(0, 30, (300, 4)) + np.array([0, 0, 30, 30])
    stage = Embed(runtime="native", weights=averages(tmp_path / "averages.onnx", ["n", 3, 16, 8]))
    (together,) = embed(stage, [Frame(image, detections=detections(boxes))])
    alone = [embed(stage, [Frame(image, detections=detections(box))])[0] for box in boxes]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ([-20, -10, 15, 12], [0, 0, 15, 12]),
        ([25, 30, 90, 99], [25, 30, 40, 50]),
        ([-5, -5, 99, 99], [0, 0, 40, 50]),
        ([4.4, 5.6, 10.4, 20.6], [4, 6, 10, 21]),  # whole pixels, the nearest
        ([7.1, 8.1, 7.3, 8.2], [7, 8, 8, 9]),  # thinner than a pixel
        ([39.9, 49.9, 40, 50], [39, 49, 40, 50]),
        ([60, 70, 80, 90], [39, 49, 40, 50]),  # wholly outside: the nearest pixel
        ([-30, -30, -10, -10], [0, 0, 1, 1]),
    ],
)
def test_boxes_partly_outside_thin_or_gone(box: list[float], inside: list[int], tmp_path: Path) -> None:
    image = patch(50, 40)
    x1, y1, x2, y2 = inside
    crop = cv2.resize(image[y1:y2, x1:x2], (8, 16))[..., ::-1]
    expected = ((crop / 255 - MEAN) / DEVIATION).mean((0, 1))
    stage = Embed(runtime="native", weights=averages(tmp_path / "averages.onnx", ["n", 3, 16, 8]))
    (features,) = embed(stage, [Frame(image, detections=detections([box]))])
    np.testing.assert_allclose(features, [expected / np.linalg.norm(expected)], atol=1e-5)


def test_vectors_of_zeros_stay_zeros(tmp_path: Path) -> None:
    stage = Embed(runtime="native", weights=constant(tmp_path / "zeros.onnx", [1, 3, 16, 8], [1, 5]))
    (features,) = embed(stage, [Frame(patch(50, 40), detections=detections([[0, 0, 9, 9]]))])
    np.testing.assert_array_equal(features, np.zeros((1, 5), np.float32))


def test_only_the_classes_asked_for(osnet: Path, street: list[Person]) -> None:
    xyxy = street[0].detections.xyxy[:4]
    mixed = detections(xyxy, [0, 2, 0, 1], ("person", "car", "dog"))
    stage = Embed(runtime="native", weights=osnet, classes=("person", 1))
    (features,) = embed(stage, [Frame(street[0].image, detections=mixed)])
    (alone,) = embed(
        Embed(runtime="native", weights=osnet), [Frame(street[0].image, detections=mixed[np.array([0, 2, 3])])]
    )
    np.testing.assert_array_equal(features[[0, 2, 3]], alone)
    np.testing.assert_array_equal(features[1], 0)


def test_classes_by_number_where_the_detector_has_no_names(osnet: Path) -> None:
    frame = Frame(patch(60, 60), detections=detections([[0, 0, 20, 40], [0, 0, 9, 9]], [1, 0]))
    (features,) = embed(Embed(runtime="native", weights=osnet, classes=(1, 7)), [frame])
    assert features.any(axis=1).tolist() == [True, False]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_in_torchscript(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers).eval()
    torch.jit.save(torch.jit.script(network), str(tmp_path / "embedder.pt"))
    image = patch(256, 128)
    (features,) = embed(
        Embed(runtime="native", weights=tmp_path / "embedder.pt"),
        [Frame(image, detections=detections([[0, 0, 128, 256]]))],
    )
    planes = ((image[..., ::-1] / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)[None].astype(np.float32)
    with torch.inference_mode():
        (expected,) = network(torch.from_numpy(planes)).numpy()
    np.testing.assert_allclose(features[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_a_class_that_the_detector_does_not_know(osnet: Path) -> None:
    frame = Frame(patch(50, 40), detections=detections([[0, 0, 9, 9]], [0], ("person", "car")))
    with pytest.raises(UsageError, match="no class 'persn'; did you mean 'person'"):
        Embed(runtime="native", weights=osnet, classes=("persn",)).process([frame])


def test_closed_and_opened_again_it_gives_the_same(osnet: Path, street: list[Person]) -> None:
    stage = Embed(runtime="native", weights=osnet)
    expected = embed(stage, street[:1])[0].tobytes()
    stage.close()
    stage.close()
    assert embed(stage, street[:1])[0].tobytes() == expected


def refused(weights: Path) -> str:
    with pytest.raises(UsageError) as error:
        Embed(runtime="native", weights=weights).open()
    line = str(error.value)
    assert "\n" not in line
    assert str(weights) in line
    return line


def test_what_does_not_embed(data: Path, tmp_path: Path) -> None:
    detector = refused(data / "weights" / "nanodet_g.onnx")
    assert "does not embed: its outputs are (1, 3549, 124) and not one (N, D)" in detector
    assert "there are no weights" in refused(tmp_path / "absent.onnx")
    classifier = refused(constant(tmp_path / "c.onnx", [1, 3, 64, 64], [1, 1000], task="classify"))
    assert "is made to classify, not to embed" in classifier


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_checkpoint_that_detects(data: Path) -> None:
    pytest.importorskip("ultralytics")
    assert "is made to detect, not to embed" in refused(data / "weights" / "yolo11n.pt")
