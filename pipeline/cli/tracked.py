"""What commands that judge trackers are given: sequences with ground truth, and trackers with options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from trackers.sequences import TrackedSequence

DATA = "a MOTChallenge sequence, or a folder of them, with public detections; or VIDEO=SEQUENCE, to detect on the video"

Data: TypeAlias = Annotated[list[str], typer.Argument(metavar="DATA...", help=DATA)]
Measured: TypeAlias = Annotated[
    bool, typer.Option("--measured", help="judge only what frames showed, not where tracks are believed to be")
]
VideoWeights: TypeAlias = Annotated[str | None, typer.Option(help="detector for videos; if not given: the bundled one")]
VideoEmbedder: TypeAlias = Annotated[
    str | None, typer.Option(help="embedder for videos; if not given: the bundled one")
]
NoVectors: TypeAlias = Annotated[bool, typer.Option("--no-embed", help="no appearance vectors")]


def files_of(data: Sequence[str]) -> list[str]:
    """The data themselves and every text file of their sequences that is read, so that nothing overwrites one.

    What is no sequence is left for `read_sequences` to refuse.
    """
    folders: list[Path] = []
    for text in data:
        with suppress(UsageError):
            folders += [folder for _, folder in _folders([text])]
    return [*data, *(str(folder / part) for folder in folders for part in ("gt/gt.txt", "det/det.txt", "seqinfo.ini"))]


def read_sequences(
    data: Sequence[str], weights: str | None, embedder: str | None, *, embed: bool
) -> list[TrackedSequence]:
    """Every sequence of the data, each once.

    Args:
        data: folders, and VIDEO=SEQUENCE. weights, embedder: models for the videos; None: the bundled ones.
        embed: whether persons on videos get appearance vectors.

    Raises:
        UsageError: something cannot be read, or is given twice.
    """
    from trackers import sequences

    vectors = (embedder or "") if embed else None
    found = []
    with told_in_a_line():
        for video, path in _folders(data):
            if video:
                from pipeline.training.tracked_videos import detected

                found.append(detected(video, path, weights, vectors))
            else:
                found.append(sequences.read_sequence(path))
    names = [sequence.name for sequence in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"{', '.join(sorted(twice))} is given more than once; give each sequence once")
    return found


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Within, what a user can mend in a tracker's name or options, or in files of a sequence, is a UsageError."""
    from trackers.registry import UnknownName

    try:
        yield
    except OSError as error:
        if not error.filename:
            raise UsageError(str(error)) from error
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    except (UnknownName, ValueError) as error:
        raise UsageError(str(error)) from error


def _folders(data: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The video, or nothing, and the folder of each sequence."""
    from trackers import sequences

    with told_in_a_line():
        for text in data:
            video, _, folder = text.rpartition("=")
            for path in sequences.sequence_folders(Path(folder)):
                yield video, path
