"""The run: `framechain run` as a service would start it, watched from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.soak.site import Site
from tests.pipeline.peers import free_port

_CLASSES = ["person", "car", "bus"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The run at one moment.

    Attributes:
        at: seconds since the beginning.
        resident, anonymous: bytes of memory, with and without what is mapped from files.
        threads, descriptors: how many. live: sources that give frames.
        finished: frames through the chain, by source. within: (seconds, frames within them) of latency, so far.
    """

    at: float
    resident: int
    anonymous: int
    threads: int
    descriptors: int
    live: int
    finished: dict[str, int]
    within: list[tuple[float, int]]


class Run:
    """A `framechain run` of a site's cameras.

    Args:
        site: who is watched. folder: empty; for the configuration and all outputs.
    """

    def __init__(self, site: Site, folder: Path) -> None:
        self._folder, self._cameras = folder, site.sources
        chain = {
            "sources": self._cameras,
            "stages": [
                {"detect": {"classes": _CLASSES}},
                "embed",
                "track",
                {"read_text": {"classes": _CLASSES[1:]}},
                "annotate",
            ],
            "sinks": [
                {"jsonl": {"path": "{part}/frames.jsonl", "rotate": {"seconds": 60}}},
                {"sqlite": {"path": "frames.db"}},
                {"video": {"path": "{part}/{source}.mp4", "rotate": {"seconds": 60, "keep_seconds": 300}}},
                {"webhook": {"url": site.peer.url, "spool": "spool"}},
            ],
            "keep_going": True,
        }
        (folder / "chain.yaml").write_text(yaml.safe_dump(chain))
        command = [sys.executable, "-m", "pipeline", "run", "--config", "chain.yaml", "--quiet"]
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        command += ["--health", f":{port}", "--checkpoint", "checkpoint", "--report", "report.json"]
        here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONFAULTHANDLER": "1"}
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(command, cwd=folder, env=here, stderr=self._log, stdout=subprocess.DEVNULL)
        self._proc = Path(f"/proc/{self._process.pid}")
        self._began = time.monotonic()

    def await_beginning(self, seconds: float = 300) -> None:
        """Wait until every camera gives frames.

        Raises:
            RuntimeError: it does not come to that.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(urllib.error.URLError):  # it does not listen yet
                if self.sample().live == len(self._cameras):
                    self._began = time.monotonic()
                    return
            time.sleep(0.5)
        self.close()
        raise RuntimeError(f"the run did not begin: {(self._folder / 'log').read_text()}")

    def sample(self) -> Sample:
        """Look at it.

        Raises:
            RuntimeError: it has ended.
        """
        if self._process.poll() is not None:
            raise RuntimeError(f"the run ended by itself: {(self._folder / 'log').read_text()[-2000:]}")
        status = (self._proc / "status").read_text()
        health, figures = json.loads(self._ask("/healthz")), self._ask("/metrics")
        finished = re.findall(r'^framechain_source_finished_total\{source="(.*?)"\} (\S+)', figures, re.MULTILINE)
        within = re.findall(r'^framechain_frame_latency_seconds_bucket\{le="(.*?)"\} (\S+)', figures, re.MULTILINE)
        return Sample(
            at=time.monotonic() - self._began,
            resident=_status(status, "VmRSS"),
            anonymous=_status(status, "RssAnon"),
            threads=_status(status, "Threads"),
            descriptors=sum(1 for _ in (self._proc / "fd").iterdir()),
            live=sum(source["state"] == "live" for source in health["sources"]),
            finished={name: int(float(count)) for name, count in finished},
            within=[(float(limit), int(float(count))) for limit, count in within],
        )

    def end(self) -> dict[str, Any]:
        """Stop it as a service manager does; its report.

        Raises:
            RuntimeError: it does not end, or not well.
        """
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # has it tell where its threads are
            self._process.wait()
            raise RuntimeError(f"it did not end within 60 s: {(self._folder / 'log').read_text()[-30_000:]}") from None
        if code != 143:
            raise RuntimeError(f"exit code {code}: {(self._folder / 'log').read_text()[-2000:]}")
        report: dict[str, Any] = json.loads((self._folder / "report.json").read_text())
        return report

    def close(self) -> None:
        """Be sure that it is gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._log.close()

    def _ask(self, path: str) -> str:
        try:
            with closing(urllib.request.urlopen(self._url + path, timeout=10)) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:  # unhealthy, and that is an answer
            with error:
                return error.read().decode()


def frames_in(folder: Path) -> Iterator[tuple[str, int]]:
    """(source, index) of every line in the JSON outputs."""
    for path in sorted(folder.glob("*/frames.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            yield row["source"], row["frame"]


def _status(text: str, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+)( kB)?", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * (1024 if found[2] else 1)
