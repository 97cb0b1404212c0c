"""Limits: what the system lets this process have, told before it runs out of it, and by its name when it does."""

from __future__ import annotations

import errno
import threading
from contextlib import suppress

from pipeline.errors import FramechainError, UsageError

_OWN = 32
"""Open files that a chain has without sources: models, outputs, the terminal."""

_A_SOURCE = 2
"""Open files of one source at least; RTSP by UDP has five."""

_MOST = 65536


def check_open_files(sources: int) -> None:
    """Refuse more sources than the process may have files open for.

    Raises:
        UsageError: says how many it may, and what to do.
    """
    most, needed = open_files(), _OWN + _A_SOURCE * sources
    if most is not None and needed > most:
        raise UsageError(
            f"{sources} sources need {needed} open files or more, and this process may have {most}; raise the limit "
            f"(ulimit -n {2 * needed}, LimitNOFILE of systemd) or name fewer"
        )


def open_files() -> int | None:
    """How many files this process may have open; None where the system has no such limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if most == resource.RLIM_INFINITY else most


def allow_open_files() -> None:
    """Raise the limit of open files to what this process may give itself: often 1,024 of 1,048,576 at first."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def ran_out(error: BaseException | None) -> bool:
    """Whether something failed, whatever it made of it, because too many files are open."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
            return True
        error = error.__cause__ or error.__context__
    return False


def start(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        FramechainError: the system gives no more of them.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise FramechainError(
            f"the system gives no thread for {thread.name} ({error}); let the process have more (ulimit -u, "
            "TasksMax of systemd, memory), or name fewer sources"
        ) from error
