"""What several uncertain readings of the same text agree on.

The readings are aligned and voted on character by character, after ROVER (J. G. Fiscus, "A post-processing system
to yield reduced word error rates", ASRU 1997), with characters in place of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = ""
"""What a reading that lacks a character votes for in that character's slot."""

Slot = dict[str, float]
"""Weight of the votes for each character."""


@dataclass(frozen=True, slots=True, order=True)
class Reading:
    """One reading of a text.

    Attributes:
        text: its characters.
        confidences: one per character, 0..1.
    """

    text: str
    confidences: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """Mean over the characters, 0..1."""
        return sum(self.confidences) / len(self.confidences) if self.confidences else 0.0


def consensus(readings: Sequence[Reading]) -> Reading:
    """The text that the readings agree on; it does not depend on their order.

    Each character votes with its confidence, each gap with the mean confidence of its reading. The confidence of
    a character is the weight of its votes over the number of readings: readings that disagree lower it.

    Args:
        readings: at least one.

    >>> consensus([Reading("AB1", (0.9, 0.9, 0.9)), Reading("A81", (0.9, 0.4, 0.9)), Reading("AB", (0.8, 0.8))]).text
    'AB1'
    """
    if not readings:
        raise ValueError("a consensus needs at least one reading")
    support: dict[str, float] = {}
    for reading in sorted(readings):
        support[reading.text] = support.get(reading.text, 0.0) + reading.confidence
    # the best supported text goes first: the others are aligned to it, and it wins ties
    ordered = sorted(readings, key=lambda reading: (-support[reading.text], reading))
    slots: list[Slot] = []
    passed = 0.0  # weight of the readings so far: what a slot that they lack counts for nothing
    for reading in ordered:
        slots = _vote(slots, reading, passed)
        passed += reading.confidence
    winners = [max(slot, key=slot.__getitem__) for slot in slots]
    won = [(c, min(1.0, slot[c] / len(readings))) for c, slot in zip(winners, slots, strict=True) if c != NOTHING]
    return Reading("".join(c for c, _ in won), tuple(weight for _, weight in won))


def _vote(slots: list[Slot], reading: Reading, passed: float) -> list[Slot]:
    """Align one reading to the slots with the least disagreement, and add its votes."""
    shares = [_shares(slot) for slot in slots]
    text, gap = reading.text, reading.confidence
    rows, columns = len(slots) + 1, len(text) + 1
    # cost[i][j]: least disagreement of the first i slots with the first j characters
    cost = [[0.0] * columns for _ in range(rows)]
    for j in range(1, columns):
        cost[0][j] = float(j)
    for i in range(1, rows):
        cost[i][0] = cost[i - 1][0] + _against(shares[i - 1], NOTHING)
        for j in range(1, columns):
            cost[i][j] = min(
                cost[i - 1][j - 1] + _against(shares[i - 1], text[j - 1]),
                cost[i - 1][j] + _against(shares[i - 1], NOTHING),
                cost[i][j - 1] + 1.0,
            )
    aligned: list[Slot] = []
    i, j = len(slots), len(text)
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + _against(shares[i - 1], text[j - 1]):
            i, j = i - 1, j - 1
            aligned.append(_with(slots[i], text[j], reading.confidences[j]))
        elif i and cost[i][j] == cost[i - 1][j] + _against(shares[i - 1], NOTHING):
            i -= 1
            aligned.append(_with(slots[i], NOTHING, gap))
        else:
            j -= 1
            aligned.append(_with({NOTHING: passed} if passed else {}, text[j], reading.confidences[j]))
    return aligned[::-1]


def _shares(slot: Slot) -> Slot:
    total = sum(slot.values())
    return {character: weight / total for character, weight in slot.items()} if total else dict.fromkeys(slot, 1.0)


def _against(shares: Slot, character: str) -> float:
    """The share of a slot's votes that are not for this character."""
    return 1.0 - shares.get(character, 0.0)


def _with(slot: Slot, character: str, weight: float) -> Slot:
    return {**slot, character: slot.get(character, 0.0) + weight}
