"""Consensus of readings: what it must do whatever the readings are."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ocr.consensus import Reading, consensus


@st.composite
def _reading(draw: st.DrawFn) -> Reading:
    text = draw(st.text("AB8O0", min_size=1, max_size=8))
    return Reading(text, tuple(draw(st.floats(0.05, 1.0)) for _ in text))


readings = st.lists(_reading(), min_size=1, max_size=7)


def sure(text: str, confidence: float = 0.9) -> Reading:
    return Reading(text, (confidence,) * len(text))


@given(_reading(), st.integers(1, 6))
def test_readings_that_agree_are_the_consensus(reading: Reading, times: int) -> None:
    agreed = consensus([reading] * times)
    assert agreed.text == reading.text
    assert agreed.confidences == pytest.approx(reading.confidences)


@given(readings, st.randoms())
def test_order_of_readings_does_not_matter(given: list[Reading], random: Random) -> None:
    shuffled = list(given)
    random.shuffle(shuffled)
    assert consensus(shuffled) == consensus(given)


@given(readings)
def test_characters_come_from_the_readings_and_confidences_are_probabilities(given: list[Reading]) -> None:
    agreed = consensus(given)
    assert set(agreed.text) <= {character for reading in given for character in reading.text}
    assert len(agreed.confidences) == len(agreed.text)
    assert all(0 <= confidence <= 1 for confidence in agreed.confidences)


@given(_reading(), st.lists(st.text("AB8O0", min_size=1, max_size=8), max_size=3))
def test_a_majority_of_equally_sure_readings_wins(majority: Reading, others: list[str]) -> None:
    agreed = consensus([sure(majority.text)] * (len(others) + 1) + [sure(text) for text in others])
    assert agreed.text == majority.text


def test_a_text_that_nobody_read_whole_is_put_together() -> None:
    assert consensus([sure("XB1234"), sure("AB1Z34"), sure("AB123A")]).text == "AB1234"


def test_missing_and_surplus_characters_are_outvoted() -> None:
    assert consensus([sure("AB1234"), sure("B1234"), sure("AB12344"), sure("AB123")]).text == "AB1234"


def test_a_sure_character_outvotes_two_doubtful_ones() -> None:
    doubtful = Reading("A8C", (0.9, 0.3, 0.9))
    assert consensus([doubtful, doubtful, sure("ABC")]).text == "ABC"


def test_disagreement_lowers_confidence() -> None:
    assert consensus([sure("ABC"), sure("ABC"), sure("ABD")]).confidences == pytest.approx((0.9, 0.9, 0.6))


def test_nothing_cannot_agree() -> None:
    with pytest.raises(ValueError, match="at least one reading"):
        consensus([])
