"""torchvision: its detectors by name, Faster R-CNN, SSD, RetinaNet and FCOS, run by the library itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pipeline.errors import MissingExtra, UsageError
from pipeline.inference.library import LibraryModel
from pipeline.inference.model import Arithmetic, not_a_network, shortened
from pipeline.inference.torch import import_torch
from trackers.registry import nearest

_PREFIX = "torchvision:"
_ABSENT = ("__background__", "no person", "N/A")  # classes of torchvision's list of COCO that are none


class TorchvisionModel(LibraryModel):
    """A detector of torchvision, with that library's own least score and suppression; always in full precision.

    `torchvision:NAME` has the weights that torchvision publishes, downloaded once; `torchvision:NAME@FILE` those of a
    state dict. Classes of COCO are numbered as everywhere here, 0 to 79, without torchvision's gaps.
    """

    name: ClassVar[str] = "torchvision"
    label: ClassVar[str] = "torchvision"
    library: ClassVar[str] = "torchvision"
    extra: ClassVar[str] = "torch"

    def __init__(self, module: Any, device: str, names: tuple[str, ...], numbers: NDArray[np.int64]) -> None:
        super().__init__(device, names)
        self._module = module
        self._numbers = numbers

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Anything that begins with torchvision:."""
        return str(path).startswith(_PREFIX)

    @classmethod
    def load(cls, path: Path, device: str, precision: Arithmetic | None = None, requests: int | None = None) -> Self:
        """Build the detector that the name says, with published weights or those of the file after the @."""
        del precision, requests
        import_torch()
        try:
            from torchvision.models import detection, get_model_weights, list_models
        except ImportError as error:
            raise MissingExtra("detectors of torchvision", "torch") from error
        name, _, file = str(path).removeprefix(_PREFIX).partition("@")
        known = list_models(module=detection)
        if name not in known:
            raise UsageError(f"torchvision has no detector '{name}'{nearest(name, known)}")
        published = get_model_weights(name).DEFAULT
        categories = published.meta["categories"]
        if file:
            module, classes = _with_state(name, Path(file).expanduser(), len(categories))
        else:
            module, classes = _with_published(name, published), len(categories)
        return cls(
            module.to(device).eval(), device, *_numbering(categories if classes == len(categories) else (), classes)
        )

    def _find(self, batch: NDArray[np.float32]) -> list[tuple[Any, Any, Any]]:
        import torch

        with torch.inference_mode():
            rgb = torch.from_numpy(np.ascontiguousarray(batch[:, ::-1])).to(self.device) / 255
            found = [{key: value.cpu().numpy() for key, value in one.items()} for one in self._module(list(rgb))]
        results = []
        for one in found:
            class_id = self._numbers[one["labels"]]
            rows = np.flatnonzero(class_id >= 0)
            results.append((one["boxes"][rows], one["scores"][rows], class_id[rows]))
        return results


def _with_published(name: str, weights: Any) -> Any:
    from torchvision.models import get_model

    try:
        return get_model(name, weights=weights)
    except OSError as error:  # urllib's errors are OSErrors
        raise UsageError(
            f"the weights of {name} cannot be downloaded ({shortened(error)}); get {weights.url} "
            f"and give {_PREFIX}{name}@FILE"
        ) from error


def _with_state(name: str, file: Path, classes: int) -> tuple[Any, int]:
    """The detector with the weights of a file, and how many classes it has, the background counted."""
    import torch
    from torchvision.models import get_model

    if not file.is_file():
        raise UsageError(f"there are no weights at {file}; check the path after the @")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        with torch.device("meta"):  # costs nothing: only the shapes are looked at
            shapes = get_model(name, weights=None, weights_backbone=None, num_classes=classes).state_dict()
        # the outputs that differ are as many times larger as there are more classes, whatever the anchors
        for key in shapes.keys() & state.keys():  # torchvision's own files leave some counters out
            if state[key].shape[:1] != shapes[key].shape[:1]:
                classes = classes * len(state[key]) // len(shapes[key])
                break
        module = get_model(name, weights=None, weights_backbone=None, num_classes=classes)
        module.load_state_dict(state)
    except Exception as error:
        raise not_a_network(file, f"a state dict of {name}", error) from error
    return module, classes


def _numbering(categories: Sequence[str], classes: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the classes there are, and for each label of torchvision the number of its class, -1 for none.

    >>> _numbering(["__background__", "person", "N/A", "car"], 4)
    (('person', 'car'), array([-1,  0, -1,  1]))
    >>> _numbering([], 3)
    ((), array([-1,  0,  1]))
    """
    if not categories:
        return (), np.arange(classes) - 1
    there = [name not in _ABSENT for name in categories]
    names = tuple(name for name, real in zip(categories, there, strict=True) if real)
    return names, np.where(there, np.cumsum(there) - 1, -1)
