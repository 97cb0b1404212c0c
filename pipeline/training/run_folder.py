"""RunFolder: what one training leaves behind: its settings, figures epoch by epoch, their curves, and checkpoints."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import replace_file
from pipeline.training.plots import curves

_SETTINGS = "config.yaml"
_METRICS = "metrics.csv"
_CURVES = "curves.png"


class RunFolder:
    """A directory with config.yaml, metrics.csv, curves.png and checkpoints, each whole at every moment."""

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Begin a run in a new directory, or go on in that of an interrupted one.

        Args:
            path: of the directory.
            settings: all that the result depends on, as plain data.
            resume: go on with the run that is there.

        Raises:
            UsageError: a new run where one is already, nothing to resume, or a run with other settings to resume.
            FramechainError: the directory cannot be written.
        """
        self.path = path.expanduser()
        self.rows: list[dict[str, float]] = []
        file = self.path / _SETTINGS
        if resume:
            self._check(file, dict(settings))
            self.rows = self._read()
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UsageError(f"{self.path} is already there; give another --out, or --resume to go on with that run")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}; give another --out") from error
        replace_file(file, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))

    def log(self, figures: Mapping[str, float]) -> None:
        """Add the figures of an epoch to metrics.csv, and draw all curves anew.

        Raises:
            FramechainError: they cannot be written.
        """
        self.rows.append(dict(figures))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in self.rows for name in row)))
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in self.rows)
        replace_file(self.path / _METRICS, text.getvalue())
        curves(self.rows, self.path / _CURVES)

    def save(self, name: str, state: Any) -> Path:
        """Write a checkpoint; the one of that name stays until the new one is whole.

        Raises:
            FramechainError: it cannot be written, for want of space for one.
        """
        import torch

        path = self.path / name
        partial = path.with_name(f".{name}.part")
        try:
            torch.save(state, partial)
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # torch's own writer tells of a full disk as a RuntimeError
            partial.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:160]
            raise FramechainError(
                f"cannot write the checkpoint {path}: {reason}; make room, then go on with --resume"
            ) from error
        return path

    def load(self, name: str) -> Any:
        """A checkpoint's state, on the CPU; nothing in it is executed.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        import torch

        path = self.path / name
        if not path.exists():
            raise UsageError(f"there is no checkpoint {path} to go on with; start anew without --resume")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UsageError(f"the checkpoint {path} is damaged; start anew without --resume") from error

    def _check(self, file: Path, settings: dict[str, Any]) -> None:
        try:
            before = yaml.safe_load(file.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise UsageError(f"there is no run to resume in {self.path}; start one without --resume") from error
        # through YAML and back, as tuples come back as lists
        now = yaml.safe_load(yaml.safe_dump(settings))
        for name, value in now.items():
            if before.get(name) != value:
                raise UsageError(
                    f"the run in {self.path} has {name} = {before.get(name)}, not {value}; "
                    f"resume it with its own settings"
                )

    def _read(self) -> list[dict[str, float]]:
        path = self.path / _METRICS
        if not path.exists():
            return []
        with path.open(newline="") as lines:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]
