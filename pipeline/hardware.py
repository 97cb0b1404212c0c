"""Hardware: video decoders of the graphics card. Whether one is used is decided by trying it, never by its name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.decode import Decoder, video_stream
from pipeline.errors import UsageError
from pipeline.inference.installed import cuda_may_be_here
from pipeline.picture_size import MOST_PIXELS

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer

logger = logging.getLogger("framechain")

DecoderName: TypeAlias = Literal["auto", "software", "cuda", "vaapi", "videotoolbox", "d3d11va", "vulkan"]
KINDS: tuple[DecoderName, ...] = ("cuda", "vaapi", "videotoolbox", "d3d11va", "vulkan")
"""FFmpeg's names, the best first. Its qsv and amf are codecs of their own, which no container opens by itself."""

Opening: TypeAlias = "Callable[[HWAccel | None], InputContainer]"
"""Opens what is to be decoded, in hardware or not; raises what the source raises."""

_TRIED = 64  # pictures that a file is tried with: the session of a decoder takes some 50 ms to begin
_COMPARED = 4  # of them, that must be the same in each pixel; kept in memory


def decode_file(decoder: DecoderName, opening: Opening, max_pixels: int = MOST_PIXELS) -> Decoder:
    """Decodes what can be opened again and again, where `decoder` says.

    auto: the hardware that is here, if it gives the same pictures and is no slower than all cores; else software.

    Raises:
        UsageError: the hardware that is asked for is not here, or does not decode this.
        NoVideo: there is nothing to decode; what was opened is closed.
    """
    make = partial(Decoder, reopen=partial(opening, None), max_pixels=max_pixels)
    if decoder in KINDS:
        return _by(decoder, opening, make)
    for kind in _present() if decoder == "auto" else ():
        if _is_worth_it(kind, opening, make):
            return _by(kind, opening, make)
    return _made(opening(None), make)


def decode_stream(
    decoder: DecoderName, opening: Opening, make: Callable[[InputContainer], Decoder] = Decoder
) -> Decoder:
    """Decodes what can be opened again, but goes on meanwhile, where `decoder` says; `make` makes the decoder.

    auto: the hardware that is here, if it gives a first picture: a camera sets the pace, and the cores are free for
    others; else software.

    Raises: as `decode_file`.
    """
    if decoder in KINDS:
        return _by(decoder, opening, make)
    for kind in _present() if decoder == "auto" else ():
        try:
            return _by(kind, opening, make)
        except _Refused as error:
            logger.warning("%s; it is decoded in software", error.reason)
    return _made(opening(None), make)


def decode_once(decoder: DecoderName, opening: Opening, max_pixels: int = MOST_PIXELS) -> Decoder:
    """Decodes what can be opened only once, a pipe. auto is software: hardware that refuses would have eaten the start.

    Raises: as `decode_file`.
    """
    make = partial(Decoder, max_pixels=max_pixels)
    return _by(decoder, opening, make) if decoder in KINDS else _made(opening(None), make)


def accelerator(kind: str) -> HWAccel:
    """This kind of hardware, ready to be given to `av.open`; what it cannot decode is an error then.

    Raises:
        UsageError: it is not here.
    """
    from av import FFmpegError
    from av.codec import Codec
    from av.codec.hwaccel import HWAccel, hwdevices_available

    built = [name for name in hwdevices_available() if name in KINDS]
    if kind not in built:
        raise UsageError(
            f"this build of PyAV decodes by {' or '.join(built) or 'software alone'}, not by {kind}; leave decoder at "
            f"auto, or build PyAV upon an FFmpeg that has {kind}: pip install --no-binary av av"
        )
    device = HWAccel(kind, allow_software_fallback=False)
    try:
        device.create(Codec("h264", "r"))
    except (FFmpegError, NotImplementedError) as error:
        reason = error.strerror if isinstance(error, FFmpegError) else "not for H.264"
        if kind == "cuda" and not cuda_may_be_here():  # FFmpeg says "Operation not permitted"
            raise UsageError(
                "there is no cuda here that decodes video: no NVIDIA GPU with its driver is to be seen (nvidia-smi "
                "lists them); leave decoder at auto, or install the driver"
            ) from error
        raise UsageError(
            f"there is no {kind} here that decodes video ({reason}); leave decoder at auto, or check card and driver"
        ) from error
    return device


class _Refused(UsageError):
    """Hardware that is here does not decode this video."""

    def __init__(self, kind: str, what: str) -> None:
        self.reason = f"{kind} does not decode {what}"
        super().__init__(f"{self.reason}; leave decoder at auto")


def _present() -> Iterator[DecoderName]:
    for kind in KINDS:
        try:
            accelerator(kind)
        except UsageError:
            continue
        yield kind


def _by(kind: DecoderName, opening: Opening, make: Callable[[InputContainer], Decoder]) -> Decoder:
    """Decodes in this hardware or not at all."""
    from av import FFmpegError

    try:
        container = opening(accelerator(kind))
    except RuntimeError as error:
        if isinstance(error, FFmpegError):
            raise
        raise _Refused(kind, "any stream of this source") from error  # PyAV's, when it is made for none of them
    context = video_stream(container).codec_context
    what = f"{context.codec.name} of {context.width}×{context.height} pixels"
    if not context.is_hwaccel:
        container.close()
        raise _Refused(kind, what)
    try:
        decoder = _made(container, make)
    except FFmpegError as error:
        raise _Refused(kind, what) from error
    decoder.hardware = kind
    return decoder


def _made(container: InputContainer, make: Callable[[InputContainer], Decoder]) -> Decoder:
    try:
        return make(container)
    except BaseException:
        container.close()
        raise


def _is_worth_it(kind: DecoderName, opening: Opening, make: Callable[[InputContainer], Decoder]) -> bool:
    """Whether it gives the same first pictures as software, and no slower."""
    with opening(None) as container:
        codec = video_stream(container).codec_context.codec
    if kind not in {config.device_type.name for config in codec.hardware_configs if config.is_supported}:
        return False
    try:
        there, there_took = _try(lambda: _by(kind, opening, make))
    except Exception as error:  # whatever a driver does, software still decodes
        logger.warning("%s does not decode %s here (%s); it is decoded in software", kind, codec.name, error)
        return False
    here, here_took = _try(lambda: _made(opening(None), make))
    if len(there) != len(here) or not all(map(np.array_equal, there, here)):
        logger.warning("%s decodes %s to other pictures here; it is decoded in software", kind, codec.name)
        return False
    logger.info("first pictures by %s in %.0f ms, by software in %.0f ms", kind, 1e3 * there_took, 1e3 * here_took)
    return there_took <= here_took


def _try(opened: Callable[[], Decoder]) -> tuple[list[NDArray[np.uint8]], float]:
    """The first pictures, and the seconds that some more of them take."""
    kept = []
    start = time.perf_counter()
    decoder = opened()
    try:
        for n in range(_TRIED):
            picture = decoder.next()
            if picture is None:
                break
            image = decoder.image(picture)
            if n < _COMPARED:
                kept.append(image)
        return kept, time.perf_counter() - start
    finally:
        decoder.close()
