"""Amounts of time and of bytes as a person writes them: 1h, 500MB; a bare number is seconds."""

from __future__ import annotations

import re

from pipeline.errors import UsageError

_SECONDS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400}
_BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def amounts(text: str, flag: str, prefix: str = "") -> dict[str, float | int]:
    """The options `seconds` and `bytes`, their names after `prefix`, that a flag's text tells.

    >>> amounts("1h,500MB", "--rotate")
    {'seconds': 3600.0, 'bytes': 500000000}

    Raises:
        UsageError: it cannot be read; says what can.
    """
    found: dict[str, float | int] = {}
    words = [word for word in re.split(r"[,\s]+", text.strip()) if word]
    for word in words:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", word)
        number, unit = (float(match[1]), match[2].lower()) if match else (0.0, "?")
        bare = not unit and len(words) > 1  # the 1 of 1,5GB
        if number > 0 and unit in _SECONDS and not bare:
            what, amount = f"{prefix}seconds", number * _SECONDS[unit]
        elif number > 0 and unit in _BYTES:
            what, amount = f"{prefix}bytes", round(number * _BYTES[unit])
        else:
            raise UsageError(
                f"{flag} takes times (s, min, h, d) and sizes (kB, MB, GB, TB) like 1h or 1.5GB or 1h,2GB, not '{word}'"
                + (f" in '{text}'" if word != text else "")
            )
        if what in found:
            raise UsageError(f"{flag} takes one time and one size, and '{text}' holds two; leave one out")
        found[what] = amount
    return found
