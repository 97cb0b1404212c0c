"""`framechain doctor`: what is installed, what works here, what is missing and the line that installs it."""

from __future__ import annotations


def doctor() -> None:
    """Doctor."""
