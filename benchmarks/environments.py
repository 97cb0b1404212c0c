"""Environments: other packages each in a virtual environment of their own, as pip installs them."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path


def python_with(folder: Path, requirements: Iterable[str], *, torch: bool) -> Path:
    """The interpreter of an environment, which is made if it is not there or holds something else.

    Args:
        requirements: what pip is given. torch: whether it shall see our PyTorch.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    wanted = sorted(set(requirements))
    done = folder / "installed.txt"
    python = folder / "bin" / "python"
    if not done.is_file() or done.read_text().split("\n") != wanted:
        print(f"{folder}: {' '.join(wanted)}", file=sys.stderr)
        if not python.is_file():
            venv.create(folder, with_pip=True)
        if torch:
            _borrow_torch(folder)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, env=clean())
        done.write_text("\n".join(wanted))
    return python


def _borrow_torch(folder: Path) -> None:
    """Let an environment see ours, after its own packages: PyTorch is some 6 GB."""
    found = find_spec("torch")
    if found is not None and found.origin is not None:
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "zz_borrowed.pth").write_text(f"{Path(found.origin).parents[1]}\n")


def clean() -> dict[str, str]:
    """Our variables without those that say where Python looks for packages."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
