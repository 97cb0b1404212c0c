"""DecodedSource: what the sources that decode a video stream have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pipeline import reasons
from pipeline.decode import Decoder, Picture
from pipeline.errors import FramechainError
from pipeline.hardware import DecoderName
from pipeline.source import Moment, SteppedSource

if TYPE_CHECKING:
    import av


class DecodedSource(SteppedSource):
    """A source that is a `Decoder` once it is open. Subclasses set `_decoder` and say when and why."""

    decoder: DecoderName = Field(
        "auto", description="auto: hardware where it is here, works and is no slower; software: every damage is counted"
    )

    _decoder: Decoder | None = PrivateAttr(None)
    _picture: Picture | None = PrivateAttr(None)
    _counted: Counter[str] = PrivateAttr(default_factory=Counter)  # of this decoder

    @abstractmethod
    def _captured_at(self, timestamp: float) -> float:
        """Wall clock of the picture just decoded."""

    @abstractmethod
    def _failure(self, error: av.FFmpegError) -> FramechainError:
        """What reading's failure means, in one line."""

    def grab(self) -> Moment | None:
        """Decode the next undamaged picture.

        Raises:
            FramechainError: reading failed.
        """
        from av import FFmpegError

        decoder = self._decoder
        if decoder is None:
            raise FramechainError(f"source '{self.name}' is read before it is opened; call open() first")
        try:
            picture = self._picture = decoder.next()
        except FFmpegError as error:
            self._count(decoder)
            # "from None": FFmpeg's message holds the address with its password.
            raise self._failure(error) from None
        if decoder.corrupt or decoder.missing:
            self._count(decoder)
        if picture is None:
            return None
        timestamp = self._timestamp(picture)
        return Moment(picture.index, timestamp, self._captured_at(timestamp), picture.discontinuity)

    def retrieve(self) -> NDArray[np.uint8]:
        """Convert it."""
        assert self._decoder is not None
        assert self._picture is not None
        return self._decoder.image(self._picture)

    def close(self) -> None:
        """Close what is read from."""
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = self._picture = None
        self._counted.clear()

    def _timestamp(self, picture: Picture) -> float:
        return picture.timestamp

    def _count(self, decoder: Decoder) -> None:
        for reason, count in ((reasons.CORRUPT, decoder.corrupt), (reasons.MISSING, decoder.missing)):
            if count > self._counted[reason]:
                self._dropped[reason] += count - self._counted[reason]
                self._counted[reason] = count
