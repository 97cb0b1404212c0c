"""Graphs: what a network does for an input of one shape, recorded once on the GPU and replayed as a single launch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from pipeline.inference.model import out_of_memory, shortened

logger = logging.getLogger("framechain")

_WARM = 3  # calls before recording, in which libraries choose their kernels and heads make their anchors
_AFTER = 2  # calls with inputs of a shape: crops come in many numbers, most of them once
_MOST = 16  # shapes; each holds an input and outputs of its own

Network: TypeAlias = Callable[[Any], Sequence[Any]]
"""From a tensor of images to tensors."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A network's work for one shape.

    Attributes:
        images: the input that is read. outputs: the tensors that are written.
        replay: does it all again.
        kept: what the work reads besides, and nobody else may still hold.
    """

    images: Any
    outputs: Sequence[Any]
    replay: Callable[[], None]
    kept: Any = None


class Graphs:
    """Stands in for a network. One caller at a time, and what it gives is overwritten by the next call.

    Args:
        network: what is recorded, and called as it is for shapes that are not.
        record: makes a recording from the network and an example of its input.
        label: of the network, in messages.
    """

    _one_at_a_time: ClassVar[threading.Lock] = threading.Lock()  # CUDA records one graph at a time in a process

    def __init__(self, network: Network, record: Callable[[Network, Any], Recording], label: str) -> None:
        self._network, self._record, self._label = network, record, label
        self._seen: dict[tuple[int, ...], int] = {}
        self._recorded: dict[tuple[int, ...], Recording] = {}
        self._works = True

    def __call__(self, images: Any) -> Sequence[Any]:
        """The network's outputs."""
        shape = tuple(images.shape)
        recording = self._recorded.get(shape)
        if recording is None and self._worth(shape):
            recording = self._new(images)
        if recording is None:
            return self._network(images)
        recording.images.copy_(images)
        recording.replay()
        return recording.outputs

    def clear(self) -> None:
        """Let go of the memory of all recordings; they are made again when they are needed."""
        self._recorded.clear()
        self._seen.clear()

    def _worth(self, shape: tuple[int, ...]) -> bool:
        if not self._works or len(self._recorded) >= _MOST:
            return False
        if len(self._seen) >= 16 * _MOST:
            self._seen.clear()
        self._seen[shape] = self._seen.get(shape, 0) + 1
        return self._seen[shape] > _AFTER

    def _new(self, images: Any) -> Recording | None:
        try:
            with self._one_at_a_time:
                recording = self._record(self._network, images)
        except Exception as error:
            fault = shortened(error)
            if out_of_memory(error):  # recordings hold memory that the network itself may need
                self._recorded.clear()
            self._works = False
            logger.warning(
                "%s cannot record a network as a CUDA graph (%s); it launches kernel by kernel, which takes longer",
                self._label,
                fault,
            )
            return None
        self._recorded[tuple(images.shape)] = recording
        return recording


def recorder(module: Any, device: str) -> Callable[[Network, Any], Recording]:
    """Records on a GPU.

    Args:
        module: the torch module behind the network. device: where it is.
    """
    import torch

    pool = torch.cuda.graph_pool_handle()  # replayed by turns, in one stream: they can share what is in between
    side = torch.cuda.Stream(device)

    def record(network: Network, images: Any) -> Recording:
        static = images.clone()  # keeps the order of its memory
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM):
                network(static)
        side.synchronize()
        # What other threads do meanwhile, their copies and allocations, shall not spoil it: "thread_local".
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
            outputs = list(network(static))
        # Heads keep the anchors of the last shape and drop them for another's: the graph goes on reading them.
        made = [value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
        return Recording(static, outputs, graph.replay, (graph, made))

    return record
