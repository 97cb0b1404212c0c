"""Configuration files: what they make, and the one line that says what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.cli.chain import ChainFlags
from pipeline.config import Document, schema
from pipeline.errors import UsageError

CHAIN = """\
sources:
  - test:64x64@10,frames=3
  - uri: test:64x64@10,frames=5
    id: gate
    max_frames: 2
stages:
  - detect:
      weights: model.onnx
      classes: [person]
      confidence: 0.4
  - track
sinks:
  - jsonl: {path: out.jsonl}
  - mot: {path: tracks.txt}
keep_going: true
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "chain.yaml"
    path.write_text(text)
    return path


def test_a_file_becomes_components_with_its_options(tmp_path: Path) -> None:
    chain = Document.read(written(tmp_path, CHAIN)).build()
    assert [source.name for source in chain.sources] == ["test_pattern", "test_pattern"]
    assert (chain.sources[1].id, chain.sources[1].max_frames) == ("gate", 2)
    assert [stage.name for stage in chain.stages] == ["detect", "track"]
    assert chain.stages[0].confidence == 0.4  # type: ignore[attr-defined]
    assert chain.settings.keep_going
    # two sources: a sink that needs a file for each gets one
    assert [str(sink.path) for sink in chain.sinks] == ["out.jsonl", "tracks-{source}.txt"]  # type: ignore[attr-defined]


def test_only_true_and_false_are_booleans(tmp_path: Path) -> None:
    """YAML 1.1 takes on, off, yes, no, y and n for booleans, as keys too."""
    chain = Document.read(written(tmp_path, "stages: [read_text: {on: frame}]\nkeep_going: false\n")).build()
    assert chain.stages[0].on == "frame"  # type: ignore[attr-defined]
    assert chain.settings.keep_going is False


def test_flags_lie_over_the_file(tmp_path: Path) -> None:
    document = Document.read(written(tmp_path, CHAIN))
    document.set("stages", "detect", "confidence", 0.7)
    document.set_sources({"max_frames": 1})
    document.add("stages", "annotate")
    document.remove("sinks", "mot")
    chain = document.build()
    assert chain.stages[0].confidence == 0.7  # type: ignore[attr-defined]
    assert [source.max_frames for source in chain.sources] == [1, 1]
    assert [stage.name for stage in chain.stages] == ["detect", "track", "annotate"]
    assert [sink.name for sink in chain.sinks] == ["jsonl"]


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("confidence: 0.4", "confidnce: 0.4", r"line 10, stages.detect.confidnce: .*did you mean 'confidence'\?"),
        ("confidence: 0.4", "confidence: 4", r"line 10, stages.detect.confidence: Input should be .*, not 4"),
        ("confidence: 0.4", "confidence: high", r"line 10, stages.detect.confidence: .*number.*, not 'high'"),
        ("- detect:", "- detekt:", r"line 7, stages: no stage is called 'detekt'; did you mean 'detect'\?"),
        ("stages:", "stage:", r"line 6, stage: unknown key 'stage'; did you mean 'stages'\?"),
        ("keep_going: true", "keep_going: maybe", r"line 15, keep_going: .*boolean"),
        ("max_frames: 2", "max_frames: 0", r"line 5, sources.max_frames: .*greater than or equal to 1"),
        ("    id: gate", "    id: gate\n    id: yard", r"line 5: 'id' is given twice"),
        ("  - track", "  - track: {tracker: deepsrt}", r"line 11, stages.track.*did you mean 'deepsort'\?"),
        ("  - track", "  - [track]", r"line 11, stages: a stage is a name"),
        ("confidence: 0.4", "confidence: .inf", r"detect.confidence: Input should be"),
        ("path: out.jsonl", "path: ''", r"line 13, sinks.jsonl.path: '\.' names no file; give one"),
        ("  - jsonl: {path: out.jsonl}", "  - jsonl", r"line 13, sinks.jsonl.path: this option must be given"),
        ("  - track", "  - track: false", r"line 11, stages: a stage is a name, or a name with its options"),
        ("- test:64x64@10,frames=3", "- uri: [rtsp://me:pw@h/1]", r"line 2, sources: a uri is a text$"),
        ("out.jsonl", "~nobodyhere/out.jsonl", r"nobody has the home that ~nobodyhere/out.jsonl begins with"),
        ("- test:64x64@10,frames=3", "- ~nobodyhere/clip.mp4", r"a path of this chain cannot be followed"),
        ("out.jsonl", "'{sorce}.jsonl'", r"line 13, sinks.jsonl.path: .* '\{sorce\}'; did you mean '\{source\}'\?"),
        ("out.jsonl", "'{camera}.jsonl'", r"of '\{camera\}'; there is \{source\} and \{part\}"),
        ("keep_going: true", "resume: true", r"line 15, resume: it is about what a checkpoint saves; name its folder"),
        (
            "- test:64x64@10,frames=3",
            "- rtsp://me:pw@gate:99999/live",
            r"line 2, sources: 'rtsp://gate:99999/live' is no",
        ),
        ("out.jsonl", "'tracks-{source}.txt'", r"both write tracks-\{source\}.txt"),
        ("confidence: 0.4", "confidence: [0.4", r"line 1[0-2], column \d+: expected"),
        ("  - track", "  - track\n  - detect: {weights: b.onnx, workers: 0}", r"line 12, stages.detect.workers: "),
        ("  - detect:", "  - track\n  - detect:", r"stage 'track' needs detections, .*put 'detect' before it"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, was: str, becomes: str, message: str) -> None:
    assert CHAIN.count(was) >= 1
    path = written(tmp_path, CHAIN.replace(was, becomes, 1))
    with pytest.raises(UsageError, match=message) as caught:
        Document.read(path).build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "42", "sources: nothing\n", "stages: {detect: {}}\n"])
