"""libreyolo: checkpoints of its detectors (YOLOv9, YOLOX, RT-DETR, D-FINE, RF-DETR ...), run by the library itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.checkpoint import owner
from pipeline.inference.library import LibraryModel
from pipeline.inference.model import Arithmetic, not_a_network
from pipeline.inference.torch import contained, import_torch

# Boxes below are of no use to anyone, and the fewer there are the sooner they are suppressed.
_LEAST_SCORE = 0.001


class LibreYoloModel(LibraryModel):
    """A detector of libreyolo, suppressing overlapping boxes as that does; always in full precision."""

    name: ClassVar[str] = "libreyolo"
    label: ClassVar[str] = "libreyolo"
    library: ClassVar[str] = "libreyolo"
    extra: ClassVar[str] = "libreyolo"

    def __init__(self, network: Any, device: str, names: tuple[str, ...]) -> None:
        super().__init__(device, names)
        self._network = network

    @classmethod
    def reads(cls, path: Path) -> bool:
        """A .safetensors file, and a .pt or .pth that libreyolo wrote or that has nothing but tensors in it."""
        known = path.suffix.lower() in (".pt", ".pth", ".safetensors") and path.is_file()
        return known and owner(path) in ("libreyolo", "tensors")

    @classmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Load a checkpoint of libreyolo, or one of its upstream projects that it converts; runs no code from it."""
        del precision, requests
        import_torch()
        with contained("libreyolo"):
            network = read_checkpoint(path, device)
        names = network.names
        return cls(network, device, tuple(str(names[number]) for number in sorted(names)))

    def _find(self, batch: NDArray[np.float32]) -> list[tuple[Any, Any, Any]]:
        found = []
        for planes in batch:
            image = np.ascontiguousarray(planes.transpose(1, 2, 0).astype(np.uint8))
            boxes = self._network.predict(image, conf=_LEAST_SCORE, color_format="bgr").boxes
            xyxy, scores, class_id = (part.cpu().numpy() for part in (boxes.xyxy, boxes.conf, boxes.cls))
            order = np.argsort(-scores, kind="stable")
            found.append((xyxy[order], scores[order], class_id[order]))
        return found


def read_checkpoint(path: Path, device: str) -> Any:
    """A model of libreyolo from a file, which is read in a way that runs nothing in it.

    Raises:
        MissingExtra: libreyolo is not installed.
        UsageError: the file is damaged, holds more than tensors and plain data, or no detector that libreyolo knows.
    """
    try:
        import libreyolo
    except ImportError as error:
        raise MissingExtra("libreyolo checkpoints", "libreyolo") from error
    import torch

    size = None
    try:
        if path.suffix.lower() != ".safetensors":
            # it would convert what it cannot read safely by reading it unsafely
            said = torch.load(path, map_location="meta", weights_only=True)
            size = said.get("imgsz") if "imgsz_h" not in said else None
        network = libreyolo.LibreYOLO(str(path.resolve()), device=device)
    except Exception as error:
        raise not_a_network(path, "a checkpoint of libreyolo", error) from error
    if network.task != "detect":
        raise UsageError(f"{path} is made to {network.task}, not to detect; give a detection network")
    if size:  # libreyolo notes the square that a network was trained for, and goes back to its family's
        network.input_size = size
    network.model.eval()
    return network
