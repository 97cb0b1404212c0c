"""What users and networks supply, damaged in every way: each parser takes it, or refuses it in one line; none hangs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import Document
from pipeline.errors import FramechainError, UsageError
from pipeline.inference.metadata import Metadata
from pipeline.sources.stdin import StandardInput
from trackers import mot_format

CHAIN = """\
sources: [{uri: "test:64x64@10,frames=3", id: gate, every: 2}]
stages: [{gate: {every: 2}}, {detect: {classes: [person], confidence: 0.4}}, {track: {options: {max_coast: 2.0}}}]
sinks: [{jsonl: {path: out.jsonl, rotate: {seconds: 5}}}]
checkpoint: saved
"""

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def damaged(data: st.DataObject, whole: bytes) -> bytes:
    """The bytes with a piece replaced, taken out or put in."""
    start = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 12))
    return whole[:start] + data.draw(st.binary(max_size=12)) + whole[start + length :]


def complaint(call: Callable[[], object], *kinds: type[Exception]) -> str:
    """What it says where it refuses; any other exception fails the test."""
    try:
        call()
    except kinds as error:
        return str(error)
    return ""


def built(path: Path) -> None:
    said = complaint(lambda: Document.read(path).build(), UsageError)
    assert "\n" not in said
    assert len(said) < 2000


@few
@given(st.data())
def test_a_configuration_with_a_damaged_piece(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "chain.yaml"
    path.write_bytes(damaged(data, CHAIN.encode()))
    built(path)


@few
@given(st.data())
def test_a_configuration_with_a_value_that_belongs_elsewhere(tmp_path: Path, data: st.DataObject) -> None:
    document = yaml.safe_load(CHAIN)
    where = data.draw(
        st.sampled_from(
            [
                document,
                document["sources"][0],
                document["stages"][0]["gate"],
                document["stages"][1]["detect"],
                document["stages"][2]["track"],
                document["stages"][2]["track"]["options"],
                document["sinks"][0]["jsonl"],
                document["sinks"][0]["jsonl"]["rotate"],
            ]
        )
    )
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(values)
    path = tmp_path / "chain.yaml"
    path.write_text(yaml.safe_dump(document))
    built(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "sources: 2026-13-45",
        "sources: !!int x",
        "sources: !!bool x",
        "? [a]\n: b",
        "a: &a [*a]",
        "sources: &a [*a]",
        "sources: ['\\0']",
        'sources: ["\\0.mp4"]\nsinks: [{jsonl: {path: "a\\0b"}}]',
        "sources: ['~nobody-of-that-name/a.mp4']\nsinks: [{jsonl: {path: '~nobody-of-that-name/a'}}]",
        "sources: [1]\ncheckpoint: [1]",
        "<<: 5",
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nqueue: *e",
        "queue: &e {a: [&d [&c [&b [x,x,x,x,x,x,x,x,x],*b,*b,*b,*b,*b,*b,*b],*c,*c,*c,*c,*c,*c],*d,*d,*d,*d,*d]}",
        "x" * ((1 << 20) + 5),
    ],
    ids=lambda text: text[:24],
)
def test_configurations_that_were_made_to_hurt(tmp_path: Path, text: str) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text(text)
    built(path)


@few
@given(st.data())
def test_tracks_in_mot_format(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "gt.txt"
    words = st.sampled_from(["1", "-1", "0.5", "1e300", "-1e300", "nan", "inf", "9" * 400, "", "x", "0x1", "1_0"])
    rows = data.draw(st.lists(st.lists(words, min_size=5, max_size=11).map(",".join), max_size=3))
    path.write_bytes(damaged(data, "\n".join(["1,1,10,20,30,40,0.9,-1,-1,-1", *rows]).encode()))
    said = complaint(lambda: mot_format.read(path), ValueError)
    assert not said or "gt.txt" in said


@few
@given(st.binary(max_size=60))
def test_what_describes_a_sequence(tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "seqinfo.ini"
    good = b"[Sequence]\nname=A\nframeRate=30\nseqLength=5\nimWidth=64\nimHeight=48\n"
    path.write_bytes(good[: len(noise)] + noise + good[len(noise) * 2 :])
    said = complaint(lambda: mot_format.read_seqinfo(path), ValueError)
    assert not said or "seqinfo.ini" in said


nasty = st.sampled_from(
    ["{[]: 1}", "(" * 3000, "[" * 90 + "]" * 90, "-" * 9000 + "1", "0x" + "f" * 9000, "{0: 'a'", "\0"]
)


@few
@given(st.dictionaries(st.sampled_from(["names", "imgsz", "stride", "task", "confidence"]), nasty | values.map(repr)))
def test_what_a_network_says_about_itself(texts: dict[str, str]) -> None:
    said = Metadata.of_texts(texts)
    assert said.stride > 0
    assert said.image_size is None or min(said.image_size) > 0
    assert all(isinstance(name, str) for name in said.names)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_pictures_that_are_piped_in(tmp_path: Path, data: st.DataObject) -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    whole = b"".join(cv2.imencode(".jpg", np.roll(image, n, 1))[1].tobytes() for n in range(6))
    path = tmp_path / "pipe"
    path.write_bytes(damaged(data, damaged(data, whole)))
    with path.open("rb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", file)
        source = StandardInput(uri="-", format="mjpeg")
        indices: list[int] = []

        def look() -> None:
            source.open()
            indices.extend(frame.index for frame in source)

        said = complaint(look, FramechainError)
        source.close()
    assert "\n" not in said
    assert indices == sorted(set(indices))
    assert len(indices) <= 8, "each piece makes one more picture at most"
