"""Work: what reading a frame took, without the waiting for a camera."""

from __future__ import annotations

import time

from pipeline.source import Source


class Work:
    """Tells the work of one `read` from its waiting for a camera, which is nobody's bottleneck.

    Where a live source cannot tell, the processor time of the thread that reads counts as its work.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start, self._waited, self._processor = time.perf_counter(), source.waited, time.thread_time()

    def began(self) -> float:
        """When it would have begun if it had been done in one piece that ends now (perf_counter)."""
        now, waited = time.perf_counter(), self._source.waited
        if waited is not None:
            return min(now, self._start + waited - (self._waited or 0.0))
        return now - (time.thread_time() - self._processor) if self._source.live else self._start
