"""Usage: how busy processors and GPUs are while something runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from typing_extensions import Self

from pipeline.inference.choice import available_cores

_PERIOD = 500  # milliseconds between two looks at the GPUs
_QUERY = "--query-gpu=index,utilization.gpu,memory.used"


@dataclass(frozen=True, slots=True)
class GpuUsage:
    """One GPU. utilisation: mean share of the time that it computed, 0..1. memory: most bytes in use, by anybody."""

    index: int
    utilisation: float
    memory: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a stretch of time cost.

    Attributes:
        seconds: how long it was.
        cpu: seconds of processor time that this process spent, over all its threads.
        cores: that it may use.
        others: share of all cores' time that everybody else took, 0..1; 0 where the system does not tell.
        gpus: of NVIDIA, where their driver's tool is there.
    """

    seconds: float
    cpu: float
    cores: int
    others: float = 0.0
    gpus: tuple[GpuUsage, ...] = ()

    @property
    def utilisation(self) -> float:
        """Share of the cores' time that this process used, 0..1."""
        return min(1.0, self.cpu / (self.seconds * self.cores)) if self.seconds else 0.0


class UsageMeter:
    """Measures from entering to leaving it; then `usage` is set.

    >>> with UsageMeter() as meter:
    ...     total = sum(range(100_000))
    >>> 0 <= meter.usage.utilisation <= 1
    True
    """

    usage: Usage

    def __init__(self) -> None:
        self._looking: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if tool := shutil.which("nvidia-smi"):
            command = [tool, _QUERY, "--format=csv,noheader,nounits", f"--loop-ms={_PERIOD}"]
            with suppress(OSError):
                self._looking = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
                )
        self._start, self._cpu, self._busy = time.perf_counter(), time.process_time(), _busy()
        return self

    def __exit__(self, *exc: object) -> None:
        seconds, cpu = time.perf_counter() - self._start, time.process_time() - self._cpu
        others = max(0.0, _busy() - self._busy - cpu) / (seconds * (os.cpu_count() or 1))
        told = ""
        if self._looking is not None:
            self._looking.terminate()
            told = self._looking.communicate()[0]
        self.usage = Usage(seconds, cpu, available_cores(), min(1.0, others), _gpus(told))


def _busy() -> float:
    """Seconds that all cores together have worked, or that other machines on the same hardware took from them."""
    try:
        words = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[1:9]
        user, nice, system, _idle, _waiting, *interrupted_or_stolen = map(int, words)
        return (user + nice + system + sum(interrupted_or_stolen)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0


def _gpus(told: str) -> tuple[GpuUsage, ...]:
    """Of what nvidia-smi printed: number, per cent and MiB of each GPU, again and again.

    >>> _gpus("0, 50, 1000\\n1, 0, 3\\n0, 100, 2000\\n0, [N/A], 7\\n")[0]
    GpuUsage(index=0, utilisation=0.75, memory=2097152000)
    """
    seen: dict[int, list[tuple[float, int]]] = {}
    for line in told.splitlines():
        with suppress(ValueError):
            index, share, memory = line.split(",")
            seen.setdefault(int(index), []).append((float(share) / 100, int(memory) << 20))
    return tuple(
        GpuUsage(index, fmean(share for share, _ in looks), max(memory for _, memory in looks))
        for index, looks in sorted(seen.items())
    )
