"""Which characters a text may hold."""

from __future__ import annotations

import re

from pipeline.ocr.consensus import Reading


class Characters:
    """A set of characters, written like the inside of a regular expression's brackets: `A-Z0-9`.

    Where a letter is allowed in one case only, the other case is read as it.

    Args:
        allowed: characters and ranges; a hyphen that comes first or last stands for itself; empty: all.

    Raises:
        ValueError: a range runs backwards.

    >>> Characters("A-Z0-9").keep(Reading("ab-12", (0.9, 0.8, 0.7, 0.6, 0.5)))
    Reading(text='AB12', confidences=(0.9, 0.8, 0.6, 0.5))
    """

    def __init__(self, allowed: str) -> None:
        self._allowed: set[str] = set()
        for first, last, single in re.findall(r"(.)-(.)|(.)", allowed, re.DOTALL):
            if first > last:
                raise ValueError(f"the range {first}-{last} runs backwards; write {last}-{first}")
            self._allowed.update(single or map(chr, range(ord(first), ord(last) + 1)))

    def keep(self, reading: Reading) -> Reading:
        """The reading without the characters that are not allowed."""
        if not self._allowed:
            return reading
        kept = [
            (allowed, confidence)
            for character, confidence in zip(reading.text, reading.confidences, strict=True)
            if (allowed := self._as_allowed(character)) is not None
        ]
        return Reading("".join(character for character, _ in kept), tuple(confidence for _, confidence in kept))

    def _as_allowed(self, character: str) -> str | None:
        return next((c for c in (character, character.upper(), character.lower()) if c in self._allowed), None)
