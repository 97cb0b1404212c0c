"""Child: a process of ours for native code that may crash or hang, and the channel to it, from both sides."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, cast

from pipeline.isolation.messages import Channel

_GOING = 1.0
"""Seconds that a process may take to be gone once its pipes are closed, or it was killed."""


class Child:
    """A process that runs a module of ours. It ends by itself when who started it is gone.

    Its command line and environment hold nothing but what is said here: secrets go through the channel.

    Args:
        module: to run. arguments: for it. inherits: descriptors that are open in it, too, under the same number.
    """

    def __init__(self, module: str, *arguments: str, inherits: Sequence[int] = ()) -> None:
        self._deadline: threading.Timer | None = None
        path = os.pathsep.join(filter(None, [os.getcwd() if part == "" else part for part in sys.path]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            pass_fds=inherits,
        )
        self.channel = Channel(cast("BinaryIO", self._process.stdout), cast("BinaryIO", self._process.stdin))

    @property
    def id(self) -> int:
        """The number of the process."""
        return self._process.pid

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """The body waits for an answer; the process is ended if that takes too long."""
        timer = self._timer(seconds)
        try:
            yield
        finally:
            timer.cancel()

    def end_in(self, seconds: float) -> None:
        """End the process in so many seconds, unless it is closed before."""
        self._deadline = self._timer(seconds)

    def close(self) -> None:
        """End the process at once."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._process.kill()
        self._wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it was never sent
                    pipe.close()

    def ended(self) -> str:
        """Clear away a process that is gone; what it ended with, in words that follow its name."""
        self._wait()  # one that crashes closes its pipes before it is gone
        self.close()
        code = self._process.returncode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        return f"was ended by {signal.Signals(-code).name}"

    def _timer(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._process.kill)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the system gives no thread to wait in
            self._process.kill()
        return timer

    def _wait(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOING)


def attach() -> Channel:
    """In the process: the channel to who started it.

    Standard input stays that pipe; standard output becomes standard error, so that what libraries print does not get
    among the messages. Signals that end a run are for the run, which ends this process when it is done.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return Channel(incoming, outgoing)
