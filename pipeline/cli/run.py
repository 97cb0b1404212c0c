"""`framechain run`: sources through the chain into outputs."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Literal

import typer
from rich.console import Console

from pipeline.address import in_a_line
from pipeline.cli.amounts import amounts
from pipeline.cli.chain import (
    AdaptiveSize,
    Batch,
    ChainFlags,
    Classes,
    Confidence,
    Config,
    Debug,
    Decoding,
    DetectEvery,
    Device,
    Embedder,
    ImageSize,
    IsolateDecode,
    Loop,
    Motion,
    NoEmbed,
    NoText,
    Precision,
    Realtime,
    Runtime,
    Sources,
    TraceFile,
    Tracker,
    Weights,
    Workers,
    played,
)
from pipeline.cli.progress import Tally, follow
from pipeline.config import Chain, Document
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import check_writable, file_safe, filled, replace_file
from pipeline.files.parts import with_part
from pipeline.limits import allow_open_files, start
from pipeline.metrics import Snapshot
from pipeline.models import DETECTOR
from pipeline.report import tables
from pipeline.sink import sinks
from pipeline.supervision.health_server import HealthServer
from pipeline.supervision.heartbeat import Heartbeat
from pipeline.supervision.systemd import Systemd
from pipeline.trace import Trace
from pipeline.watch import Watch

logger = logging.getLogger("framechain")

_CLOSING = 10.0  # seconds for outputs to be closed after a mistake of ours


def run(
    sources: Sources = None,
    config: Config = None,
    weights: Weights = None,
    embedder: Embedder = None,
    classes: Classes = None,
    confidence: Confidence = None,
    image_size: ImageSize = None,
    tracker: Tracker = None,
    device: Device = None,
    precision: Precision = None,
    runtime: Runtime = None,
    batch: Batch = None,
    workers: Workers = None,
    no_embed: NoEmbed = False,
    no_text: NoText = False,
    detect_every: DetectEvery = None,
    motion: Motion = False,
    decoder: Decoding = None,
    adaptive_size: AdaptiveSize = False,
    isolate_decode: IsolateDecode = False,
    every: Annotated[int | None, typer.Option(min=1, help="process every n-th frame")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="stop after so many frames of each source")] = None,
    realtime: Realtime = False,
    loop: Loop = False,
    video: Annotated[str | None, typer.Option(help="write an annotated MP4 here")] = None,
    jsonl: Annotated[str | None, typer.Option(help="write one JSON object a frame here")] = None,
    csv: Annotated[str | None, typer.Option(help="write one row a track and frame here")] = None,
    mot: Annotated[
        str | None, typer.Option(help="write tracks in MOTChallenge format here: of people, or of --classes")
    ] = None,
    sqlite: Annotated[str | None, typer.Option(help="add everything to this SQLite database")] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="URL", help="publish a JSON object a frame: mqtt(s)://user:password@host/topic/{source}"),
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option(metavar="URL", help="produce a JSON object a frame: kafka(s)://user:password@host/topic"),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="post a JSON object a frame to this http(s):// address")
    ] = None,
    rotate: Annotated[
        str | None,
        typer.Option(
            help="begin new files (video, jsonl, csv, mot) after so long, or at such a size: 1h, 500MB, 1h,2GB"
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="with --rotate: delete the oldest files of the run beyond this age or size: 7d, 100GB"),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="write all figures of the run as JSON here")] = None,
    trace: TraceFile = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="save here what the run remembers: ids, looks, texts, counts")
    ] = None,
    checkpoint_every: Annotated[
        float | None, typer.Option(help="seconds between two checkpoints  [default: 5]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from --checkpoint with the same ids; if there is none, begin anew")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="begin anew whatever is in --checkpoint")] = False,
    show: Annotated[bool, typer.Option("--show", help="show the annotated video in a window; q ends")] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="skip and count frames that a stage fails on; go on without sources that cannot be opened, "
            "and take in cameras once they are there",
        ),
    ] = False,
    on_failure: Annotated[
        Literal["end", "skip", "restart"] | None,
        typer.Option(
            help="when a stage fails on a frame: end; skip and count the frame; or restart the stage as well, with "
            "what it remembers  [default: end, with --keep-going skip]"
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="follow the sources of --config: add and remove them when the file changes, or at SIGHUP; "
            "the run goes on without any",
        ),
    ] = False,
    health: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="serve /healthz and /metrics here; :PORT is on this machine only"),
    ] = None,
    watchdog: Annotated[
        float | None,
        typer.Option(help="seconds that a stage or sink may take for one call and count as healthy  [default: 60]"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
    debug: Debug = False,
) -> int:
    """Run sources through detect, embed, track and read text into outputs."""
    flags = ChainFlags(
        config,
        weights,
        embedder,
        classes,
        confidence,
        image_size,
        tracker,
        device,
        batch,
        workers,
        no_embed,
        no_text,
        precision,
        runtime,
        detect_every,
        motion,
        decoder,
        adaptive_size,
        isolate_decode,
    )
    if watch and (config is None or sources):
        raise UsageError(
            "--watch follows the sources of a configuration file; give --config, and name no SOURCE besides"
        )
    options = {"every": every, "max_frames": max_frames, **played(realtime, loop)}
    files = (("video", video), ("jsonl", jsonl), ("csv", csv), ("mot", mot), ("sqlite", sqlite))

    def compose() -> Document:
        """The chain that is asked for, as plain data."""
        document = flags.document(sources, none_yet=watch)
        document.set_sources({option: value for option, value in options.items() if value is not None})
        if video is not None or show:
            document.add("stages", "annotate")
        for sink, path in files:
            if path is not None:
                document.add("sinks", sink)
                document.set("sinks", sink, "path", path, f"--{sink}")
        for sink, url in (("mqtt", mqtt), ("kafka", kafka), ("webhook", webhook)):
            if url is not None:
                document.add("sinks", sink)
                document.set("sinks", sink, "url", url, f"--{sink}")
        if rotate is not None or keep is not None:
            _rotate(document, rotate, keep)
        if mot is not None and config is None and not classes:
            document.set("sinks", "mot", "classes", ["person"])  # what the benchmarks of this format are about
        if show:
            document.add("sinks", "window")
        if keep_going:
            document.data["keep_going"] = True
        settings = {
            "on_failure": on_failure,
            "watchdog": watchdog,
            "checkpoint": checkpoint and str(checkpoint),
            "checkpoint_every": checkpoint_every,
        }
        for setting, value in settings.items():
            if value is not None:
                document.settle(setting, value)
        if resume or fresh:  # what the file says besides does not hold
            document.settle("resume", resume)
            document.settle("fresh", fresh)
        return document

    reports = {"the report": report, "the trace": trace}
    document = compose()
    chain = document.build(reports, more=watch)
    for output in filter(None, reports.values()):
        check_writable(output)

    def reread() -> Document:
        """The same of the configuration as it is now, checked."""
        document = compose()
        document.build(reports, more=True)
        return document

    follower = partial(Watch, config, document=document, read=reread) if watch and config is not None else None
    return _execute(chain, report, trace, quiet, health, follower)


def _rotate(document: Document, rotate: str | None, keep: str | None) -> None:
    """Set the rotation of all sinks that have one.

    Raises:
        UsageError: the flags cannot be read, or there is no such sink.
    """
    if rotate is None:
        raise UsageError("--keep is for what --rotate makes; give both")
    rotation = {**amounts(rotate, "--rotate"), **amounts(keep or "", "--keep", "keep_")}
    parted = [name for name, kind in sinks.kinds() if "rotate" in kind.model_fields and name in document.names("sinks")]
    if not parted:
        raise UsageError("--rotate is for files, and none is written; add --video, --jsonl, --csv or --mot")
    for name in parted:
        document.set("sinks", name, "rotate", rotation, "--rotate")


def _execute(
    chain: Chain,
    report: Path | None,
    trace: Path | None,
    quiet: bool,
    health: str | None,
    follower: Callable[[Pipeline], Watch] | None,
) -> int:
    allow_open_files()
    tally = Tally()
    traced = Trace() if trace is not None else None
    pipeline = chain.pipeline(tally, trace=traced, service=follower is not None)
    result, code = "finished", 0
    try:
        with ExitStack() as around:
            received = around.enter_context(_stopped_by_signals(pipeline, hangup=follower is None))
            watch = None if follower is None else around.enter_context(_asked_by_signal(follower(pipeline)))
            _supervise(around, pipeline, health)
            pipeline.start()
            if watch is not None and pipeline.phase == "running":
                watch.start()
            try:
                follow(pipeline, tally, quiet)
            except BaseException:  # what goes wrong with the display must not leave outputs as they are
                pipeline.abort()
                pipeline.join(_CLOSING)
                raise
            final = pipeline.wait()
        if (
            not any(source.finished for source in final.sources)
            and any(source.captured for source in final.sources)
            and not received
        ):
            raise FramechainError("no frame got through the chain; the warnings above and the report say why")
        if received:
            # 128 + the signal's number is what shells expect of a program that a signal ended: 130 for Ctrl-C
            result, code = f"stopped by {received[0].name}", 128 + received[0]
    except FramechainError as error:
        result = str(error)
        raise
    finally:
        snapshot = pipeline.metrics.snapshot()
        if report is not None and snapshot.sources:
            figures = {
                "framechain": version("framechain"),
                "result": result,
                "sources": [asdict(info) for info in pipeline.infos],
                "chain": [{stage.name: stage.model_dump(mode="json", exclude_none=True)} for stage in chain.stages],
                "objects": tally.objects,
                "checkpoints": pipeline.checkpoints,
                "metrics": snapshot.to_dict(),
            }
            replace_file(report, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
        if trace is not None and traced is not None and snapshot.sources:
            traced.write(trace)
        if not quiet and any(source.captured for source in snapshot.sources):
            _conclude(tally, snapshot, chain)
    if not quiet:
        _hint(chain)
    return code


def _supervise(around: ExitStack, pipeline: Pipeline, health: str | None) -> None:
    """Serve the run's health, and tell the service manager, until the stack is left."""
    if health is not None:
        server = HealthServer(health, pipeline)
        around.callback(server.close)
        logger.info("health is at %s/healthz", server.url)
    heartbeat = Heartbeat(pipeline, Systemd())
    heartbeat.start()
    around.callback(heartbeat.close)


