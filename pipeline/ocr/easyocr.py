"""EasyOCR: CRAFT and a CRNN on torch. The weights come as a package, so nothing is downloaded."""

from __future__ import annotations

import importlib.util

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingExtra
from pipeline.inference.torch import import_torch
from pipeline.ocr.engine import Engine

LINE_HEIGHT = 64  # pixels, of the lines that EasyOCR's recognizers were trained on


class EasyOCREngine(Engine):
    """Reads English.

    Raises:
        MissingExtra: easyocr or its packaged weights are not installed.
    """

    name = "easyocr"

    def __init__(self, threads: int = 0) -> None:
        if not all(map(importlib.util.find_spec, ("easyocr", "easyocr_en_models"))):
            raise MissingExtra("EasyOCR and its weights", "easyocr")
        torch = import_torch()
        import easyocr
        import easyocr_en_models

        if threads:
            torch.set_num_threads(threads)
        folder = easyocr_en_models.model_dir()
        self._reader = easyocr.Reader(
            ["en"],
            gpu=torch.cuda.is_available(),
            model_storage_directory=folder,
            user_network_directory=folder,  # else it makes a folder in the user's home
            download_enabled=False,
            verbose=False,
            quantize=False,  # int8 costs 2 points of character accuracy on plates, and warns on standard error
        )

    def locate(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The corners of each line, as CRAFT finds them."""
        (upright,), (tilted,) = self._reader.detect(image, min_size=0)
        quads = [[(x1, y1), (x2, y1), (x2, y2), (x1, y2)] for x1, x2, y1, y2 in upright] + list(tilted)
        return np.asarray(quads, np.float32).reshape(-1, 4, 2)

    def recognize(self, image: NDArray[np.uint8]) -> tuple[str, tuple[float, ...]]:
        """The line's characters: CTC's most likely path, blanks and repetitions removed (Graves et al., 2006).

        Called without EasyOCR's own `recognize`, which goes through a DataLoader for each line and gives one
        confidence for all its characters.
        """
        import cv2
        import torch

        height, width = image.shape[:2]
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        size = (max(LINE_HEIGHT, round(width * LINE_HEIGHT / height)), LINE_HEIGHT)
        line = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
        with torch.inference_mode():
            pixels = torch.from_numpy(line)[None, None].to(self._reader.device).float() / 127.5 - 1
            confidence, best = self._reader.recognizer(pixels, None).softmax(2)[0].max(1)
        steps = zip(best.tolist(), confidence.tolist(), [0, *best.tolist()], strict=False)
        kept = [(self._reader.converter.character[index], p) for index, p, before in steps if index and index != before]
        return "".join(character for character, _ in kept), tuple(p for _, p in kept)
