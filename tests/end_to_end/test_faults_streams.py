"""Faults inside of streams: live playlists that falter, and codecs, sizes and rates that change."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from itertools import pairwise

import pytest
from cameras import HttpCamera, RtspCamera, need_rtsp
from hls_camera import HlsCamera
from site_of_cameras import RECOVERY, Seen, Site, balanced, until

AWAY = ("stalled", "backing off", "connecting")


def in_order(seen: list[Seen]) -> bool:
    """Whether no picture came twice or after a later one: they are numbered by their grey, which has 200 levels.

    Where more than a few seconds are missing that tells nothing. What a busy machine had left out may follow when the
    playlist is opened again: it comes once, too.
    """
    for place, (one, two) in enumerate(pairwise(seen)):
        back = two.at - one.at < 4 and 150 <= round(two.grey - one.grey) % 200 < 199  # rounding in the codec: one less
        again = [one.grey for one in seen[place + 1 : place + 5]]  # of the same bytes, so exactly the same
        before = [one for one in seen[: place + 1] if two.at - one.at < 15]
        if back and any([old.grey for old in before[n : n + 4]] == again for n in range(len(before) - 3)):
            return False
    return True


def on_one_line_of_time(seen: list[Seen], within: float = 1) -> bool:
    indices, times = [one.index for one in seen], [one.timestamp for one in seen]
    delays = [one.captured_at - one.timestamp for one in seen]
    return indices == sorted(set(indices)) and times == sorted(times) and max(delays) - min(delays) < within


def test_live_playlists(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Seven playlists whose windows slide, pieces of a second; six of them falter, each in its own way, at once."""
    caplog.set_level(logging.INFO, "framechain")
    names = ("steady", "killed", "missing", "broken", "stale", "hostile", "anew")
    with ExitStack() as stack:
        cameras = {name: stack.enter_context(HlsCamera(rate=10)) for name in names}
        for name, camera in cameras.items():
            uri = f"http://admin:s3cret@127.0.0.1:{camera.port}/live.m3u8"
            site.add(name, uri, open_timeout=5, read_timeout=3)
        site.start()
        until(lambda: all(len(site.seen[name]) > 15 for name in names), "all give frames")

        storm = time.monotonic()
        cameras["killed"].kill()
        cameras["missing"].missing.add(cameras["missing"].segments[-1].number + 1)
        cameras["broken"].size, cameras["broken"].back_an_hour = (96, 80), True
        cameras["stale"].growing = False
        cameras["hostile"].entries = ["file:///etc/passwd", "concat:/etc/passwd|/etc/group", "live.m3u8"] * 5
        cameras["anew"].over = True
        until(lambda: all(site.source(name).state in AWAY for name in ("killed", "stale", "hostile", "anew")), "away")
        back, cameras["anew"].over = time.monotonic(), False
        assert site.returned("anew", back) < RECOVERY
        asked = cameras["stale"].asked
        until(lambda: cameras["stale"].asked > asked + 5, "its playlist is looked at again and again")
        until(lambda: site.seen["broken"][-1].size == (96, 80), "the other size")
        over = time.monotonic()

        for name in ("killed", "stale", "hostile"):
            back = time.monotonic()
            cameras[name].growing, cameras[name].entries = True, None
            if name == "killed":
                cameras[name].start()
            assert site.returned(name, back) < RECOVERY, name
        until(lambda: all(site.seen[name][-1].at > over + 2 for name in names), "all go on")
        site.pipeline.stop()
        snapshot = site.pipeline.wait(20)

    assert balanced(snapshot)
    for source in snapshot.sources:
        seen = site.seen[source.id]
        stood = (
            15 if source.id in ("stale", "hostile") else 1
        )  # seconds; what its own clock lost is put right within half a minute
        assert on_one_line_of_time(seen, stood), source.id
        if source.id not in ("killed", "hostile"):  # whose cameras went on for more pictures than there are levels
            assert in_order(seen), f"{source.id}: {[(one.index, one.grey) for one in seen]}"
        assert set(source.dropped) <= {"starting", "queue full", "stale", "corrupt", "abandoned", "aborted"}
        if source.id != "hostile":  # its connection may live on
            assert (source.connections > 1) == (source.id not in ("steady", "missing", "broken")), source.id
        marked = [one for one in seen if one.discontinuity]
        if source.id in ("steady", "missing"):  # all the same it may have been late, if its machine held it up
            late = cameras[source.id].late > 0.3
            assert all(late or site.held.between(one.at - 3, one.at) > 0.3 for one in marked), source.id
        else:
            assert marked, source.id
    during = sum(storm <= one.at <= over for one in site.seen["steady"])
    there = over - storm - site.held.between(storm, over) - cameras["steady"].late  # seconds that the machine was
    assert during >= 0.8 * 10 * there, "it plays at its own pace, whatever happens to the others"
    gaps = [
        two.timestamp - one.timestamp for one, two in zip(site.seen["missing"], site.seen["missing"][1:], strict=False)
    ]
    assert 1.0 <= max(gaps) < 2.0, "the time of the piece that was not there"
    assert "s3cret" not in caplog.text + str(snapshot.to_dict())


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_live_playlist_that_is_away_and_says_at_last_that_it_has_ended(site: Site, isolation: str) -> None:
    """It is looked at for as long as it may take to open it, in case its encoder is started anew."""
    with HlsCamera(seconds=0.5) as camera:
        uri = f"http://127.0.0.1:{camera.port}/live.m3u8"
        site.add("ended", uri, open_timeout=1, read_timeout=2, isolation=isolation)
        site.start()
        until(lambda: len(site.seen["ended"]) > 20, "it gives frames")
        camera.kill()
        until(lambda: site.source("ended").state in AWAY, "it is missed")
        back = time.monotonic()
        camera.start()
        assert site.returned("ended", back) < RECOVERY
        camera.over = True
        snapshot = site.pipeline.wait(20)
    assert snapshot.sources[0].state == "ended"
    assert in_order(site.seen["ended"])


