"""Tuning for speed: the settings with which a chain is fastest here and loses no more accuracy than is allowed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipeline.config import Document
from pipeline.errors import UsageError
from pipeline.inference.choice import available_cores
from pipeline.sinks.mot import Mot
from pipeline.stages.detect import Detect
from trackers import mot_format
from trackers.evaluate import Figures, evaluate
from trackers.mot_format import MotRows

_GAIN = 1.03  # times as fast as before: less is noise
_EVERY = (2, 3, 4, 6)
_SIZES = (0.8, 0.65, 0.5)  # of the image size there is
_BATCHES = (1, 4, 8, 16, 32)  # frames a call, on devices that gain from them
_STEP = 32  # pixels that image sizes are multiples of


@dataclass(frozen=True, slots=True)
class Change:
    """One setting of one stage. `exact`: results stay the same, byte for byte. option "": the stage is left out."""

    stage: str
    option: str
    value: Any
    exact: bool = False

    def __str__(self) -> str:
        return f"{self.stage} {self.option} {self.value}" if self.option else f"no {self.stage}"

    def apply(self, document: Document) -> None:
        """Make it in a chain."""
        if not self.option:
            document.remove("stages", self.stage)
            return
        if self.stage == "gate":
            document.add("stages", "gate", before="detect")
            if self.option == "motion":
                document.add("stages", "recall", after="detect")
        document.set("stages", self.stage, self.option, self.value)


@dataclass(slots=True)
class Trial:
    """What one set of changes gave.

    Attributes:
        changes: against the chain as it was. fps: of the chain. p99: seconds of latency.
        ratio: FPS over that of the chain as it was then, run next to it; 1 for the first.
        figures: accuracy. loss: points of HOTA less than the chain as it was.
        verdict: "taken", or why not.
    """

    changes: tuple[Change, ...]
    fps: float
    p99: float
    figures: Figures
    ratio: float = 1.0
    loss: float = 0.0
    verdict: str = ""
    rows: MotRows = field(default_factory=MotRows, repr=False)


class SpeedTuner:
    """Tries one change after another, on top of those that were taken.

    Args:
        document: the chain, with one source that gives a bounded number of frames.
        truth: who is where; None: what the chain as it is says, so that loss is what changes.
        loss: points of HOTA that may be lost.
        latency: seconds that p99 must be within; None: any.
        told: called with each trial once it is judged.

    Attributes:
        trials: all, the chain as it was first. best: the changes that were taken.

    Raises:
        UsageError: the chain has no detector or no tracker.
    """

    def __init__(
        self,
        document: Document,
        truth: MotRows | None,
        *,
        loss: float = 1.0,
        latency: float | None = None,
        told: Callable[[Trial], None] = lambda _: None,
    ) -> None:
        for stage in ("detect", "track"):
            if stage not in document.names("stages"):
                raise UsageError(f"the chain has no stage '{stage}', and nothing to tune; add '- {stage}'")
        self._document, self._truth = document, truth
        self._people = ("person",) if truth is not None else ()
        self._loss, self._latency, self._told = loss, latency, told
        self.trials: list[Trial] = []
        self.best: Trial

    def run(self) -> Trial:
        """Search; gives what was taken.

        Raises:
            FramechainError: the chain fails as it is.
        """
        self._measured(())  # what is compiled or read for the first time is so now
        before = self._measured(())
        if self._truth is None:
            self._truth = _as_truth(before.rows)
        before.figures = self._judged(before.rows)
        before.verdict = "as it was"
        self.best = before
        self._note(before)
        for knob in self._knobs():
            base = self.best
            for change in knob:
                if not self._try(base, change):
                    break
        return self.best

    def document(self, changes: Sequence[Change]) -> Document:
        """The chain with these changes."""
        made = Document(copy.deepcopy(self._document.data))
        for change in changes:
            change.apply(made)
        return made

    def _knobs(self) -> Iterator[list[Change]]:
        """Changes in the order of what they cost; of each list the later ones are tried while the earlier hold."""
        here = self._document.names("stages")
        counts = range(1, available_cores() + 3)
        for stage in ("detect", "embed"):
            if stage in here:
                yield from ([Change(stage, "workers", count, exact=True)] for count in counts)
        size, batches = self._detector()
        if batches:
            yield from ([Change("detect", "batch", count)] for count in _BATCHES)
        yield [Change("gate", "motion", True)]
        if "embed" in here:
            yield [Change("embed", "lazy", True)]
        if size is not None:
            smaller = dict.fromkeys(int(size * share) // _STEP * _STEP for share in _SIZES)
            yield [Change("detect", "image_size", pixels) for pixels in smaller if _STEP <= pixels < size]
        yield [Change("gate", "every", n) for n in _EVERY]
        if "embed" in here:
            yield [Change("embed", "", None)]

    def _detector(self) -> tuple[int | None, bool]:
        """The longer side of its input, None where that cannot be changed; and whether it gains from batches."""
        detect = next(stage for stage in self._document.build().stages if isinstance(stage, Detect))
        with detect:
            return max(detect.detector.size) if detect.detector.crops else None, detect.detector.model.batches

    def _try(self, base: Trial, change: Change) -> bool:
        """Try one more change; whether the next of its kind is worth trying."""
        kept = [one for one in base.changes if (one.stage, one.option) != (change.stage, change.option)]
        if not change.option:
            kept = [one for one in kept if one.stage != change.stage]
        trial = self._measured((*kept, change))
        if trial.fps > self.best.fps * _GAIN:  # once more, side by side: it may have been the machine
            now = self._measured(self.best.changes)
            again = self._measured(trial.changes)
            trial.ratio = (again.fps + trial.fps) / (now.fps + self.best.fps)
            trial.fps, trial.p99 = (again.fps + trial.fps) / 2, max(again.p99, trial.p99)
        else:
            trial.ratio = trial.fps / self.best.fps
        trial.figures = self.best.figures if change.exact else self._judged(trial.rows)
        trial.loss = 100 * (self.trials[0].figures.HOTA - trial.figures.HOTA)
        trial.verdict = self._verdict(trial)
        if trial.verdict == "taken":
            self.best = trial
        self._note(trial)
        return trial.loss <= self._loss

    def _verdict(self, trial: Trial) -> str:
        if trial.loss > self._loss:
            return f"loses {trial.loss:.1f} points"
        if trial.ratio < _GAIN:
            return "no faster"
        if self._latency is not None and trial.p99 > max(self._latency, self.best.p99):
            return f"p99 {1000 * trial.p99:.0f} ms"
        return "taken"

    def _note(self, trial: Trial) -> None:
        self.trials.append(trial)
        self._told(trial)

    def _measured(self, changes: tuple[Change, ...]) -> Trial:
        document = self.document(changes)
        document.data["sinks"] = []
        with TemporaryDirectory(prefix="framechain-tune-") as folder:
            path = Path(folder) / "tracks.txt"
            snapshot = document.build().pipeline(Mot(path=path, classes=self._people)).run()
            rows = mot_format.read(path)
        return Trial(changes, snapshot.fps, snapshot.latency.p99, _NO_FIGURES, rows=rows)

    def _judged(self, rows: MotRows) -> Figures:
        assert self._truth is not None
        last = int(self._frames)
        return evaluate({"video": (self._truth[self._truth.frame <= last], rows[rows.frame <= last])})[0]

    @property
    def _frames(self) -> float:
        source = self._document.data["sources"][0]
        return float(source.get("max_frames") or np.inf) if isinstance(source, dict) else np.inf


_NO_FIGURES = Figures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def _as_truth(rows: MotRows) -> MotRows:
    """What a chain said, as if it were true."""
    return MotRows(rows.frame, rows.id, rows.xyxy, np.ones(len(rows)), rows.class_id, rows.visibility)
