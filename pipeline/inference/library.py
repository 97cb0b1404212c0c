"""LibraryModel: a detector that a library runs from the whole image to finished boxes."""

from __future__ import annotations

import importlib.util
import threading
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingExtra
from pipeline.heads.boxes import BOXES
from pipeline.inference.metadata import Metadata
from pipeline.inference.model import Model, Probe
from pipeline.inference.torch import TorchModel, torch_devices

_ROWS = 300  # boxes an image: as many as the libraries themselves give at most


class LibraryModel(Model):
    """Takes images as they are, BGR 0..255, of any size; gives (N, 300, 6): x1, y1, x2, y2, score, class.

    Rows that no box fills are zeros.
    """

    library: ClassVar[str]
    """The package to import."""
    extra: ClassVar[str]
    """What to install for it."""

    def __init__(self, device: str, names: tuple[str, ...]) -> None:
        self._lock = threading.Lock()  # the libraries make no promise about threads
        self.device = device
        self.batches = device != "cpu"
        self.input_shape = (None, 3, None, None)
        self.metadata = Metadata(names=names, task="detect", stride=1, head=BOXES)

    @classmethod
    def devices(cls) -> list[str]:
        """Those of PyTorch, on which it runs."""
        return torch_devices()

    @classmethod
    def probe(cls) -> list[Probe]:
        """Those of PyTorch, on which it runs."""
        if importlib.util.find_spec(cls.library) is None:
            raise MissingExtra(f"detectors of {cls.library}", cls.extra)
        return TorchModel.probe()

    def _infer(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        table = np.zeros((len(batch), _ROWS, 6), np.float32)
        with self._lock:
            found = self._find(batch)
        for rows, (xyxy, scores, class_id) in zip(table, found, strict=True):
            count = min(len(scores), _ROWS)
            rows[:count, :4], rows[:count, 4], rows[:count, 5] = xyxy[:count], scores[:count], class_id[:count]
        return [table]

    @abstractmethod
    def _find(self, batch: NDArray[np.float32]) -> list[tuple[Any, Any, Any]]:
        """Boxes (N, 4), scores (N,) and classes (N,) of each image, best first, as arrays."""