def test_codecs_sizes_and_rates_that_change(site: Site) -> None:
    """Within a connection, and over one; what only becomes slower or faster is not taken for broken."""
    need_rtsp()
    with ExitStack() as stack:
        streams = {name: stack.enter_context(HttpCamera()) for name in ("hevc", "mpeg4")}
        sizes, slower, faster = (stack.enter_context(HttpCamera(rate=rate)) for rate in (25, 25, 5))
        rtsp = {codec: stack.enter_context(RtspCamera()) for codec in ("h265", "jpeg")}
        wait = {"open_timeout": 10, "read_timeout": 2}
        for name, camera in {**streams, "slower": slower, "faster": faster}.items():
            site.add(name, f"http://127.0.0.1:{camera.port}/ts", **wait)
        site.add("sizes", f"http://127.0.0.1:{sizes.port}/mjpeg", **wait)
        for codec, server in rtsp.items():
            site.add(codec, f"rtsp://admin:s3cret@127.0.0.1:{server.port}/live", **wait)
        site.start()
        until(lambda: all(len(site.seen[name]) > 10 for name in site.cameras), "all give frames")

        sizes.every = 20
        slower.rate, faster.rate = 5, 50
        for codec, server in rtsp.items():
            server.kill()
            server.codec = codec
            server.start()
            assert site.returned(codec, time.monotonic()) < RECOVERY, codec
        changed = time.monotonic()
        streams["hevc"].codec, streams["mpeg4"].codec = "libx265", "mpeg4"
        until(lambda: all(any(one.discontinuity for one in site.seen[name]) for name in streams), "it is noticed")
        for name in streams:
            first = next(one for one in site.seen[name] if one.discontinuity)
            assert 0 < first.at - changed < RECOVERY, name
        until(lambda: site.seen["slower"][-1].at > changed + 3, "time passes")
        site.pipeline.stop()
        snapshot = site.pipeline.wait(20)

    assert balanced(snapshot)
    sources = {source.id: source for source in snapshot.sources}
    for name, source in sources.items():
        begun = 6 if name == "faster" else 1  # seconds; of MPEG-TS 20 pictures are read before the first is given
        assert on_one_line_of_time(site.seen[name], begun), name
        if name in ("sizes", "slower", "faster"):
            assert [change.state for change in source.changes] == ["connecting", "live", "ended"], name
        else:
            assert source.connections == 2
            assert any(one.discontinuity for one in site.seen[name])
    assert {one.size for one in site.seen["sizes"]} == {(64, 48), (128, 96)}
    for one, two in pairwise(site.seen["sizes"]):
        assert two.discontinuity == (two.size != one.size) or two.index > one.index + 1  # of those that were dropped
    for name, rate in (("slower", 5), ("faster", 50)):
        assert not any(one.discontinuity for one in site.seen[name])
        later = [one for one in site.seen[name] if one.at > changed]
        steps = [(two.timestamp - one.timestamp) / (two.index - one.index) for one, two in pairwise(later)]
        assert steps == pytest.approx([1 / rate] * len(steps), abs=0.02), name
    assert all("refuses" in str(sources[name].changes) for name in streams)
    assert all(sources[name].dropped["corrupt"] > 0 for name in streams), "what could not be decoded is counted"
