"""Checkpoints of runs whose sources come and go, while they run and while they are down."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chains import Keep, Memory, Stateful
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import until

from pipeline.checkpoint.checkpoints import Checkpoints
from pipeline.checkpoint.claim import Claim
from pipeline.checkpoint.file import NAME, load, save
from pipeline.engine import Pipeline
from pipeline.errors import FramechainError, NotThere, UsageError
from pipeline.frame import Frame
from pipeline.metrics import ENDED
from pipeline.roster import Names
from pipeline.sinks.jsonl import JsonLines
from pipeline.source import SourceInfo


def camera(name: str, uri: str = "", count: int = 10**9) -> Memory:
    return Memory(id=name, uri=uri or f"rtsp://{name}", count=count, is_live=True, gate=lambda: time.sleep(0.002))


def film(name: str, count: int = 10**9, pace: float = 0.001) -> Memory:
    return Memory(id=name, uri=f"/films/{name}", count=count, gate=lambda: time.sleep(pace))


class Killed(RuntimeError):
    """Ends a run at once, as a kill would."""


class Kill(Keep):
    """Ends the run as soon as it is told to."""

    now: bool = False

    def write(self, frame: Frame) -> None:
        if self.now:
            raise Killed
        super().write(frame)


def run(folder: Path, sources: list[Any], sinks: list[Any] | None = None, **options: Any) -> tuple[Pipeline, Kill]:
    kill = Kill()
    given = {"checkpoint": folder / "saved", "checkpoint_every": 1e-3, "resume": True, "staleness": 60.0, **options}
    return Pipeline(sources, [Stateful()], [*(sinks or []), kill], **given), kill


def end(pipeline: Pipeline, kill: Kill) -> None:
    kill.now = True
    with pytest.raises(FramechainError):
        pipeline.wait(20)


def followed(folder: Path) -> dict[str, Any]:
    told = load(folder / "saved")
    return {} if told is None else told["sources"]


def given_of(folder: Path, source: str) -> int:
    return int(followed(folder)[source]["progress"]["given"]) if source in followed(folder) else 0


@pytest.mark.parametrize("service", [True, False])
def test_cameras_that_are_new_begin_those_gone_are_forgotten_and_the_others_go_on(
    tmp_path: Path, service: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "framechain")
    first, kill = run(tmp_path, [camera("gate"), camera("yard"), camera("hall")], service=service)
    first.start()
    until(lambda: all(given_of(tmp_path, name) > 3 for name in ("gate", "yard", "hall")))
    end(first, kill)
    before = {name: max(index for source, index in kill.seen if source == name) for name in ("gate", "yard", "hall")}
    counted = given_of(tmp_path, "yard")

    now = [camera("gate"), camera("hall", "rtsp://elsewhere"), camera("dock")]
    second, kill = run(tmp_path, now, service=service)
    second.start()
    assert second.began == ["gate", "hall-2", "dock"], "another address is another camera"
    until(lambda: len({source for source, _ in kill.seen}) == 3)
    second.stop()
    final = second.wait(20)
    starts = {name: min(index for source, index in kill.seen if source == name) for name in second.began}
    assert starts["gate"] > before["gate"]
    assert min(starts["hall-2"], starts["dock"]) > 1000, "they may have been added, and given frames, before the kill"
    assert "hall, yard: not among the sources any more, and forgotten" in caplog.text
    assert "dock, hall-2: not known from the checkpoint, and begun anew" in caplog.text
    assert second._stages[0]._forgotten[:2] == ["yard", "hall"]
    assert set(followed(tmp_path)) == set(second.began)
    gone = next(source for source in final.sources if source.id == ENDED)
    assert gone.captured == gone.finished + sum(gone.dropped.values()) >= counted, "it stays in the books"

    third, kill = run(tmp_path, [camera("yard")], service=service)
    third.start()
    assert third.began == ["yard-2"], "no id repeats, over restarts either"
    third.abort()
    assert third.join(20)


def test_a_run_goes_on_with_the_same_files_and_a_service_with_those_there_are(tmp_path: Path) -> None:
    first, kill = run(tmp_path, [film("a"), film("b")])
    first.start()
    until(lambda: min(given_of(tmp_path, name) for name in ("a", "b")) > 5)
    end(first, kill)
    for sources, said in (
        ([film("a")], "it is about a source 'b'"),
        ([film("a"), film("b"), film("c")], "it is not about a source 'c'"),
        ([film("a"), film("b", count=77)], "frame_count of 'b' was 1000000000 then and is 77 now"),
        ([film("a"), Memory(id="b", uri="/films/other")], "uri of 'b' was /films/b then and is /films/other now"),
    ):
        with pytest.raises(UsageError, match=said):
            run(tmp_path, sources)[0].run()
    second, kill = run(tmp_path, [film("a"), film("b", count=20), film("c", count=20)], service=True)
    second.start()
    assert second.began == ["a", "b-2", "c"], "what is another file now is read from its beginning"
    until(lambda: {("b-2", 19), ("c", 19)} <= set(kill.seen))
    second.stop()
    second.wait(20)
    indices = {name: [index for source, index in kill.seen if source == name] for name in second.began}
    assert indices["b-2"] == indices["c"] == list(range(20))
    assert indices["a"][0] > 5


class Away(Memory):
    """Cannot be opened, as a file on a disk that is not mounted, or a camera whose path is wrong."""

    def open(self) -> SourceInfo:
        raise NotThere(f"{self.uri} is not there")


@pytest.mark.parametrize("live", [False, True])
def test_what_cannot_be_opened_at_a_restart_is_gone_on_with_once_it_is_back(tmp_path: Path, live: bool) -> None:
    def source(kind: type[Memory]) -> Memory:
        uri = "rtsp://a" if live else "/films/a"
        return kind(id="a", uri=uri, count=10**9, is_live=live, gate=lambda: time.sleep(0.002))

    def sinks() -> list[Any]:
        return [JsonLines(path=tmp_path / "{source}.jsonl")]

    options = {"service": True, "keep_going": True}
    first, kill = run(tmp_path, [source(Memory), film("b")], sinks(), on_failure="end", **options)
    first.start()
    until(lambda: given_of(tmp_path, "a") > 5)
    end(first, kill)
    counted = given_of(tmp_path, "a")

    second, kill = run(tmp_path, [source(Away), film("b")], sinks(), **options)
    second.start()
    assert second.began == [None, "b"]
    until(lambda: second.checkpoints["saved"] > 3)
    second.stop()
    second.wait(20)
    assert given_of(tmp_path, "a") == counted

    third, kill = run(tmp_path, [source(Away), film("b")], sinks(), **options)
    third.start()
    assert third.add(source(Memory)).id == "a", "the file that says so was read again"
    until(lambda: given_of(tmp_path, "a") > counted + 5)
    assert third.add(source(Memory)).id == "a-2"
    third.stop()
    final = third.wait(20)
    assert "a" not in third._stages[0]._forgotten[:1]
    indices = [json.loads(line)["frame"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert indices == sorted(set(indices)), "no index twice"
    assert live or indices == list(range(len(indices)))
    (a,) = (source for source in final.sources if source.id == "a")
    assert a.captured == a.finished + sum(a.dropped.values()) > counted


def test_a_file_that_had_ended_and_is_away_at_a_restart_is_not_read_again(tmp_path: Path) -> None:
    options = {"service": True, "keep_going": True}
    first, kill = run(tmp_path, [film("a", count=5), film("b")], on_failure="end", **options)
    first.start()
    until(lambda: followed(tmp_path).get("a", {}).get("progress", {}).get("ended"))
    end(first, kill)
    for leaves in (False, True):
        again, kill = run(tmp_path, [Away(id="a", uri="/films/a", count=5), film("b")], **options)
        again.start()
        if leaves:
            with pytest.raises(UsageError, match="no source of this run is called 'a'"):
                again.remove("a")
            until(lambda: "a" not in followed(tmp_path))
            assert again.add(film("a", count=5)).id == "a-2", "it need not be known any more"
        else:
            assert again.add(film("a", count=5)).id == "a"
        saved = again.checkpoints["saved"]
        until(lambda again=again, saved=saved: again.checkpoints["saved"] > saved + 2)
        again.stop()
        again.wait(20)
        assert not [index for source, index in kill.seen if source == "a"]


def test_a_stream_that_had_ended_and_is_away_at_a_restart_begins_anew_once_it_is_back(tmp_path: Path) -> None:
    options = {"service": True, "keep_going": True}
    stream = {"id": "a", "uri": "http://a/live.m3u8", "is_live": True}
    first, kill = run(tmp_path, [Memory(**stream, count=5), film("b")], on_failure="end", **options)
    first.start()
    until(lambda: followed(tmp_path).get("a", {}).get("progress", {}).get("ended"))
    end(first, kill)
    again, kill = run(tmp_path, [Away(**stream), film("b")], **options)
    again.start()
    assert again.add(Memory(**stream, count=5)).id == "a-2"
    until(lambda: ("a-2", 4) in kill.seen)
    again.stop()
    again.wait(20)


def test_of_one_that_stands_twice_no_id_is_given_twice(tmp_path: Path) -> None:
    options = {"service": True, "keep_going": True}
    first, kill = run(tmp_path, [film("a"), film("a")], on_failure="end", **options)
    first.start()
    assert first.began == ["a", "a-2"]
    until(lambda: min(given_of(tmp_path, name) for name in ("a", "a-2")) > 5)
    end(first, kill)
    again, kill = run(tmp_path, [Away(id="a", uri="/films/a"), film("a")], **options)
    again.start()
    assert again.began == [None, "a-2"]
    assert again.add(film("a")).id == "a"
    assert again.add(film("a")).id == "a-3"
    until(lambda: {source for source, _ in kill.seen} == {"a", "a-2", "a-3"})
    again.stop()
    again.wait(20)
    assert len(kill.seen) == len(set(kill.seen))


def test_a_camera_that_gave_nothing_and_is_away_at_a_restart_begins_at_zero_seconds(tmp_path: Path) -> None:
    options = {"service": True, "keep_going": True}
    hold = threading.Event()
    silent = Memory(id="a", uri="rtsp://a", is_live=True, gate=lambda: hold.wait(20))
    first, kill = run(tmp_path, [silent, film("b")], on_failure="end", **options)
    first.start()
    until(lambda: given_of(tmp_path, "b") > 5)
    kill.now = True
    with pytest.raises(FramechainError):
        first.wait(20)
    hold.set()
    assert followed(tmp_path)["a"]["progress"]["index"] == -1
    timestamps: list[float] = []
    note = Keep(function=lambda frame: timestamps.append(frame.timestamp) if frame.source == "a" else None)
    again, _ = run(tmp_path, [Away(id="a", uri="rtsp://a", is_live=True), film("b")], [note], **options)
    again.start()
    assert again.add(camera("a")).id == "a"
    until(lambda: len(timestamps) > 3)
    again.stop()
    again.wait(20)
    assert timestamps[0] < 60


def test_a_run_of_files_does_not_go_on_without_one_of_them(tmp_path: Path) -> None:
    first, kill = run(tmp_path, [film("a"), film("b")])
    first.start()
    until(lambda: given_of(tmp_path, "a") > 5)
    end(first, kill)
    saved = followed(tmp_path)
    with pytest.raises(NotThere, match="/films/a is not there"):
        run(tmp_path, [Away(id="a", uri="/films/a"), film("b")], keep_going=True)[0].run()
    assert followed(tmp_path) == saved


def test_sources_are_added_and_removed_and_the_run_is_killed(tmp_path: Path) -> None:
    def sinks() -> list[Any]:
        return [JsonLines(path=tmp_path / "all.jsonl"), JsonLines(path=tmp_path / "own" / "{source}.jsonl")]

    first, kill = run(tmp_path, [film("a")], sinks(), service=True)
    first.start()
    until(lambda: ("a", 9) in kill.seen)
    assert first.add(film("b", count=30)).id == "b"
    assert first.add(film("c")).id == "c"
    until(lambda: ("b", 29) in kill.seen and ("c", 9) in kill.seen)
    assert first.remove("c", 10)
    assert first.add(film("c")).id == "c-2"
    until(lambda: given_of(tmp_path, "c-2") > 9 and "c" not in followed(tmp_path))
    end(first, kill)
    of_c = max(index for source, index in kill.seen if source == "c")

    rest = [film("a", pace=0), film("b", count=30), film("c", pace=0)]
    second, after = run(tmp_path, rest, sinks(), service=True)
    second.start()
    assert second.began == ["a", "b", "c-2"]
    added = second.add(film("b", count=10)).id
    assert added == "b-2"
    until(lambda: ("b-2", 9) in after.seen and len(after.seen) > 200)
    with pytest.raises(UsageError, match="no source of this run is called 'b'"):
        second.remove("b")  # it had ended by itself; now it need not be known any more
    until(lambda: "b" not in followed(tmp_path))
    second.stop()
    final = second.wait(20)

    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    indices: dict[str, list[int]] = {}
    for line in lines:
        indices.setdefault(line["source"], []).append(line["frame"])
    for name in ("a", "b", "c-2", "b-2"):
        assert indices[name] == list(range(len(indices[name]))), f"{name}: every frame once and in order"
    assert len(indices["b"]) == 30
    assert indices["c"] == list(range(of_c + 1)), "what was removed is complete"
    assert not [source for source, _ in after.seen if source in ("b", "c")]
    own = {path.stem: path.read_text().splitlines() for path in (tmp_path / "own").iterdir()}
    assert own == {
        name: [json.dumps(line, separators=(",", ":")) for line in lines if line["source"] == name] for name in indices
    }
    assert own.keys() == {"a", "b", "c", "c-2", "b-2"}
    assert sum(source.finished for source in final.sources) == len(lines)
    for source in final.sources:
        assert source.captured == source.finished + sum(source.dropped.values())


def test_files_that_joined_in_their_midst_stay_lined_up_over_a_restart(tmp_path: Path) -> None:
    first, kill = run(tmp_path, [film("a")], service=True)
    first.start()
    until(lambda: ("a", 60) in kill.seen)
    first.add(film("b"))
    until(lambda: given_of(tmp_path, "b") > 10)
    end(first, kill)
    second, after = run(tmp_path, [film("a"), film("b")], service=True)
    second.start()
    until(lambda: len(after.seen) > 40)
    second.abort()
    assert second.join(20)
    both = Counter(source for source, _ in after.seen[:30])
    assert abs(both["a"] - both["b"]) <= 2, "both have the same rate"


def test_a_thousand_sources_that_come_and_go_leave_nothing_in_the_checkpoint(tmp_path: Path) -> None:
    pipeline, _ = run(tmp_path, [camera("stays")], service=True, on_failure="skip")
    pipeline._stages[0].function = lambda frame: 1 // (frame.source == "stays")  # fails on all others
    pipeline.start()

    def cycle(times: int) -> None:
        for number in range(times):
            info = pipeline.add(Memory(uri=f"cam{number % 7}", count=2, is_live=True))
            try:
                assert pipeline.remove(info.id, 10)
            except UsageError:  # it had ended by itself
                until(lambda name=info.id: name not in {one.id for one in pipeline.infos})

    def size() -> int:
        until(lambda: set(followed(tmp_path)) == {"stays"})
        return (tmp_path / "saved" / NAME).stat().st_size

    cycle(20)
    before = size()
    cycle(1000)
    assert size() <= before + 500, "counts and numbers have more digits, and there are more reasons"
    until(lambda: pipeline._crews[0]._failed.keys() == {ENDED})
    pipeline.stop()
    final = pipeline.wait(20)
    told = load(tmp_path / "saved")
    assert told is not None
    ended = told["ended"]
    assert ended["finished"] == 0
    assert ended["lost"]["stateful failed"] == sum(ended["lost"].values()) == ended["given"] > 100
    removed = [source for source in final.sources if source.id != "stays"]
    assert ended["given"] == sum(source.captured - sum(_unread(source.dropped)) for source in removed)
    assert names_after(told).new("cam0") not in {source.id for source in final.sources}


def _unread(dropped: dict[str, int]) -> list[int]:
    return [count for reason, count in dropped.items() if reason in ("abandoned", "aborted", "starting")]


def names_after(told: dict[str, Any]) -> Names:
    names = Names()
    names.load_state_dict(told["names"])
    return names


@given(
    st.lists(st.sampled_from(["a", "a-2", "a-2-2", "a-02", "b", "-", "2", "a-", ENDED]), max_size=40),
    st.integers(0, 40),
)
@settings(max_examples=50, deadline=None)
def test_ids_never_repeat(wanted: list[str], restart: int) -> None:
    names = Names()
    found = []
    for number, one in enumerate(wanted):
        if number == restart:
            names = names_after({"names": json.loads(json.dumps(names.state_dict()))})
        found.append(names.new(one))
    assert len(set(found)) == len(found)
    assert ENDED not in found


def test_ids_are_bounded_and_never_repeat() -> None:
    names = Names()
    found = [names.new(f"cam{number % 5000}") for number in range(12_000)]
    assert len(set(found)) == len(found)
    assert len(json.dumps(names.state_dict())) < 100_000


# Ids and indices after kills.


def checkpoints(folder: Path, **options: Any) -> Checkpoints:
    return Checkpoints(folder, options.pop("every", 1000.0), options.pop("resume", True), False, True, Names())


def test_kills_in_a_row_before_the_first_checkpoint_repeat_no_index(tmp_path: Path) -> None:
    """A service that crashes as soon as it has begun, again and again; the first of them was stopped cleanly."""
    first, kill = run(tmp_path, [camera("gate")])
    first.start()
    until(lambda: len(kill.seen) > 3)
    first.stop()
    first.wait(20)
    whole = (tmp_path / "saved" / NAME).read_bytes()
    seen = [index for _, index in kill.seen]
    for _ in range(3):
        again, kill = run(tmp_path, [camera("gate")], checkpoint_every=1000)
        again.start()
        until(lambda kill=kill: len(kill.seen) > 3)
        end(again, kill)
        (tmp_path / "saved" / NAME).write_bytes(whole)  # as if it had not been saved in so short a time
        seen += [index for _, index in kill.seen]
    assert seen == sorted(set(seen))


def test_a_run_that_could_not_save_for_an_hour_leaves_out_what_it_gave_in_that_hour(tmp_path: Path) -> None:
    first, kill = run(tmp_path, [camera("gate")])
    first.start()
    until(lambda: given_of(tmp_path, "gate") > 3)
    end(first, kill)
    told = load(tmp_path / "saved")
    assert told is not None
    claim = Claim(tmp_path / "saved")
    claim.tell(told["number"], 3600.0)  # what such a run leaves, see test_checkpoint_faults
    claim.close()
    (tmp_path / "saved" / NAME).touch()
    second, kill = run(tmp_path, [camera("gate")])
    stage = second._stages[0]
    skipped: list[int] = []
    type(stage).skip_ids = lambda self, source, count: skipped.append(count)  # type: ignore[method-assign]
    try:
        second.start()
        until(lambda: kill.seen)
        second.abort()
        assert second.join(20)
    finally:
        del type(stage).skip_ids
    assert kill.seen[0][1] > 3600 * 120
    assert skipped[0] >= 3600 * 50


def test_a_clock_that_was_set_back_changes_nothing(tmp_path: Path) -> None:
    first, kill = run(tmp_path, [camera("gate")])
    first.start()
    until(lambda: given_of(tmp_path, "gate") > 3)
    end(first, kill)
    told = load(tmp_path / "saved")
    assert told is not None
    told["saved_at"] += 1e6
    told["sources"]["gate"]["progress"]["seen_at"] += 1e6
    save(tmp_path / "saved", told)
    frames: list[Frame] = []
    second, after = run(tmp_path, [camera("gate")])
    after.function = frames.append
    second.start()
    until(lambda: frames)
    second.abort()
    assert second.join(20)
    assert after.seen[0][1] > max(index for _, index in kill.seen) + 1000
    assert frames[0].timestamp > told["sources"]["gate"]["progress"]["timestamp"] + 10


def test_one_run_at_a_time_saves_in_a_folder(tmp_path: Path) -> None:
    first, kill = run(tmp_path, [camera("gate")])
    with pytest.raises(UsageError, match=r"another run \(process \d+\) saves its checkpoints in .*; give each run"):
        run(tmp_path, [camera("gate")])
    first.start()
    with pytest.raises(UsageError, match="another run"):
        run(tmp_path, [camera("gate")], resume=False, fresh=True)
    end(first, kill)
    second, kill = run(tmp_path, [camera("gate")])
    del second
    third = run(tmp_path, [Memory(id="gate", uri="rtsp://gate", count=3, is_live=True)])[0]
    third.run()


def test_what_begins_anew_is_never_gone_on_from_as_what_was_before(tmp_path: Path) -> None:
    first, kill = run(tmp_path, [film("a")])
    first.start()
    until(lambda: given_of(tmp_path, "a") > 3)
    end(first, kill)
    second, kill = run(tmp_path, [film("other")], resume=False, fresh=True, checkpoint_every=1000)
    second.start()
    until(lambda: len(kill.seen) > 3)
    end(second, kill)
    third, kill = run(tmp_path, [film("other")])
    third.start()
    until(lambda: len(kill.seen) > 3)
    end(third, kill)
    assert kill.seen[0] == ("other", 0), "the second one saved before its first frame, and not since"


def test_the_last_frames_of_a_source_that_falls_silent_are_saved(tmp_path: Path) -> None:
    silent = Memory(id="gate", uri="rtsp://gate", count=10**9, is_live=True)
    over = threading.Event()
    silent.gate = lambda: over.wait(60 if silent._next == 5 else 0)
    pipeline, _ = run(tmp_path, [silent], checkpoint_every=0.2)
    pipeline.start()
    until(lambda: given_of(tmp_path, "gate") == 5)
    over.set()
    pipeline.abort()
    assert pipeline.join(20)
