"""Lanes: how calls from several threads share a device: each brings its images and takes its results by itself.

On a GPU a lane is a stream with pinned memory, in which copies run beside the kernels of others, and the network has a
stream of its own. On a processor the same steps are plain calls: that is how they are tested without a GPU.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.gather import gathered
from pipeline.inference.views import Views


class Lane:
    """One thread's way to the device and back; its memory is used again by its next call."""

    def __init__(self, torch: Any, device: str) -> None:
        self._torch, self._device = torch, device
        self.stream: Any = torch.cuda.Stream(device) if device.startswith("cuda") else None
        self._memory: dict[str, Any] = {}
        self._constants: dict[tuple[float, ...], Any] = {}

    def host(self, name: str, shape: Sequence[int], dtype: Any) -> Any:
        """A tensor in the host's memory, pinned for a GPU; the last one of that name is overwritten."""
        size = math.prod(shape) * dtype.itemsize
        memory = self._memory.get(name)
        if memory is None or len(memory) < size:
            memory = self._torch.empty(size, dtype=self._torch.uint8, pin_memory=self.stream is not None)
            self._memory[name] = memory
        return memory[:size].view(dtype).view(*shape)

    def up(self, host: Any) -> Any:
        """A copy on the device, on its way."""
        return host.to(self._device, non_blocking=True)

    def constant(self, values: tuple[float, ...]) -> Any:
        """A float32 tensor on the device, the same for the same values: of normalisations there are few."""
        if values not in self._constants:
            self._constants[values] = self._torch.tensor(values, device=self._device)
        return self._constants[values]

    def down(self, outputs: Sequence[Any]) -> list[NDArray[np.float32]]:
        """Copies of float32 tensors, once they are there."""
        hosts = [self.host(f"output {n}", out.shape, out.dtype) for n, out in enumerate(outputs)]
        for host, out in zip(hosts, outputs, strict=True):
            host.copy_(out, non_blocking=True)
        self.wait()
        return [host.numpy().copy() for host in hosts]

    def wait(self) -> None:
        """Until all that it was told is done."""
        if self.stream is not None:
            self.stream.synchronize()


class Lanes:
    """The lanes to one device, and the stream in which a network computes there, one call after the other.

    Attributes:
        lock: held while something is given to the network.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._torch, self._device = torch, device
        self._own = threading.local()
        self._stream = torch.cuda.Stream(device) if device.startswith("cuda") else None
        self.lock = threading.Lock()

    def run(self, batch: NDArray[np.float32], network: Callable[[Any], Sequence[Any]]) -> list[NDArray[np.float32]]:
        """A network's outputs for a batch, (N, 3, H, W).

        Args:
            network: from a float32 tensor on the device to tensors, which may be the same memory each time.
        """
        with self._lane() as lane:
            host = lane.host("input", batch.shape, self._torch.float32)
            host.numpy()[:] = batch
            return self._computed(lane, lane.up(host), network)

    def run_views(self, views: Views, network: Callable[[Any], Sequence[Any]]) -> list[NDArray[np.float32]]:
        """The same for views, which are cut out, scaled and normalised on the device."""
        with self._lane() as lane:
            return self._computed(lane, gathered(views, lane), network)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The network is free, and what is begun within runs in its stream."""
        with self.lock, self._in(self._stream):
            yield

    def _computed(self, lane: Lane, images: Any, network: Callable[[Any], Sequence[Any]]) -> list[NDArray[np.float32]]:
        torch = self._torch
        with self.turn():
            try:
                if self._stream is not None:
                    self._stream.wait_stream(lane.stream)
                # copies: a network that is replayed writes into the same memory for the next caller
                outputs = [out.to(torch.float32, copy=True) for out in network(images)]
                done = None if self._stream is None else self._stream.record_event()
            except BaseException:
                if self._stream is not None:
                    self._stream.synchronize()  # or the images' memory would go to others while it is still read
                raise
        if done is not None:
            lane.stream.wait_event(done)
        # `images` and `outputs` live until this has waited for both streams, so their memory goes to no other stream
        return lane.down(outputs)

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        """This thread's own; once it is left, nothing of it is under way."""
        lane: Lane | None = getattr(self._own, "lane", None)
        if lane is None:
            lane = self._own.lane = Lane(self._torch, self._device)
        with self._torch.no_grad(), self._in(lane.stream):
            try:
                yield lane
            finally:
                lane.wait()

    def _in(self, stream: Any) -> Any:
        return nullcontext() if stream is None else self._torch.cuda.stream(stream)
