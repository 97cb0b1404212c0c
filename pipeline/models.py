"""Models by name: those that ship with Framechain, and public ones that it can fetch, each with its checksum."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import FramechainError, UsageError
from pipeline.files.output import replace_file
from trackers.registry import nearest

if TYPE_CHECKING:
    from pipeline.download import Progress

DETECTOR = "nanodet-g"
"""The bundled detector, which finds where nobody names weights."""

EMBEDDER = "person-embedder"
"""The bundled embedder, likewise."""

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that has a name here.

    Attributes:
        name: what it is asked for by. file: name of its file. folder: where that is, or will be.
        sha256: of the file; None where nobody who could vouch for one has told us.
        task: "detect" or "embed".
        licence: of the weights.
        source: address it is fetched from; for a bundled one, where it comes from.
        description: in one line.
        bundled: it ships with Framechain.
        quantised: name of the same network in 8 bits, which may take its place where that is faster.
    """

    name: str
    file: str
    sha256: str | None
    task: str
    licence: str
    source: str
    description: str
    folder: Path
    bundled: bool
    quantised: str = ""

    @property
    def path(self) -> Path:
        """Its file, which need not be there."""
        return self.folder / self.file

    @property
    def expected(self) -> str | None:
        """The checksum its file must have: the known one, else the one it had when it was fetched."""
        if self.sha256 or not self._noted.is_file():
            return self.sha256
        return self._noted.read_text(encoding="utf-8").strip()

    @property
    def _noted(self) -> Path:
        return self.path.with_name(f"{self.file}.sha256")

    def check(self) -> None:
        """See that the file is whole.

        Raises:
            FramechainError: it is damaged or cannot be read; says what replaces it.
        """
        cure = (
            "reinstall framechain: pip install --force-reinstall --no-deps framechain"
            if self.bundled
            else f"fetch it again: framechain models get {self.name}"
        )
        try:
            actual = sha256(self.path)
        except OSError as error:
            raise FramechainError(f"the model {self.name} cannot be read ({error.strerror}); {cure}") from error
        if self.expected not in (None, actual):
            raise FramechainError(
                f"the model {self.name} is damaged: {self.path} has the sha256 {actual}, not {self.expected}; {cure}"
            )

    def get(self, source: str | None = None, progress: Progress | None = None) -> str:
        """Fetch the file into the cache; what was there stays until the new one is whole and right.

        Args:
            source: address or file to take it from in place of its own.
            progress: is told how far it is.

        Returns:
            the sha256 of what was fetched.

        Raises:
            UsageError: it ships with Framechain, there is no such file, or the cache cannot be written.
            FramechainError: it could not be fetched, or is not what it should be; nothing is kept.
        """
        from pipeline.download import fetch

        if self.bundled:
            raise UsageError(f"{self.name} ships with framechain and is not fetched; it is {self.path}")
        actual = fetch(source or self.source, self.path, self.sha256, progress)
        if self.sha256 is None:
            replace_file(self._noted, f"{actual}\n")
        return actual


def bundled() -> tuple[KnownModel, ...]:
    """The models that ship."""
    folder = _HERE / "bundled"
    return _table(folder / "manifest.json", folder, bundled=True)


def public() -> tuple[KnownModel, ...]:
    """The models that can be fetched."""
    return _table(_HERE / "public_models.json", cache_folder(), bundled=False)


def find(name: str) -> KnownModel | None:
    """The model of that name, or whose file has it.

    >>> find("nanodet-g").file, find("yolo11n.pt").name, find("street.mp4")
    ('nanodet_g.onnx', 'yolo11n', None)
    """
    return next((model for model in (*bundled(), *public()) if name in (model.name, model.file)), None)


def named(name: str) -> KnownModel:
    """The model of that name.

    Raises:
        UsageError: there is none; suggests the nearest.
    """
    model = find(name)
    if model is None:
        names = [known.name for known in (*bundled(), *public())]
        raise UsageError(f"there is no model called '{name}'{nearest(name, names)}")
    return model


def resolve(weights: str | Path) -> Path:
    """The file or directory that is meant: the model of that name, whose checksum is verified, else the path itself.

    The name of a bundled model always means that model. For others a file in the working directory goes before what
    was fetched.

    Raises:
        UsageError: the model must be fetched first.
        FramechainError: the model's file is damaged.
    """
    path, model = Path(weights).expanduser(), find(str(weights))
    if model is None or (path.exists() and not model.bundled):
        return path
    if not model.bundled and not model.path.exists():
        raise UsageError(
            f"there are no weights at {path}; check the path, or fetch them ({model.licence}): "
            f"framechain models get {model.name}"
        )
    model.check()
    return model.path


def quantised(name: str) -> Path | None:
    """The file of the same network in 8 bits, for a model that has a name and such a companion."""
    model = find(name)
    return resolve(model.quantised) if model is not None and model.quantised else None


def similar(weights: str | Path) -> str:
    """The end of a message about weights that do not exist: the model whose name is most like theirs, or all names.

    >>> similar("nanodet_g.onx"), similar("clips/best.onnx")
    ("; did you mean 'nanodet-g'?", '; check the path')
    """
    path = Path(weights)
    close = difflib.get_close_matches(path.stem, [model.name for model in (*bundled(), *public())], n=1)
    if path.name != str(path) or not close:
        return "; check the path"
    return f"; did you mean '{close[0]}'?"


def cache_folder(of: str = "models") -> Path:
    """Where fetched models, or other things, are kept: under $FRAMECHAIN_CACHE, else where the system keeps caches."""
    own = os.environ.get("FRAMECHAIN_CACHE")
    if own:
        return Path(own).expanduser() / of
    home = Path.home()
    place = {"darwin": home / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA", home))}
    shared = os.environ.get("XDG_CACHE_HOME", "")
    return place.get(sys.platform, Path(shared) if shared else home / ".cache") / "framechain" / of


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _table(file: Path, folder: Path, *, bundled: bool) -> tuple[KnownModel, ...]:
    entries = json.loads(file.read_text(encoding="utf-8"))
    return tuple(KnownModel(**entry, folder=folder, bundled=bundled) for entry in entries)
