"""Export: a network in another format or precision, measured before it is kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import models
from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import cannot_write
from pipeline.inference.model import load
from pipeline.inference.portable import described
from pipeline.training.exporters.exporter import Exporter, Order, Precision, Scheme, exporters
from pipeline.training.trial import Inputs, Trial, Tried, latencies

_SCHEMES: tuple[Scheme, ...] = ("whole", "outputs kept")  # the fastest first


@dataclass(frozen=True, slots=True)
class Row:
    """A network and what was measured of it: milliseconds an image, megabytes of its files, figures of the trial."""

    name: str
    milliseconds: float
    megabytes: float
    figures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What was made of it.

    Attributes:
        path: the new file or directory. rows: the original, the same format in full precision where that is neither
            of the others, and what was exported. columns, basis: of the figures, see `Trial`.
        loss: points (hundredths) by which the first figure fell; None where it could not be told.
        speedup: how many times as fast as in full precision, in the same format. scheme: of the quantisation, if any.
    """

    path: Path
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    basis: str
    loss: float | None
    speedup: float
    scheme: Scheme | None


def default_path(weights: Path, exporter: type[Exporter], precision: Precision) -> Path:
    """In the current directory, after the original and the precision."""
    stem = weights.name.removesuffix("_openvino_model") if weights.is_dir() else weights.stem
    return Path(f"{stem}-{precision}{exporter.suffix}")


def check(weights: Path, kind: str, precision: Precision, out: Path | None) -> Path:
    """See that it can be made and written; returns where it goes.

    Raises:
        UsageError: the format does not hold the precision, or the path is not one to write to.
    """
    exporter = exporters.load(kind)
    if precision not in exporter.precisions:
        raise UsageError(
            f"{kind} is not exported in {precision}; choose --precision {' or '.join(exporter.precisions)}"
        )
    path = (out or default_path(weights, exporter, precision)).expanduser()
    if not path.name.endswith(exporter.suffix):
        raise UsageError(f"{path} would not be known as {kind}; give --out a name that ends with {exporter.suffix}")
    if path.resolve() == weights.resolve():
        raise UsageError(f"{path} is what is exported from; give another --out")
    whole = exporter.suffix == "_openvino_model"
    if path.exists() and (path.is_dir() != whole or (whole and not list(path.glob("*.xml")))):
        raise UsageError(f"{path} exists and is something else; give another --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another --out") from error
    return path


def export(
    weights: Path,
    kind: str,
    precision: Precision,
    path: Path,
    trial: Trial,
    *,
    most: float = 1.5,
    force: bool = False,
    rounds: int = 40,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write a network in another format, measure it, and keep it if it is still good enough.

    A quantised network first gives up its output layers' precision as well; where that costs too much they keep it.

    Args:
        weights: the original, a path or the name of a model. kind: name of the format.
        path: where it goes, as `check` gives it; what is there is replaced once the new one is accepted.
        most: points by which the trial's first figure may fall. force: keep it whatever it lost.
        rounds: that speed is measured in, twenty seconds at most.
        tell: is told what is being done.

    Raises:
        UsageError: it cannot be exported so. FramechainError: it lost too much; nothing is written.
        MissingExtra: a package that it takes is not installed.
    """
    weights = models.resolve(weights)
    exporter = exporters.load(kind)()
    inputs = trial.calibration() if precision == "int8" else []
    if precision == "int8" and not inputs:
        raise UsageError("int8 takes frames to calibrate with; give --calibration a video or a folder of images")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        workshop = _Workshop(weights, exporter, Path(scratch), path.name)
        tell("the original")
        before = trial.run(weights)
        after, made, scheme = before, path, None
        for scheme in _SCHEMES if precision == "int8" else (None,):
            tell(f"{kind} {precision}" + (f", {scheme}" if scheme else ""))
            made = workshop.make(precision, scheme or "whole", inputs)
            after = trial.run(made)
            loss = _loss(before, after)
            if loss is None or loss <= most:
                break
        if loss is not None and loss > most and not force:
            raise FramechainError(
                f"{trial.columns[0]} falls by {loss:.1f} points, from {before.figures[0]:.3f} to "
                f"{after.figures[0]:.3f}, which is more than {most:g}; nothing is kept: allow more with --max-loss, "
                "keep it with --force, or calibrate with frames that are more like what it will see"
            )
        contestants = [(f"{weights.name}", before, weights)]
        if precision != "fp32":
            reference = workshop.make("fp32", "whole", [])
            contestants.append((f"{kind} fp32", trial.run(reference, judged=False), reference))
        contestants.append((f"{kind} {precision}", after, made))
        tell("speed")
        seconds = latencies([tried for _, tried, _ in contestants], rounds)
        rows = tuple(
            Row(name, 1e3 * spent, _megabytes(file), tried.figures)
            for (name, tried, file), spent in zip(contestants, seconds, strict=True)
        )
        for _, tried, _ in contestants:
            tried.model.close()
        _place(made, path)
    return Report(path, rows, trial.columns, trial.basis, loss, seconds[-2] / seconds[-1], scheme)


@dataclass(frozen=True, slots=True)
class _Workshop:
    weights: Path
    exporter: Exporter
    folder: Path
    name: str

    def make(self, precision: Precision, scheme: Scheme, inputs: Inputs) -> Path:
        folder = self.folder / f"{precision} {scheme}"
        folder.mkdir()
        path = folder / self.name
        model = load(self.weights, "cpu")
        notes = described(model.metadata) | {"precision": precision}
        try:
            self.exporter.write(Order(model, self.weights, precision, inputs, scheme, notes), path)
        except FramechainError:
            raise
        except OSError as error:
            raise cannot_write(path, error) from error
        finally:
            model.close()
        return path


def _loss(before: Tried, after: Tried) -> float | None:
    return 100 * (before.figures[0] - after.figures[0]) if before.figures else None


def _megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 1e6


def _place(made: Path, path: Path) -> None:
    """Put it where it belongs; what was there stays until the new one is complete."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        made.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
