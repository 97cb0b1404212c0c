"""A frame as JSON: everything that was found, one object on one line, for files and messages alike."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frame import Frame
from trackers.tracks import Tracks


def to_json(frame: Frame, captured_at: bool) -> str:
    """The frame as one line, with its line end; docs/outputs.md describes the keys.

    Args:
        captured_at: whether the wall-clock time of the frame is in it.
    """
    row: dict[str, Any] = {"source": frame.source, "frame": frame.index, "time": round(frame.timestamp, 6)}
    if captured_at:
        row["captured_at"] = round(frame.captured_at, 6)
    if frame.discontinuity:
        row["discontinuity"] = True
    if frame.skipped:
        row["skipped"] = True
    lost = frame.tracks.lost()
    row["tracks"] = _tracks(frame, frame.tracks)
    row["lost"] = [
        track | {"since_seen": round(since, 3)}
        for track, since in zip(_tracks(frame, lost), lost.since_seen.tolist(), strict=True)
    ]
    row |= _revisions(frame)
    row["detections"] = _untracked(frame)
    row["texts"] = [
        {
            "text": text.text,
            "confidence": round(text.confidence, 4),
            "track": text.track_id,
            "readings": text.readings,
            "xyxy": [round(edge, 2) for edge in text.xyxy],
        }
        for text in frame.texts
    ]
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _tracks(frame: Frame, tracks: Tracks) -> list[dict[str, Any]]:
    return [
        {"id": track_id, **_object(frame, class_id, score, xyxy)}
        for track_id, class_id, score, xyxy in zip(
            tracks.id.tolist(),
            tracks.class_id.tolist(),
            _rounded(tracks.score, 4),
            _rounded(tracks.xyxy, 2),
            strict=True,
        )
    ]


def _revisions(frame: Frame) -> dict[str, Any]:
    """Corrections of earlier frames, if there are any."""
    found = frame.revisions
    if found is None or not (len(found.id) or len(found.merged)):
        return {}
    boxes = zip(found.id.tolist(), _rounded(found.timestamp, 6), _rounded(found.xyxy, 2), strict=True)
    same = zip(found.merged.tolist(), found.into.tolist(), strict=True)
    return {
        "revisions": {
            "boxes": [{"id": track, "time": time, "xyxy": xyxy} for track, time, xyxy in boxes],
            "merged": [{"id": track, "into": into} for track, into in same],
        }
    }


def _untracked(frame: Frame) -> list[dict[str, Any]]:
    found = frame.detections
    free = np.ones(len(found), bool)
    free[frame.tracks.det_index[frame.tracks.det_index >= 0]] = False
    found = found[free]
    return [
        _object(frame, class_id, score, xyxy)
        for class_id, score, xyxy in zip(
            found.class_id.tolist(), _rounded(found.confidence, 4), _rounded(found.xyxy, 2), strict=True
        )
    ]


def _object(frame: Frame, class_id: int, score: float, xyxy: list[float]) -> dict[str, Any]:
    name = frame.detections.class_name(class_id)
    return {"class": name, "class_id": class_id, "score": score, "xyxy": xyxy}


def _rounded(array: NDArray[np.floating], decimals: int) -> list[Any]:
    # in float64: a rounded float32 has its error back as soon as it is printed
    rows: list[Any] = array.astype(np.float64).round(decimals).tolist()
    return rows
