"""How many cameras of a given rate this machine holds: in time, and without losing a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.address import redacted
from pipeline.bench.chain import scratch_outputs
from pipeline.config import Chain
from pipeline.errors import UsageError
from pipeline.metrics import Snapshot
from pipeline.recorded_source import RecordedSource
from pipeline.source import Source, create_source, source_for
from pipeline.usage import Usage, UsageMeter

_ENOUGH = 0.99  # of the frames that the cameras show must have come through
_OVERRUN = 1.0  # seconds beyond the video's own that a run may take


@dataclass(frozen=True, slots=True)
class Load:
    """So many cameras at once.

    Attributes:
        streams, rate: how many, and frames a second of each.
        fps: of all together through the chain. shown: share of their frames that went through it.
        lost: frames that were not processed, by reason.
        p50, p99: seconds from decoding to the last sink.
        utilisation: share of the cores' time. others: what other programs took of it.
        held: whether the machine holds them.
        reason: what was too much, if it does not.
    """

    streams: int
    rate: float
    fps: float
    shown: float
    lost: dict[str, int]
    p50: float
    p99: float
    utilisation: float
    others: float
    held: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return asdict(self)


def hold(make_chain: Callable[[], Chain], streams: int, rate: float | None, latency: float, seconds: float) -> Load:
    """Run a chain on so many copies of its first source, each a camera.

    Args:
        rate: frames a second of each; None: as many as the video says.
        latency: seconds that 99 of 100 frames must be within.
        seconds: how long.

    Raises:
        UsageError: the source has no rate.
    """
    with scratch_outputs(make_chain()) as chain:
        uri = chain.sources[0].uri
        rate = rate or _rate_of(uri)
        frames = max(2, round(seconds * rate))
        chain.sources = [_camera(uri, n, rate, frames) for n in range(1, streams + 1)]
        chain.settings.max_sources = max(streams, chain.settings.max_sources)
        pipeline = chain.pipeline()
        pipeline.start()
        with UsageMeter() as meter:
            snapshot = pipeline.wait()
    return _judged(snapshot, meter.usage, streams, rate, frames, latency)


def most(
    make_chain: Callable[[], Chain],
    rate: float | None,
    latency: float,
    seconds: float,
    limit: int = 1024,
    told: Callable[[Load], None] = lambda _: None,
) -> list[Load]:
    """Twice as many cameras each time until they are too many, then halfway between; all that was tried.

    A number that fails is tried once more before it counts as too many: it may have been something else on the machine.
    """
    tried: list[Load] = []

    def holds(streams: int) -> bool:
        for _ in range(2):
            tried.append(hold(make_chain, streams, rate, latency, seconds))
            told(tried[-1])
            if tried[-1].held:
                break
        return tried[-1].held

    held, failed = 0, limit + 1
    streams = 1
    while streams <= limit:
        if not holds(streams):
            failed = streams
            break
        held, streams = streams, 2 * streams
    while failed - held > 1 and held < limit:
        streams = (held + failed) // 2
        if holds(streams):
            held = streams
        else:
            failed = streams
    return tried


def _camera(uri: str, number: int, rate: float, frames: int) -> Source:
    if not issubclass(source_for(uri), RecordedSource):
        raise UsageError(f"'{redacted(uri)}' cannot be played by several cameras; name a video file, images or test:")
    options = {"realtime": True, "loop": True, "rate": rate}
    return create_source(uri, id=f"camera{number}", max_frames=frames, **options)


def _rate_of(uri: str) -> float:
    with create_source(uri) as source:
        info = source.open()
    if not info.fps:
        raise UsageError(f"{info.uri} does not say how many frames a second it has; give --rate")
    return info.fps


def _judged(snapshot: Snapshot, usage: Usage, streams: int, rate: float, frames: int, latency: float) -> Load:
    lost: dict[str, int] = {}
    for source in snapshot.sources:
        for reason, count in source.dropped.items():
            if count:
                lost[reason] = lost.get(reason, 0) + count
    shown = snapshot.frames / (streams * frames)
    late = snapshot.elapsed > frames / rate + latency + _OVERRUN
    reasons = []
    if shown < _ENOUGH:
        told = ", ".join(f"{reason} {count}" for reason, count in sorted(lost.items()))
        reasons.append(f"{1 - shown:.1%} of the frames were lost ({told})")
    if snapshot.latency.p99 > latency:
        reasons.append(f"p99 latency {1000 * snapshot.latency.p99:.0f} ms")
    if late and not reasons:
        reasons.append(f"{frames / rate:.1f} s of video took {snapshot.elapsed:.1f} s: decoding does not keep up")
    unaccounted = sum(one.captured - one.finished - sum(one.dropped.values()) for one in snapshot.sources)
    if unaccounted:
        reasons.append(f"{unaccounted} frames are unaccounted for")
    return Load(
        streams=streams,
        rate=rate,
        fps=snapshot.fps,
        shown=shown,
        lost=lost,
        p50=snapshot.latency.p50,
        p99=snapshot.latency.p99,
        utilisation=usage.utilisation,
        others=usage.others,
        held=not reasons,
        reason="; ".join(reasons),
    )
