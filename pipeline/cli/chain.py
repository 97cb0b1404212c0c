"""The flags that shape a chain, shared by the commands that run one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from pipeline.config import Document
from pipeline.errors import UsageError
from pipeline.models import DETECTOR, EMBEDDER
from pipeline.stage import stages

Sources: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="video file, folder or glob of images, webcam number, rtsp:// or http:// address, "
        "- for a stream on standard input, or test: for a test pattern",
    ),
]
Config: TypeAlias = Annotated[Path | None, typer.Option(help="chain as YAML; flags win over it")]
Weights: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="detector: .onnx, OpenVINO directory, Ultralytics .pt, or a name from framechain models; "
        f"if not given: the bundled {DETECTOR}"
    ),
]
Embedder: TypeAlias = Annotated[
    str | None,
    typer.Option(help=f"appearance embedder: file or name of a model; if not given: the bundled {EMBEDDER}"),
]
Classes: TypeAlias = Annotated[list[str] | None, typer.Option(help="classes to detect, by name: person,car")]
Confidence: TypeAlias = Annotated[
    float | None, typer.Option(help="least detection confidence, 0..1; if not given: what suits the detector")
]
ImageSize: TypeAlias = Annotated[int | None, typer.Option(help="detector input: pixels of the longer side")]
Tracker: TypeAlias = Annotated[str | None, typer.Option(help="tracker; framechain stages lists them")]
Device: TypeAlias = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:0")]
Precision: TypeAlias = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"] | None,
    typer.Option(help="of the networks; auto, if not given: what is fastest on the device"),
]
Runtime: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="auto, if not given: what computes each network fastest here; native: what its file is made for; or "
        "onnxruntime, openvino, torch, tensorrt"
    ),
]
Batch: TypeAlias = Annotated[int | None, typer.Option(min=1, help="frames a call, for stages that keep no state")]
Workers: TypeAlias = Annotated[int | None, typer.Option(min=1, help="threads of each stage that keeps no state")]
NoEmbed: TypeAlias = Annotated[
    bool, typer.Option("--no-embed", help="leave embedding out: faster, and lost people come back with new ids")
]
NoText: TypeAlias = Annotated[bool, typer.Option("--no-text", help="leave text reading out")]
DetectEvery: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="detect in every N-th frame; the tracker predicts the others")
]
Decoding: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--decoder",
        help="of videos and streams: auto, if not given: hardware where it works and is no slower; software, cuda, "
        "vaapi, videotoolbox, d3d11va or vulkan",
    ),
]
IsolateDecode: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--isolate-decode", help="read each source in a process of its own: a crash of its decoder ends no more"
    ),
]
Motion: TypeAlias = Annotated[
    bool, typer.Option("--motion", help="detect only where something moved, for cameras that stand still")
]
AdaptiveSize: TypeAlias = Annotated[
    bool,
    typer.Option("--adaptive-size", help="detect at a smaller size while all that is there is large"),
]
Realtime: TypeAlias = Annotated[
    bool, typer.Option("--realtime", help="play files as live cameras: by their own timestamps, late frames dropped")
]
Loop: TypeAlias = Annotated[bool, typer.Option("--loop", help="with --realtime: begin again at their end, for ever")]
TraceFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--trace", help="write every frame's way through every part here, for ui.perfetto.dev"),
]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="show tracebacks")]

_ADAPTIVE_INTERVAL = 1.0  # seconds between two looks in full size


def played(realtime: bool, loop: bool) -> dict[str, bool]:
    """The options of sources that --realtime and --loop stand for.

    Raises:
        UsageError: --loop without --realtime.
    """
    if loop and not realtime:
        raise UsageError("--loop is for files that are played as cameras; add --realtime")
    return {option: True for option, given in (("realtime", realtime), ("loop", loop)) if given}


DEFAULT_STAGES = ("detect", "embed", "track", "read_text")


@dataclass(frozen=True, slots=True)
class ChainFlags:
    """What the shared flags said; None where a flag was not given."""

    config: Path | None = None
    weights: str | None = None
    embedder: str | None = None
    classes: list[str] | None = None
    confidence: float | None = None
    image_size: int | None = None
    tracker: str | None = None
    device: str | None = None
    batch: int | None = None
    workers: int | None = None
    no_embed: bool = False
    no_text: bool = False
    precision: str | None = None
    runtime: str | None = None
    detect_every: int | None = None
    motion: bool = False
    decoder: str | None = None
    adaptive_size: bool = False
    isolate_decode: bool = False

    def document(self, sources: list[str] | None, none_yet: bool = False) -> Document:
        """The chain of the configuration file, or the default one, with these flags laid over it.

        Args:
            sources: instead of those of the file. none_yet: there need not be any.

        Raises:
            UsageError: the file is wrong, there is no source, or a flag is for a stage that the chain lacks.
        """
        document = Document.read(self.config) if self.config else Document({"stages": list(DEFAULT_STAGES)})
        if sources:
            document.give_sources(sources)
        if not (document.data.get("sources") or none_yet):
            raise UsageError("there is no source; name a video file, camera or address, or test: for a test pattern")
        if self.decoder is not None:
            document.set_sources_with("decoder", self.decoder)
        if self.isolate_decode:
            document.set_sources_with("isolation", "process")
        if self.embedder is not None:
            document.add("stages", "embed", after="detect")
        if self.no_embed:
            document.remove("stages", "embed")
        if self.no_text:
            document.remove("stages", "read_text")
        if self.detect_every is not None or self.motion:
            document.add("stages", "gate", before="detect")
        if self.motion:
            document.add("stages", "recall", after="detect")
        classes = [name.strip() for group in self.classes or () for name in group.split(",") if name.strip()] or None
        for flag, stage, option, value in (
            ("--weights", "detect", "weights", self.weights),
            ("--embedder", "embed", "weights", self.embedder),
            ("--classes", "detect", "classes", classes),
            ("--confidence", "detect", "confidence", self.confidence),
            ("--image-size", "detect", "image_size", self.image_size),
            ("--adaptive-size", "detect", "adaptive", _ADAPTIVE_INTERVAL if self.adaptive_size else None),
            ("--tracker", "track", "tracker", self.tracker),
            ("--detect-every", "gate", "every", self.detect_every),
            ("--motion", "gate", "motion", self.motion or None),
        ):
            if value is not None:
                document.set("stages", stage, option, value, flag)
        self._set_everywhere(document)
        return document

    def _set_everywhere(self, document: Document) -> None:
        """Options that several stages have."""
        here = document.names("stages")
        for name, kind in stages.kinds():
            if name not in here:
                continue
            for option, value in (("device", self.device), ("precision", self.precision), ("runtime", self.runtime)):
                if value is not None and option in kind.model_fields:
                    document.set("stages", name, option, value, f"--{option}")
            for option, number in (("batch", self.batch), ("workers", self.workers)):
                if number is not None and kind.stateless:
                    document.set("stages", name, option, number, f"--{option}")