def _hint(chain: Chain) -> None:
    """Who named no detector may not know that there are better ones."""
    if any(stage.name == "detect" and "weights" not in stage.model_fields_set for stage in chain.stages):
        print(
            f"framechain: detected with the bundled {DETECTOR}; larger detectors find more, for instance with "
            "--weights yolo11m.pt (framechain models lists some)",
            file=sys.stderr,
        )


def _conclude(tally: Tally, snapshot: Snapshot, chain: Chain) -> None:
    console = Console(highlight=False)
    console.print(tables(snapshot))
    for source, objects in tally.objects.items():
        console.print(
            f"{in_a_line(source)}: " + ", ".join(f"{count} {name}" for name, count in objects.items()), markup=False
        )
    names = [source.id for source in snapshot.sources if source.captured]
    for sink in chain.sinks:
        if path := getattr(sink, "path", None):
            path = with_part(path) if getattr(sink, "rotate", None) else path
            if len(names) == 1:
                path = filled(path, file_safe(names[0]))
            console.print(f"wrote {path}", markup=False, soft_wrap=True)
        elif address := getattr(sink, "address", None):
            console.print(f"sent to {address}", markup=False, soft_wrap=True)


@contextmanager
def _asked_by_signal(watch: Watch) -> Iterator[Watch]:
    """SIGHUP has the configuration read again, where there is such a signal."""
    with _heeded([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [], lambda _: watch.ask()):
        try:
            yield watch
        finally:
            watch.close()


@contextmanager
def _stopped_by_signals(pipeline: Pipeline, hangup: bool) -> Iterator[list[signal.Signals]]:
    """Ctrl-C and SIGTERM end the run cleanly, a second one at once. Yields the signals received.

    Args:
        hangup: so does the end of its terminal, unless that is ignored, as by nohup.
    """
    received: list[signal.Signals] = []

    def obey(number: signal.Signals) -> None:
        received.append(number)
        pipeline.stop() if len(received) == 1 else pipeline.abort()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hangup and hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    with _heeded(numbers, obey):
        yield received


@contextmanager
def _heeded(numbers: Sequence[signal.Signals], obey: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Have signals obeyed by a thread of their own: a handler may interrupt who holds the lock that it waits for."""
    heard: SimpleQueue[signal.Signals | None] = SimpleQueue()  # a handler may put into it, whatever it interrupts

    def heed() -> None:
        while (number := heard.get()) is not None:
            obey(number)

    thread = threading.Thread(target=heed, name="signals", daemon=True)
    start(thread)
    before = {number: signal.signal(number, lambda got, _: heard.put(signal.Signals(got))) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        heard.put(None)
        thread.join()