def test_other_yaml_is_not_a_chain(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        Document.read(written(tmp_path, text)).build()


def test_a_file_that_contains_itself_or_explodes_is_survived(tmp_path: Path) -> None:
    for text in ("stages: &a [*a]\n", "x: &x [1]\ny: &y [*x,*x]\nstages: [*y,*y]\n"):
        with pytest.raises(UsageError):
            Document.read(written(tmp_path, text)).build()


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(UsageError, match="cannot read the configuration"):
            Document.read(path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        Document.read(tmp_path / "binary.yaml")


def test_an_output_never_overwrites_a_source(tmp_path: Path) -> None:
    video = tmp_path / "in.jpg"
    video.write_bytes(b"x")
    document = Document({"sources": [str(video)], "sinks": [{"jsonl": {"path": str(video)}}]})
    with pytest.raises(UsageError, match="would overwrite the source"):
        document.build()
    for written in (video, tmp_path / "{source}.jpg"):
        document = Document({"sources": [video.as_uri()], "sinks": [{"jsonl": {"path": str(written)}}]})
        with pytest.raises(UsageError, match=r"would overwrite the source .*in\.jpg"):
            document.build()


def test_a_flag_for_a_stage_with_no_options_that_can_be_is_no_error_of_ours() -> None:
    document = Document({"sources": ["test:"], "stages": [{"detect": 0.4}]})
    document.set("stages", "detect", "confidence", 0.3, "--confidence")
    with pytest.raises(UsageError, match="a stage is a name, or a name with its options"):
        document.build()


def test_the_schema_accepts_what_the_loader_accepts(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = schema()
    json.dumps(document)
    validator = jsonschema.Draft202012Validator(document)
    validator.check_schema(document)
    validator.validate(yaml.safe_load(CHAIN))
    for was, becomes in (("confidence:", "confidnce:"), ("- detect:", "- detekt:"), ("0.4", "4")):
        assert list(validator.iter_errors(yaml.safe_load(CHAIN.replace(was, becomes, 1))))


@pytest.mark.parametrize(
    ("flags", "sources", "message"),
    [
        ({"tracker": "deepsrt"}, ["test:"], r"^--tracker: no tracker is called 'deepsrt'; did you mean 'deepsort'\?"),
        ({"image_size": 8}, ["test:"], "^--image-size: Input should be greater"),
        ({"device": "abacus"}, ["test:", "gopher://x"], r"^'gopher://x' is no source; give a video file"),
        ({"decoder": "abacus"}, ["a.mp4"], "^--decoder: Input should be 'auto', 'software'"),
        ({"tracker": "deepsort", "no_text": True}, ["test:"], ""),
    ],
)
def test_what_a_flag_says_wrong_is_said_of_the_flag(flags: dict[str, object], sources: list[str], message: str) -> None:
    def build() -> None:
        ChainFlags(**flags).document(sources).build()  # type: ignore[arg-type]

    if not message:
        build()
        return
    with pytest.raises(UsageError, match=message):
        build()


def test_a_flag_that_goes_wrong_over_a_file_does_not_blame_its_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "sources: ['test:']\nstages: [detect]\n")
    with pytest.raises(UsageError, match=r"^--confidence: Input"):
        ChainFlags(path, confidence=3.0).document(None).build()
    with pytest.raises(UsageError, match=r"^'gopher://x' is no source"):
        ChainFlags(path).document(["gopher://x"]).build()
