"""The inner loops as machine code, where numba is installed (extra `fast`); NumPy does the same without it.

Set the environment variable FRAMECHAIN_COMPILED=0 to do without. The results are those of NumPy up to the last bits of
a number, and up to which of several equally cheap assignments is chosen.
"""

from __future__ import annotations

import importlib
import os
import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType


@cache
def kernels() -> ModuleType | None:
    """`trackers.compiled.kernels`, or None without numba. The first call on a machine compiles, for half a minute."""
    if os.environ.get("FRAMECHAIN_COMPILED") == "0" or find_spec("numba") is None:
        return None
    try:
        return importlib.import_module("trackers.compiled.kernels")
    except ImportError as error:  # numba and NumPy of versions that do not go together
        warnings.warn(f"numba cannot be used, trackers run on NumPy alone: {error}", RuntimeWarning, stacklevel=2)
        return None
