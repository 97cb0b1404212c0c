"""Text: one reading, on the whole frame or riding on a track."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text seen in a frame.

    Attributes:
        text: the characters, as read (or agreed on over several readings of one track).
        confidence: 0..1.
        xyxy: box in frame pixels: of the text itself where it was located, else of the object that carries it.
        track_id: id of the track that carries it; None for text on the frame or in a region.
        readings: how many readings the consensus rests on.
    """

    text: str
    confidence: float
    xyxy: tuple[float, float, float, float]
    track_id: int | None = None
    readings: int = 1
