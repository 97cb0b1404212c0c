"""What would make a chain faster, told by what bounds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.stage import Stage

_MUCH = 0.15  # share of the work from which on a part is worth a word


def advice(bottleneck: str, work: Mapping[str, float], stages: Sequence[Stage]) -> list[str]:
    """Sentences, the most useful first.

    Args:
        bottleneck: the slowest part, or "cores" where all of them together keep the processors busy.
        work: processor time a frame by part. stages: of the chain.
    """
    options = {stage.name: stage for stage in stages}
    total = sum(work.values()) or 1.0
    if bottleneck == "cores":
        parts = sorted(work, key=lambda name: -work[name])
        chosen = [name for name in parts if work[name] >= _MUCH * total] or parts[:1]
        shares = ", ".join(f"{name} {work[name] / total:.0%}" for name in chosen)
        told = [f"all cores are busy: {shares} of the work; more cores would help, or less to do:"]
    else:
        chosen = [bottleneck]
        told = []
    for name in chosen:
        told += _about(name, options)
    if "detect" in options and any(name in ("detect", "embed") for name in chosen):
        told.append("framechain tune speed tries these and writes the chain that loses no more accuracy than you allow")
    return told


def _about(name: str, stages: Mapping[str, Stage]) -> list[str]:
    if name == "detect":
        gated = "gate" in stages
        size = getattr(stages["detect"], "image_size", None)
        return [
            "detect: a smaller --image-size" + (f" than {size}" if size else "") + ", or a smaller --weights",
            *([] if gated else ["detect: --detect-every 2 lets the tracker predict every other frame"]),
            *([] if gated else ["detect: --motion looks only where something moved, for cameras that stand still"]),
        ]
    if name == "embed":
        return ["embed: --no-embed, or in YAML embed: {lazy: true}, or a smaller --embedder"]
    if name.startswith("read_text"):
        return ["read_text: name the classes that carry text, lower reads_per_frame, or --no-text"]
    if name == "track":
        return ["track: pip install 'framechain[fast]' compiles it; --tracker bytetrack or sort do less"]
    if name == "decode":
        return ["decode: give a smaller or more simply coded video, or --every 2"]
    if name.startswith("sink:video") or name == "annotate":
        return [f"{name}: a smaller or no --video; JSON lines cost next to nothing"]
    return [f"{name}: nothing is known that makes it faster"]
