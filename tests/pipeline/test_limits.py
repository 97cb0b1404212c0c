"""What the system lets a process have."""

from __future__ import annotations

import errno
import resource
import threading
from collections.abc import Iterator

import pytest
from chains import Memory

from pipeline import limits
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError


@pytest.fixture
def few_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_more_sources_than_files_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match=r"^40 sources need 112 open files or more, and this process may have 64; "):
        Pipeline([Memory() for _ in range(40)]).run()
    limits.allow_open_files()
    assert (limits.open_files() or 10**6) > 64


def test_running_out_of_files_is_seen_through_what_was_made_of_it() -> None:
    made = FramechainError("cannot be reached")
    made.__context__ = OSError(errno.EMFILE, "Too many open files")  # as "raise ... from None" leaves it
    assert limits.ran_out(made)
    assert not limits.ran_out(FramechainError("cannot be reached"))
    assert not limits.ran_out(None)


def test_a_thread_that_cannot_be_started_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(FramechainError, match=r"the system gives no thread for \S+ \(can't start new thread\); let"):
        Pipeline([Memory()]).run()
