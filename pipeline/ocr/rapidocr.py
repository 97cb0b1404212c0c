"""RapidOCR: PP-OCR's models on ONNX Runtime. Its wheel carries the models, so nothing is downloaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.onnxruntime import import_onnxruntime
from pipeline.ocr.engine import Engine


class RapidOCREngine(Engine):
    """Reads Latin letters, digits and Chinese."""

    name = "rapidocr"

    def __init__(self, threads: int = 0) -> None:
        import_onnxruntime()  # on our terms, before RapidOCR does
        from rapidocr import RapidOCR

        self._ocr = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.text_score": 0.0,  # what is too uncertain is for read_text to say
                "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                # `read` has chosen the size already: RapidOCR would enlarge a crop's shorter side to 736 pixels
                "Det.limit_type": "min",
                "Det.limit_side_len": 32,
            }
        )

    def locate(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The corners of each line, as DBNet finds them."""
        boxes = getattr(self._ocr(image, use_det=True, use_cls=False, use_rec=False), "boxes", None)
        return np.zeros((0, 4, 2), np.float32) if boxes is None else np.asarray(boxes, np.float32)

    def recognize(self, image: NDArray[np.uint8]) -> tuple[str, tuple[float, ...]]:
        """The line's characters, as the CTC recognizer decodes them greedily."""
        found = self._ocr(image, use_det=False, use_cls=False, use_rec=True, return_word_box=True)
        if not found.txts or not found.txts[0]:
            return "", ()
        text, line, confidences = found.txts[0], float(found.scores[0]), found.word_results[0].confs
        # one entry of the dictionary may be several code points
        return text, tuple(map(float, confidences)) if len(confidences) == len(text) else (line,) * len(text)
