"""The command `framechain`, also as `python -m pipeline`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it with a word and without a traceback, however early it comes."""
    try:
        from pipeline import cli

        cli.main()
    except KeyboardInterrupt:
        print("framechain: interrupted", file=sys.stderr)
        # Python's own way out waits for threads that may be in the middle of loading a library.
        os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
