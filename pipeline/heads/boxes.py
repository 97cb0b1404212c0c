"""Head of the models that a library runs from whole image to finished boxes."""

from __future__ import annotations

from typing import ClassVar

from pipeline.heads.head import Preprocessing
from pipeline.heads.yolo import EndToEnd
from pipeline.normalisation import Normalisation

BOXES = "boxes"


class Boxes(EndToEnd):
    """One output of rows x1, y1, x2, y2, score, class in pixels of the image, which is given as it is: BGR, 0..255."""

    name: ClassVar[str] = BOXES
    preprocessing: Preprocessing = Preprocessing(
        Normalisation(rgb=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), centred=False, padding=0, fit="none"
    )
    described: ClassVar[frozenset[str]] = frozenset({BOXES})
    layout: ClassVar[str] = "(1, boxes, 6), by the library"
