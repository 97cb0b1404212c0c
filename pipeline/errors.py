"""What can go wrong, in one line each: the cause, then the cure."""

from __future__ import annotations

import signal

from pipeline.address import redacted


class FramechainError(Exception):
    """A run failed. The message is one line that names the cause and the cure."""

    exit_code = 1


class UsageError(FramechainError):
    """What was asked for cannot be done as asked; the message says what to change."""

    exit_code = 2


class Interrupted(FramechainError):
    """Ctrl-C ended it. The message says what is kept and how to go on, in words that follow "interrupted".

    >>> str(Interrupted("in the first epoch"))
    'interrupted in the first epoch'
    """

    exit_code = 128 + signal.SIGINT

    def __init__(self, what: str) -> None:
        super().__init__(f"interrupted {what}")


class MissingExtra(UsageError):
    """Something optional is needed and is not installed.

    >>> str(MissingExtra("Ultralytics weights", "torch"))
    "Ultralytics weights need packages that are not installed; run: pip install 'framechain[torch]'"
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} need packages that are not installed; run: pip install 'framechain[{extra}]'")


class AccessDenied(FramechainError):
    """Whoever was asked wants another user or password. Asking often may lock the account."""


class NotThere(FramechainError):
    """A server answers and has nothing under the path that it was asked for."""


class Over(FramechainError):
    """A stream that was live says that it has ended; an encoder that is started anew may take that back."""


class StageError(FramechainError):
    """A stage or sink failed on a frame.

    Attributes:
        stage: name of the stage or sink. source, index: the frame it failed on (index -1: not on one frame).
    """

    def __init__(self, stage: str, source: str, index: int, cause: BaseException) -> None:
        self.stage, self.source, self.index = stage, source, index
        where = f"frame {index} of {source}" if index >= 0 else (source or "no frame")
        kind, said = type(cause).__name__, str(cause)
        reason = said if isinstance(cause, FramechainError) else f"{kind}: {said}" if said else kind
        # one line is promised, and no password; native libraries put stack traces and addresses into their messages
        super().__init__(f"{stage} failed on {where}: {redacted(' '.join(reason.split()))}")
        self.__cause__ = cause
        if isinstance(cause, FramechainError):
            self.exit_code = cause.exit_code
