"""Whose a checkpoint is: told from the words in it, with nothing executed."""

from __future__ import annotations

import json
import pickletools
import zipfile
from pathlib import Path
from typing import Literal

Owner = Literal["torchscript", "libreyolo", "tensors", "other"]

_LIBREYOLO = "libreyolo_version"  # a key of each of its checkpoints
_TENSORS = frozenset({"torch", "collections", "numpy"})  # the packages that pickles of plain tensors name
_MOST = 64 << 20  # bytes of a pickle that are looked at; a large detector has half a megabyte
_MOST_HEADER = 8 << 20


def owner(path: Path) -> Owner:
    """Who wrote a .pt, .pth or .safetensors file.

    Returns:
        "torchscript"; "libreyolo" by its own key; "tensors" where nothing but tensors is in it, of whatever network;
        "other" for all else, such as the checkpoints of Ultralytics, which hold objects.
    """
    if path.suffix.lower() == ".safetensors":
        return "libreyolo" if _LIBREYOLO in _safetensors_notes(path) else "tensors"
    if not zipfile.is_zipfile(path):
        return "other"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {name.partition("/")[2]: name for name in archive.namelist()}
            if "constants.pkl" in entries:
                return "torchscript"
            with archive.open(entries["data.pkl"]) as file:
                raw = file.read(_MOST)
    except (KeyError, OSError, zipfile.BadZipFile):
        return "other"
    if _LIBREYOLO.encode() in raw:
        return "libreyolo"
    return "tensors" if _packages(raw) <= _TENSORS else "other"


def _packages(raw: bytes) -> set[str]:
    """The packages whose objects a pickle would make; "?" where it is no pickle."""
    found, words = set(), ["", ""]
    try:
        for code, argument, _ in pickletools.genops(raw):
            if code.name == "GLOBAL":
                found.add(str(argument).split(" ")[0].split(".")[0])
            elif code.name == "STACK_GLOBAL":  # module and name were the last two words
                found.add(words[-2].split(".")[0])
            elif isinstance(argument, str):
                words = [words[-1], argument]
    except ValueError:
        return {"?"}
    return found


def _safetensors_notes(path: Path) -> dict[str, str]:
    """What a .safetensors file says about itself: its header is JSON behind eight bytes of length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if length <= _MOST_HEADER else {}
        except ValueError:
            header = {}
    notes = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    return notes if isinstance(notes, dict) else {}
