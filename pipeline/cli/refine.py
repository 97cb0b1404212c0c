"""`framechain refine`: tracking results made better after the fact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.cli.chain import Debug
from pipeline.cli.tracked import told_in_a_line
from pipeline.errors import MissingExtra, UsageError
from pipeline.files.output import check_outputs, check_writable, replace_file

if TYPE_CHECKING:
    from trackers.mot_format import MotRows


def refine(
    result: Annotated[Path, typer.Argument(help="a MOTChallenge file, as framechain run --mot writes it")],
    out: Annotated[Path, typer.Option(help="file to write, in the same format")],
    rate: Annotated[float | None, typer.Option(min=0.01, max=1000, help="frames a second of the video")] = None,
    seqinfo: Annotated[
        Path | None, typer.Option(help="a seqinfo.ini, or the folder of one, that tells frames a second")
    ] = None,
    link: Annotated[
        float,
        typer.Option(
            min=0, max=3600, help="join a track that ended to one that begins up to so many seconds later; 0: no"
        ),
    ] = 1.5,
    fill: Annotated[
        float, typer.Option(min=0, max=3600, help="fill gaps within a track of up to so many seconds; 0: none")
    ] = 1.5,
    smooth: Annotated[
        bool, typer.Option("--smooth/--no-smooth", help="move boxes to where the whole track says they were")
    ] = False,
    debug: Debug = False,
) -> None:
    """Join, fill and smooth the tracks of a finished result. Offline: it looks into the future, no camera can.

    Boxes that were filled in have confidence 0, as nothing was found there.
    """
    from trackers.filling import FILLED
    from trackers.mot_format import text
    from trackers.refine import refine as make

    read = {result: f"the input {result}"}
    if seqinfo is not None:
        seqinfo = seqinfo / "seqinfo.ini" if seqinfo.is_dir() else seqinfo
        read[seqinfo] = f"the input {seqinfo}"
    check_outputs([("--out", out)], read)
    frames_a_second = _rate(rate, seqinfo)
    rows = _read(result)
    check_writable(out)
    try:
        refined = make(rows, frames_a_second, link=link, fill=fill, smooth=smooth)
    except ValueError as error:
        raise UsageError(f"{result}: {error}") from error
    except ImportError as error:
        raise MissingExtra("smoothed tracks", "offline") from error
    replace_file(out, text(refined.rows))
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(
        f"{refined.joined} of {refined.tracks} tracks joined to an earlier one, {refined.filled} boxes added to "
        f"{len(rows)}{', all smoothed' if smooth else ''}; wrote {out}",
        markup=False,
    )
    already = int((rows.confidence == FILLED).sum())
    if already:
        console.print(f"{already} boxes of {result} had confidence 0 already, as filled ones have", markup=False)


def _rate(rate: float | None, seqinfo: Path | None) -> float:
    from trackers.mot_format import read_seqinfo

    if rate is not None and seqinfo is None:
        return rate
    if rate is not None or seqinfo is None:
        raise UsageError("how many frames a second? give either --rate or --seqinfo")
    with told_in_a_line():
        found = read_seqinfo(seqinfo).frame_rate
    if not 0.01 <= found <= 1000:
        raise UsageError(f"{seqinfo}: frameRate is {found}, not a number of frames a second; give --rate instead")
    return found


def _read(path: Path) -> MotRows:
    from trackers import mot_format

    with told_in_a_line():
        rows = mot_format.read(path)
    if (rows.class_id != -1).any():
        raise UsageError(f"{path} has nine columns, as ground truth has; give the result of a tracker")
    return rows
