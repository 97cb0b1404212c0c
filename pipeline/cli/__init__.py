"""The command line. One file per command; this one gathers them and turns errors into one line."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.address import in_a_line, redacted
from pipeline.cli import bench, cache, config, doctor, evaluate, export, models, refine, run, stages, train, tune
from pipeline.errors import FramechainError
from pipeline.live.supervisor import Reader

app = typer.Typer(
    name="framechain",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(
    show_version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    """Real-time video analytics: detect, embed, track and read text, measured honestly."""
    if show_version:
        print(f"framechain {version('framechain')}")
        raise typer.Exit


app.command("run")(run.run)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.command("stages")(stages.stages)
app.command("export")(export.export)
app.command("refine")(refine.refine)
app.add_typer(config.app, name="config")
app.add_typer(cache.app, name="cache")
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.add_typer(tune.app, name="tune")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the run failed, 2 a user's mistake, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with _log_on_stderr(arguments):
        code = _run(arguments)
    left_behind = any(isinstance(thread, Reader) for thread in threading.enumerate())
    if code > 128 or left_behind:  # a signal ended it, or a reader hangs
        # Threads of libraries may still be at work: ended in the midst of C++ code by Python's own way out, they abort.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


class _Lines(logging.Formatter):
    """A line for each record, whatever peers and libraries have told."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return in_a_line(super().formatMessage(record))


@contextmanager
def _log_on_stderr(arguments: list[str]) -> Iterator[None]:
    """Show what Framechain logs as lines like those of errors: what it chose, and warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("framechain: %(message)s"))
    logger = logging.getLogger("framechain")
    before, logger.propagate = logger.level, False  # or a library that sets up logging for all shows each line twice
    logger.addHandler(handler)
    quiet = not {"--quiet", "-q"}.isdisjoint(arguments)
    logger.setLevel(logging.DEBUG if "--debug" in arguments else logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = True


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="framechain", standalone_mode=False)
    except FramechainError as error:
        if "--debug" in arguments:
            raise
        return _tell(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        return 1
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        if error.filename is None or "--debug" in arguments:
            raise
        return _tell(f"{error.filename}: {error.strerror}; check the path", 2)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of typer's: a mistake of ours
            if "--debug" in arguments:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return _tell(f"internal error ({reason}); run again with --debug and report what it shows", 1)
        message, code = error.format_message().strip(), int(getattr(error, "exit_code", 2))
        if not message:  # the help was printed, as nothing was asked for
            return code
        words = ("framechain", *_command(arguments), "--help")
        return _tell(f"{message} (see {' '.join(words)})", code)
    return code if isinstance(code, int) else 0


def _command(arguments: list[str]) -> list[str]:
    """As much of a command line as names a command: `train embedder` of `train embedder DATA --epochs 0`."""
    group: Any = typer.main.get_command(app)
    words = []
    for word in arguments:
        group = getattr(group, "commands", {}).get(word)
        if group is None:
            break
        words.append(word)
    return words


def _tell(message: str, code: int) -> int:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("[red]framechain:[/red] ", end="")
    console.print(in_a_line(redacted(message)), markup=False)  # what we did not write may hold an address
    return code
