"""Reasons: why a frame is not in the results. The one list of them; docs/metrics.md explains each."""

from __future__ import annotations

STALE = "stale"
QUEUE_FULL = "queue full"
STARTING = "starting"
EVERY = "every"
CORRUPT = "corrupt"
MISSING = "missing"
ABANDONED = "abandoned"
REMOVED = "removed"
ABORTED = "aborted"

OF_SOURCES = {
    STALE: "a live frame that waited longer than staleness in all, or came out of a decoder that could not keep up",
    QUEUE_FULL: "a live frame that gave way to a newer one of its camera before the first stage",
    STARTING: "came from a camera while models were loaded",
    EVERY: "skipped as the option every asks for",
    CORRUPT: "damaged",
    MISSING: "announced by a file and not in it, as it was cut short",
    ABANDONED: "came after all from a reader that had been left behind",
    REMOVED: "was inside when its source was removed with drop",
    ABORTED: "was inside, or just came, when the run was cut short",
}
"""What a source captured and the chain did not finish, besides what `failed` names."""

TOO_LATE = frozenset({STALE, QUEUE_FULL})
"""Those of them that a faster chain would have finished."""

DISK_FULL = "disk full"
DATABASE_LOCKED = "database locked"
NOT_WRITTEN = "not written"
TOO_LARGE = "too large"
SPOOL_FULL = "spool full"
DAMAGED = "damaged"
REFUSED = "refused"

OF_SINKS = {
    DISK_FULL: "there was no room for it",
    DATABASE_LOCKED: "another program kept the database to itself for too long",
    NOT_WRITTEN: "the database refused it for another reason, which the log tells",
    TOO_LARGE: "its message is longer than the sink sends",
    SPOOL_FULL: "the peer was away for so long that the oldest messages gave way",
    DAMAGED: "what waited for the peer on disk was damaged there",
    REFUSED: "the peer answered that it does not want it",
}
"""What a sink took and does not have in its output."""


def failed(part: str) -> str:
    """The reason of frames on which a stage failed.

    >>> failed("detect")
    'detect failed'
    """
    return f"{part} failed"
