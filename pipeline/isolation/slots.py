"""Slots: memory for a few pictures that two processes share."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.picture_size import refusal

SLOTS = 3
"""One is written, one is read, one is on its way."""


def reserve(pixels: int) -> int:
    """Memory without a name for SLOTS pictures of so many pixels: a descriptor, gone with the last process that has it.

    Only what is written takes memory. Where the system has no such memory (macOS) it is a file without a name.
    """
    size = SLOTS * _stride(pixels)
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, size)
        return descriptor
    from fcntl import F_ADD_SEALS, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl

    descriptor = os.memfd_create("framechain", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # who reads what the other side cut off is ended by a signal
    fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL)
    return descriptor


class Slots:
    """One side's view of reserved memory.

    Args:
        descriptor: from `reserve`; it may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self._stride = len(self._memory) // SLOTS

    def put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Write a picture, (H, W, C) uint8.

        Raises:
            UsageError: it is larger than what was reserved.
        """
        if image.nbytes > self._stride:
            raise UsageError(f"a picture {refusal(image.shape[1], image.shape[0], self._stride // 3)}")
        np.copyto(self._at(slot, image.shape), image)

    def take(self, slot: int, shape: Sequence[int]) -> NDArray[np.uint8]:
        """A copy of the picture, its memory its own.

        Raises:
            ValueError: no picture of that shape can be there.
        """
        return self._at(slot, shape).copy()

    def close(self) -> None:
        """Let go of it."""
        self._memory.close()

    def _at(self, slot: int, shape: Sequence[int]) -> NDArray[np.uint8]:
        return np.frombuffer(self._memory, np.uint8, math.prod(shape), slot * self._stride).reshape(shape)


def _stride(pixels: int) -> int:
    return -(-3 * pixels // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
