"""Runs the command line as a user would, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FRAMECHAIN = [sys.executable, "-m", "pipeline"]


def framechain(*arguments: str | Path, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `framechain` to its end and return its exit code, standard output and error."""
    command = [*FRAMECHAIN, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line a failed command printed, with the given exit code and no traceback; what it chose came before."""
    assert done.returncode == code, f"exit {done.returncode}\n{done.stderr}"
    lines = [line for line in done.stderr.strip().splitlines() if "fastest" not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("framechain: ")
    return lines[0]
