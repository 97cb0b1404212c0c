"""Detectors of torchvision behind the Detect stage find what the library itself finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import coco
from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.source import open_source
from pipeline.stages.detect import Detect

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")

SSD = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def image(data: Path) -> NDArray[np.uint8]:
    with open_source(str(data / "video" / "vtest.avi")) as source:
        return next(iter(source)).image


def network(name: str, classes: int, file: Path) -> Any:
    """A random one that finds something, and its state dict written."""
    torch.manual_seed(0)
    module = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes).eval()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith("cls_logits.bias") and "rpn" not in key:
                tensor.zero_()  # RetinaNet begins with scores of 0.01, below what they report
    torch.save(module.state_dict(), file)
    return module


@pytest.mark.parametrize(
    ("name", "classes"),
    [(SSD, 91), (SSD, 4), ("fasterrcnn_mobilenet_v3_large_320_fpn", 3), ("retinanet_resnet50_fpn", 3)],
)  # fmt: skip
def test_the_boxes_are_those_of_torchvision(name: str, classes: int, image: NDArray[np.uint8], tmp_path: Path) -> None:
    image = np.ascontiguousarray(image[::2, ::2])
    module = network(name, classes, tmp_path / "state.pth")
    with torch.inference_mode():
        rgb = torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1) / 255
        theirs = {key: value.numpy() for key, value in module([rgb])[0].items()}
    with Detect(
        runtime="native", weights=f"torchvision:{name}@{tmp_path / 'state.pth'}", confidence=0.005, device="cpu"
    ) as stage:
        frame = Frame(image)
        stage.process([frame])
    ours, labels = frame.detections, theirs["labels"]
    if classes == 91:  # COCO: by its names, as torchvision has them at its own numbers
        categories = models.get_model_weights(name).DEFAULT.meta["categories"]
        rows = np.array([categories[label] not in ("__background__", "N/A") for label in labels])
        assert [coco.NAMES[number] for number in ours.class_id] == [categories[label] for label in labels[rows]]
        assert ours.names == coco.NAMES
    else:
        boxes = theirs["boxes"]
        rows = (labels > 0) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # neither the background nor nothing
        np.testing.assert_array_equal(ours.class_id, labels[rows] - 1)
    assert rows.sum() > 10
    np.testing.assert_allclose(ours.confidence, theirs["scores"][rows], rtol=1e-4)
    np.testing.assert_allclose(ours.xyxy, theirs["boxes"][rows], atol=0.05)


def refused(weights: str, **options: Any) -> str:
    with pytest.raises(UsageError) as error:
        Detect(runtime="native", weights=weights, device="cpu", **options).open()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bad_input_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network(SSD, 3, tmp_path / "state.pth")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    assert f"did you mean '{SSD}'?" in refused("torchvision:ssdlite320_mobilenet_v3_larg")
    assert "no weights at" in refused(f"torchvision:{SSD}@{tmp_path / 'absent.pth'}")
    assert f"not a state dict of {SSD}" in refused(f"torchvision:{SSD}@{tmp_path / 'other.pth'}")
    assert f"not a state dict of {SSD}" in refused(f"torchvision:{SSD}@{tmp_path / 'text.pth'}")
    assert "not a state dict of fcos" in refused(f"torchvision:fcos_resnet50_fpn@{tmp_path / 'state.pth'}")
    assert "leave image_size out" in refused(f"torchvision:{SSD}@{tmp_path / 'state.pth'}", image_size=320)


def test_without_the_network_the_address_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", unreachable)
    line = refused(f"torchvision:{SSD}")
    assert "cannot be downloaded" in line
    assert f"torchvision:{SSD}@FILE" in line
