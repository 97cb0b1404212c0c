"""LiveSource: the options that cameras and streams have in common: how long they are waited for and tried again."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pipeline.source import Patience, Source


class LiveSource(Source):
    """A camera or stream. The engine keeps it going (pipeline/live); read by hand it fails when it breaks off."""

    live: ClassVar[bool] = True

    open_timeout: float = Field(10.0, gt=0, description="seconds to wait for the stream to begin")
    read_timeout: float = Field(5.0, gt=0, description="seconds without a frame after which it counts as broken")
    reconnect: bool = Field(True, description="open it again when it breaks off; false: the run ends then")
    max_attempts: int | None = Field(
        None, ge=1, description="attempts in a row without a frame after which it is given up; never, if empty"
    )
    max_wait: float = Field(1.0, gt=0, description="most seconds between two attempts")

    @property
    def patience(self) -> Patience:
        """As the options say."""
        return Patience(self.open_timeout, self.read_timeout, self.reconnect, self.max_attempts, self.max_wait)
