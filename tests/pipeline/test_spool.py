"""The spool: order, restarts, damage, bounds."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.sending.spool import Spool

MIB = 2**20


def numbered(count: int, start: int = 0, size: int = 100) -> list[bytes]:
    return [f"{number:08d}".encode().ljust(size, b".") for number in range(start, start + count)]


def filled(folder: Path, messages: list[bytes], limit: int = MIB) -> int:
    spool = Spool(folder, limit)
    lost = sum(spool.append(message) for message in messages)
    spool.close()
    return lost


def emptied(folder: Path, limit: int = MIB) -> list[bytes]:
    spool, messages = Spool(folder, limit), []
    while batch := spool.take(7, MIB):
        messages += batch
        spool.done(len(batch))
    assert len(spool) == 0
    spool.close()
    return messages


def test_messages_come_out_in_order_also_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path, numbered(1000))
    spool = Spool(tmp_path, MIB)
    assert len(spool) == 1000
    assert spool.take(300, MIB) == numbered(300)
    spool.done(250)
    assert len(spool) == 750, "what is given out and not done is still there"
    assert spool.append(numbered(1, 1000)[0]) == 0
    assert spool.close() == 0
    assert emptied(tmp_path) == numbered(751, 250)
    assert emptied(tmp_path) == []


def test_a_file_that_cannot_be_read_now_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, MIB)
    for message in numbered(3000, size=1000)[:900]:  # in several files
        spool.append(message)
    seen, really = [], Path.open

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    for turn in range(40):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", refuse)
            with contextlib.suppress(OSError):
                seen += (batch := spool.take(40, MIB))
                spool.done(len(batch))
        assert Path.open is really
        seen += (batch := spool.take(1 + turn % 3, MIB))
        spool.done(len(batch))
    assert seen == numbered(900, size=1000)[: len(seen)]
    assert len(seen) > 500
    spool.close()


def test_what_is_taken_while_it_is_written(tmp_path: Path) -> None:
    spool, seen = Spool(tmp_path, MIB), []
    for number, message in enumerate(numbered(3000, size=1000)):
        assert spool.append(message) == 0
        if number % 3 == 2:
            batch = spool.take(3, MIB)
            spool.done(len(batch))
            seen += batch
    assert seen == numbered(3000, size=1000)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= MIB, "what is delivered takes no room"
    spool.close()


def test_a_batch_is_limited_in_bytes_and_one_message_always_goes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    for message in numbered(5, size=1000):
        spool.append(message)
    assert len(spool.take(100, 2500)) == 3
    assert len(spool.take(100, 1)) == 1
    spool.close()


def test_the_oldest_go_when_it_is_full_and_every_one_is_counted(tmp_path: Path) -> None:
    sent = numbered(5000, size=1000)
    lost = filled(tmp_path, sent)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= MIB + 100
    kept = emptied(tmp_path)
    assert kept == sent[lost:]
    assert len(kept) * 1000 > 0.9 * MIB, "a file at a time goes, a sixteenth"


def test_what_is_being_delivered_while_it_overflows_is_not_counted_as_lost(tmp_path: Path) -> None:
    spool, sent = Spool(tmp_path, MIB), numbered(3000, size=1000)
    spool.append(sent[0])
    spool.append(sent[1])
    held = spool.take(2, MIB)
    lost = sum(spool.append(message) for message in sent[2:])
    assert lost > 0
    assert len(spool) == 3000 - lost
    spool.done(1)  # the other one is gone from the disk, and its delivery fails
    assert held == sent[:2]
    assert spool.close() == 1
    assert len(emptied(tmp_path)) == 3000 - lost - 2


def damage(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_message_cut_off_by_a_power_cut_is_left_out(tmp_path: Path) -> None:
    filled(tmp_path, numbered(10))
    (file,) = tmp_path.glob("*.spool")
    os.truncate(file, file.stat().st_size - 30)
    spool = Spool(tmp_path, MIB)
    assert (len(spool), spool.damaged) == (9, 1)
    spool.append(b"new")
    spool.close()
    assert emptied(tmp_path) == [*numbered(9), b"new"]


@pytest.mark.parametrize("garbage", [bytes(50), b"\xff" * 50], ids=["zeros", "ones"])
def test_garbage_after_a_power_cut_is_left_out(garbage: bytes, tmp_path: Path) -> None:
    filled(tmp_path, numbered(10))
    (file,) = tmp_path.glob("*.spool")
    with file.open("ab") as end:
        end.write(garbage)
    assert emptied(tmp_path) == numbered(10)


def test_a_damaged_file_costs_what_follows_in_it_and_that_is_counted(tmp_path: Path) -> None:
    sent = numbered(500, size=1000)
    filled(tmp_path, sent)
    first, *_, last = sorted(tmp_path.glob("*.spool"))
    damage(first, 10 * 1008 + 200, b"?")
    damage(last, 200, b"?")
    spool = Spool(tmp_path, MIB)
    kept = len(spool)
    in_first = first.stat().st_size // 1008
    assert spool.damaged == in_first - 10 + 1, "how many are behind the last damage nobody knows"
    spool.close()
    assert emptied(tmp_path) == [*sent[:10], *sent[in_first : in_first + kept - 10]]


def test_damage_while_it_is_open(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    for message in numbered(10):
        spool.append(message)
    damage(next(tmp_path.glob("*.spool")), 5 * 108 + 50, b"?")
    assert spool.take(100, MIB) == numbered(5)
    assert spool.take(100, MIB) == []
    assert (spool.damaged, len(spool)) == (5, 5)
    spool.append(b"new")
    assert spool.take(100, MIB) == [b"new"]
    spool.close()


def test_a_lost_place_delivers_again_rather_than_never(tmp_path: Path) -> None:
    filled(tmp_path, numbered(10))
    spool = Spool(tmp_path, MIB)
    spool.done(len(spool.take(4, MIB)))
    spool.close()
    damage(tmp_path / "delivered", 2, b"?")
    assert emptied(tmp_path) == numbered(10)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", MIB)
    with pytest.raises(UsageError, match=r"another run keeps its messages in .*give this sink a folder of its own"):
        Spool(tmp_path / "spool", MIB)
    spool.close()
    Spool(tmp_path / "spool", MIB).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot keep messages in .*file"):
        Spool(tmp_path / "file", MIB)


APPEND = """
import sys
from pathlib import Path
from pipeline.sending.spool import Spool
spool = Spool(Path(sys.argv[1]), 2**26)
for number in range(10**9):
    spool.append(f"{number:08d}".encode().ljust(100, b"."))
    print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_loses_no_message(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPEND, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 500:
                break
        process.send_signal(signal.SIGKILL)
        said = [500, *(int(line) for line in process.stdout.read().splitlines()[:-1])]
    kept = emptied(tmp_path, 2**26)
    assert kept == numbered(len(kept))
    assert len(kept) > said[-1]
