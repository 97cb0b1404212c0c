"""The embedder's network: the first blocks of a MobileNetV2, pooled and projected to a short vector."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import FramechainError, MissingExtra, UsageError
from pipeline.files.output import replace_bytes
from pipeline.inference.torch import import_torch
from pipeline.training.identities import HEIGHT, WIDTH

BLOCKS = 19
"""Blocks of a whole MobileNetV2 (Sandler et al. 2018, table 2), the last of them the 1×1 convolution to 1280."""

_WIDE = 512  # channels that are pooled where the network is cut before its own last convolution


def create(blocks: int, dimension: int) -> Any:
    """A network from (N, 3, 256, 128) to (N, dimension), its weights random.

    The batch normalisation at the end is the "BNNeck" of Luo et al. 2019: the classifier that trains the network
    sees the same vectors as the metric losses and the tracker.

    Args:
        blocks: how many of MobileNetV2's, 2 to 19.

    Raises:
        MissingExtra: torch or torchvision is not installed.
    """
    import_torch()
    try:
        from torch import nn
        from torchvision.models import mobilenet_v2
        from torchvision.ops import Conv2dNormActivation
    except ImportError as error:
        raise MissingExtra("training", "train") from error
    backbone = mobilenet_v2(weights=None).features[:blocks]
    last = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)][-1].out_channels
    widen: Any = nn.Identity()
    if blocks < BLOCKS:
        widen, last = Conv2dNormActivation(last, _WIDE, kernel_size=1, activation_layer=nn.ReLU6), _WIDE
    parts = OrderedDict(
        backbone=backbone,
        widen=widen,
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        project=nn.Linear(last, dimension, bias=False),
        norm=nn.BatchNorm1d(dimension),
    )
    return nn.Sequential(parts)


def load_weights(network: Any, weights: str) -> None:
    """Fill the network, or its backbone, with trained weights.

    Args:
        weights: "imagenet" for torchvision's (fetched once); the file of a MobileNetV2's state dict; or the best.pt of
            a training with the same blocks and dimension.

    Raises:
        FramechainError: they cannot be fetched.
        UsageError: the file holds neither.
    """
    import torch

    if weights == "imagenet":
        from torchvision.models import MobileNet_V2_Weights

        try:
            state = MobileNet_V2_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except Exception as error:
            raise FramechainError(
                f"cannot fetch the ImageNet weights ({' '.join(str(error).split())[:120]}); "
                f"give --backbone the file of a MobileNetV2, or none"
            ) from error
    else:
        state = _read(Path(weights).expanduser())
    whole = any(name.startswith("backbone.") for name in state)
    own = (network if whole else network.backbone).state_dict()
    given = [value for name, value in state.items() if whole or name.startswith("features.")]
    # Implementations of MobileNetV2 name their layers differently but agree on the order.
    if (whole and len(given) != len(own)) or len(given) < len(own) or not _fit(own.values(), given):
        kind = "is of a training with other --blocks or --dimension" if whole else "is no MobileNetV2 of width 1.0"
        raise UsageError(f"{weights} {kind}; give another --backbone")
    with torch.no_grad():
        for value, trained in zip(own.values(), given, strict=False):
            value.copy_(trained)


def _fit(own: Iterable[Any], given: Iterable[Any]) -> bool:
    return all(a.shape == b.shape for a, b in zip(own, given, strict=False))


def _read(path: Path) -> dict[str, Any]:
    import torch

    if not path.exists():
        raise UsageError(f"there is no file {path} for the backbone; check the path, or give imagenet or none")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): value for name, value in state.items()}
    except Exception as error:
        raise UsageError(f"{path} holds no weights that are safe to load; give a PyTorch state dict") from error


def export(network: Any, path: Path, made_for: str) -> None:
    """Write the network as ONNX, its weights in half precision, for any number of crops at once.

    Args:
        network: in whatever mode; it is left in evaluation mode.
        made_for: class of the objects that it tells apart, by the detector's name; empty for any.

    Raises:
        FramechainError: the file cannot be written.
    """
    import io
    import warnings

    import onnx
    import torch

    from pipeline.training.half import halve_weights

    network.eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the exporter which needs no further package is the older one
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, HEIGHT, WIDTH),),
            buffer,
            input_names=["crops"],
            output_names=["vectors"],
            dynamic_axes={"crops": {0: "n"}, "vectors": {0: "n"}},
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    halve_weights(model)
    onnx.helper.set_model_props(model, {"task": "embed", "names": repr(_names(made_for))})
    replace_bytes(path, model.SerializeToString(deterministic=True))


def export_torchscript(network: Any, path: Path, made_for: str) -> None:
    """Write the network as TorchScript, for GPUs and for attacks; arguments and errors as `export`."""
    import io
    import json
    import warnings

    import torch

    network.eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is to be followed by another format
        module = torch.jit.trace(network, torch.zeros(1, 3, HEIGHT, WIDTH))
        said = {"task": "embed", "names": _names(made_for), "dynamic": True}
        torch.jit.save(module, buffer, _extra_files={"config.txt": json.dumps(said)})
    replace_bytes(path, buffer.getvalue())


def _names(made_for: str) -> dict[int, str]:
    return {0: made_for} if made_for else {}
