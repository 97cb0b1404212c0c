"""Channels and the sequencer, under real threads."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.channel import Aborted, Channel, Sequencer


def test_items_come_out_in_order_and_none_after_the_end() -> None:
    channel: Channel[int] = Channel(3)
    writer = threading.Thread(target=lambda: [*map(channel.put, range(100)), channel.close()])
    writer.start()
    taken: list[int] = []
    while items := channel.take(7)[1]:
        assert len(items) <= 3, "a channel never holds more than its capacity"
        taken += items
    writer.join()
    assert taken == list(range(100))
    assert channel.take(1)[1] == []


def test_a_full_channel_blocks_its_writer_until_there_is_room() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(0)
    done = threading.Event()
    writer = threading.Thread(target=lambda: (channel.put(1), done.set()))
    writer.start()
    assert not done.wait(0.05)
    assert channel.take(1)[1] == [0]
    assert done.wait(5)
    writer.join()


def test_abort_wakes_writers_and_readers() -> None:
    full, empty = Channel[int](1), Channel[int](1)
    full.put(0)
    with ThreadPoolExecutor(2) as pool:
        blocked = [pool.submit(full.put, 1), pool.submit(empty.take, 1)]
        full.abort()
        empty.abort()
        for future in blocked:
            with pytest.raises(Aborted):
                future.result(timeout=5)


def test_sequencer_restores_order_whatever_the_workers_do() -> None:
    channel: Channel[int] = Channel(64)
    out: list[int] = []
    sequencer: Sequencer[int] = Sequencer(out.extend, ahead=4)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while True:
            ticket, items = channel.take(rng.randint(1, 5))
            if not items:
                return
            sum(range(rng.randint(0, 20_000)))  # uneven work
            sequencer.emit(ticket, items)

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(work, seed) for seed in range(4)]
        for number in range(2000):
            channel.put(number)
        channel.close()
        for job in jobs:
            job.result(timeout=30)
    assert out == list(range(2000))


def test_sequencer_lets_waiting_workers_go_when_delivery_fails() -> None:
    def deliver(batch: list[int]) -> None:
        raise Aborted

    sequencer: Sequencer[int] = Sequencer(deliver, ahead=0)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(sequencer.emit, 1, [1])
        with pytest.raises(Aborted):
            sequencer.emit(0, [0])
        with pytest.raises(Aborted):
            ahead.result(timeout=5)
