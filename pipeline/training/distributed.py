"""Several processes that train one model: what `torchrun` starts, on one machine or many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.inference.torch import choose_device


@dataclass(frozen=True, slots=True)
class Process:
    """This process among all that train together.

    Attributes:
        rank: its number, from 0. world: how many there are. device: where it computes, e.g. "cuda:1".
    """

    rank: int
    world: int
    device: str

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes files and talks to the user."""
        return self.rank == 0

    def parallel(self, module: Any) -> Any:
        """The module, its gradients averaged over all processes (torch's DistributedDataParallel)."""
        if self.world == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, device_ids=[self.device] if self.device != "cpu" else None)

    def agree(self, value: float) -> float:
        """The leader's value, in every process."""
        if self.world == 1:
            return value
        import torch

        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(tensor, 0)
        return float(tensor)


@contextmanager
def joined(device: str) -> Iterator[Process]:
    """Join the processes that `torchrun` started; alone without it.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1"; with several processes each takes the GPU of its local rank.

    Raises:
        UsageError: there is no such device.
    """
    import torch

    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if device in ("auto", "cuda"):
        device = "auto" if device == "auto" and not torch.cuda.is_available() else f"cuda:{local}"
    device = choose_device(device)
    if world == 1:
        yield Process(0, 1, device)
        return
    torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield Process(rank, world, device)
    finally:
        torch.distributed.destroy_process_group()
