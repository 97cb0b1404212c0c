"""Training of the embedder: triplets, identities and, where there is a teacher, its similarities."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.inference.torch import import_torch
from pipeline.training import embedder_network
from pipeline.training.crop_augmentation import AUGMENTATIONS, Strength
from pipeline.training.distributed import Process
from pipeline.training.embedder_teacher import Teacher
from pipeline.training.evaluate_embedder import Retrieval, retrieval
from pipeline.training.identities import Identities
from pipeline.training.identity_batches import AugmentedCrops, Batch, IdentityBatches, normalised
from pipeline.training.metric_losses import batch_hard_triplet, similarity_matching
from pipeline.training.run_folder import RunFolder

LAST, BEST, EXPORTED, SCRIPT = "last.pt", "best.pt", "embedder.onnx", "embedder.torchscript"

_AT_ONCE = 64  # crops a call in validation
_SMOOTHING = 0.1  # of the identities' labels (Luo et al. 2019)
_BACKBONE_RATE = 0.3  # share of the learning rate for the layers that were trained before
_WARM_UP = 0.05  # share of all steps in which the rate rises


@dataclass(frozen=True, slots=True)
class EmbedderSettings:
    """All that a training depends on but its data.

    Attributes:
        backbone: "imagenet", "none", or a file: a MobileNetV2's weights, or the best.pt of a training to go on from.
        blocks: of MobileNetV2, 2 to 19. dimension: length of the vectors.
        epochs: at most. batches: an epoch; 0 for as many as show each crop once. identities, crops: P and K of a batch.
        rate: highest learning rate (AdamW; rises linearly, falls as a cosine).
        decay: weight decay. margin: of the triplets.
        freeze: epochs in which the whole backbone stays as it is.
        frozen_blocks: first blocks that always do: edges and colours are the same everywhere, and they cost most.
        coarse: share of the epochs, at the beginning, on crops of half the size: a quarter of the work.
        augmentation: preset. precision: "bf16" computes the convolutions in it.
        ema: share of the moving average of the weights that a step keeps; the average is what is validated and kept.
        patience: epochs without a better mAP after which training stops.
        triplet, identity, teacher: weights of the losses.
        teacher_sees: "original": the crop before augmentation, so that the student learns to see through it. "same":
            what the student sees, so that every augmentation is a new lesson (Beyer et al. 2022, "Knowledge
            distillation: A good teacher is patient and consistent").
        seed: of everything drawn.
    """

    backbone: str = "imagenet"
    blocks: int = 18
    dimension: int = 256
    epochs: int = 40
    batches: int = 0
    identities: int = 16
    crops: int = 4
    rate: float = 1e-3
    decay: float = 5e-4
    margin: float = 0.3
    freeze: int = 2
    frozen_blocks: int = 4
    coarse: float = 0.5
    augmentation: Strength = "strong"
    precision: Literal["fp32", "bf16"] = "bf16"
    ema: float = 0.995
    patience: int = 10
    triplet: float = 1.0
    identity: float = 1.0
    teacher: float = 100.0
    teacher_sees: Literal["original", "same"] = "original"
    seed: int = 0

    def for_crops(self, count: int) -> EmbedderSettings:
        """With the number of batches that suits so many crops, where it is not given."""
        return self if self.batches else replace(self, batches=max(1, round(count / (self.identities * self.crops))))


class Progress(Protocol):
    """Who is told how it goes."""

    def batch(self, epoch: int, number: int) -> None:
        """A batch of an epoch is done, both from 1."""

    def epoch(self, figures: Mapping[str, float]) -> None:
        """An epoch is done."""


class EmbedderTraining:
    """A network on its way, with all that is needed to go on after an interruption."""

    def __init__(
        self,
        settings: EmbedderSettings,
        train: Identities,
        validation: Identities,
        teacher: Teacher | None,
        process: Process,
        workers: int,
    ) -> None:
        """Build network and optimiser.

        Args:
            teacher: whose similarities are matched as well, or None.
            workers: threads that prepare batches.

        Raises:
            UsageError: there is only one identity, or a setting does not fit.
            MissingExtra: torch is not installed.
        """
        if train.count < 2:
            raise UsageError("there is only one identity to train on; give data with at least two")
        torch = import_torch()
        from torch import nn
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        torch.manual_seed(settings.seed)
        self.settings, self.epoch, self.best, self.since = settings, 0, -1.0, 0
        self._process, self._train, self._validation = process, train, validation
        network = embedder_network.create(settings.blocks, settings.dimension)
        if settings.backbone != "none":
            embedder_network.load_weights(network, settings.backbone)
        self._network = network.to(process.device, memory_format=torch.channels_last)
        self._classifier = nn.Linear(settings.dimension, train.count, bias=False).to(process.device)
        self._averaged = AveragedModel(self._network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
        backbone = list(self._network.backbone.parameters())
        known = set(map(id, backbone))
        others = [weight for weight in self._network.parameters() if id(weight) not in known]
        self._optimiser = torch.optim.AdamW(
            [
                {"params": backbone, "share": _BACKBONE_RATE if settings.backbone != "none" else 1.0},
                {"params": [*others, *self._classifier.parameters()], "share": 1.0},
            ],
            weight_decay=settings.decay,
        )
        self._teacher = teacher
        self._batches = IdentityBatches(
            train, settings.identities, settings.crops, settings.batches, settings.seed, process.rank
        )
        self._augmented = AugmentedCrops(
            train, AUGMENTATIONS[settings.augmentation], teacher, same=settings.teacher_sees == "same"
        )
        self._workers = workers

    def run_epoch(self, progress: Progress) -> dict[str, float]:
        """Train one epoch and validate.

        Returns:
            figures to log: losses, the rate, and how well the average of the weights tells people apart.
        """
        import torch

        begun = perf_counter()
        self._freeze()
        network, classifier = self._process.parallel(self._network), self._process.parallel(self._classifier)
        sums = torch.zeros(3)
        for number, (crops, rows, taught) in enumerate(self._batch_stream()):
            rate = self._set_rate(self.epoch * self.settings.batches + number)
            with torch.autocast(crops.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
                vectors = network(crops)
            losses = self._losses(vectors.float(), classifier, rows, taught)
            total = sum(losses)
            if not math.isfinite(float(total.detach())):
                raise UsageError(f"training diverged in epoch {self.epoch + 1}; try a lower --rate")
            self._optimiser.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), 5.0)
            self._optimiser.step()
            self._averaged.update_parameters(self._network)
            sums += torch.tensor([float(loss.detach()) for loss in losses])
            progress.batch(self.epoch + 1, number + 1)
        self.epoch += 1
        triplet, identity, teacher = (sums / self.settings.batches).tolist()
        trained = perf_counter() - begun
        found = self.validate()
        # batch statistics differ a little between processes, and all must stop after the same epoch
        mean_ap = self._process.agree(found.mean_ap)
        self.since = 0 if mean_ap > self.best else self.since + 1
        self.best = max(self.best, mean_ap)
        speed = self._process.world * self.settings.batches * self.settings.identities * self.settings.crops / trained
        return {
            "epoch": self.epoch,
            "triplet_loss": triplet,
            "identity_loss": identity,
            **({"teacher_loss": teacher} if self._teacher is not None else {}),
            "rate": rate,
            "rank1": found.rank[1],
            "mAP": mean_ap,
            "AUC": found.auc,
            "crops_per_second": speed,
        }

    @property
    def done(self) -> bool:
        """Whether the epochs are over, or patience is."""
        return self.epoch >= self.settings.epochs or self.since >= self.settings.patience

    def validate(self) -> Retrieval:
        """How well the average of the weights tells the identities kept out of training apart."""
        return retrieval(vectors(self.averaged, self._validation, self._process.device), self._validation)

    @property
    def averaged(self) -> Any:
        """The network with the moving average of the weights."""
        return self._averaged.module

    def state(self) -> dict[str, Any]:
        """All that an interrupted run needs."""
        return {
            "network": self._network.state_dict(),
            "classifier": self._classifier.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "since": self.since,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._network.load_state_dict(state["network"])
        self._classifier.load_state_dict(state["classifier"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.best, self.since = state["epoch"], state["best"], state["since"]

    def _freeze(self) -> None:
        """All is trained but the blocks that stay as they are in this epoch; nor do their batch statistics move."""
        self._network.train()
        if self.settings.backbone == "none":
            return
        count = self.settings.blocks if self.epoch < self.settings.freeze else self.settings.frozen_blocks
        for number, block in enumerate(self._network.backbone):
            block.requires_grad_(number >= count).train(number >= count)

    def _batch_stream(self) -> Iterator[tuple[Any, Any, Any]]:
        """The batches of an epoch, prepared ahead by threads: OpenCV and NumPy let others run meanwhile."""
        import torch
        from torch.nn import functional

        self._batches.epoch = self.epoch
        scale = 2 if self.epoch < self.settings.coarse * self.settings.epochs else 1
        ahead: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            draws = iter(self._batches)
            ahead.extend(pool.submit(self._augmented.batch, batch) for batch in islice(draws, self._workers + 1))
            while ahead:
                crops, rows, taught = ahead.popleft().result()
                ahead.extend(pool.submit(self._augmented.batch, batch) for batch in islice(draws, 1))
                tensor = torch.from_numpy(crops).to(self._process.device, memory_format=torch.channels_last)
                yield functional.avg_pool2d(tensor, scale), torch.from_numpy(rows), torch.from_numpy(taught)

    def _losses(self, vectors: Any, classifier: Any, rows: Any, taught: Any) -> tuple[Any, Any, Any]:
        from torch.nn import functional

        settings = self.settings
        identity = self._identity_of(rows).to(vectors.device)
        unit = functional.normalize(vectors)
        classes = functional.cross_entropy(classifier(vectors), identity, label_smoothing=_SMOOTHING)
        teacher = vectors.new_zeros(())
        if self._teacher is not None:
            teacher = similarity_matching(unit, taught.to(vectors.device))
        return (
            settings.triplet * batch_hard_triplet(unit, identity, settings.margin),
            settings.identity * classes,
            settings.teacher * teacher,
        )

    def _identity_of(self, rows: Any) -> Any:
        import torch

        return torch.from_numpy(self._train.identity[rows.numpy()])

    def _set_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to nothing."""
        steps = self.settings.epochs * self.settings.batches
        warm = max(1, round(_WARM_UP * steps))
        part = (
            (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
        )
        rate = self.settings.rate * part
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        return rate


def train(training: EmbedderTraining, folder: RunFolder | None, progress: Progress) -> None:
    """Train until it is done; after each epoch the folder holds all that it takes to go on.

    Args:
        folder: where the leading process writes; None in the others.
    """
    while not training.done:
        figures = training.run_epoch(progress)
        progress.epoch(figures)
        if folder is not None:
            if training.since == 0:
                folder.save(BEST, training.averaged.state_dict())
            folder.log(figures)
            folder.save(LAST, training.state())


def finish(folder: RunFolder, settings: EmbedderSettings, made_for: str) -> Path:
    """Export the best epoch as ONNX and as TorchScript.

    Args:
        made_for: class of the objects that it tells apart; empty for any.

    Returns:
        the ONNX file, for `--embedder`.
    """
    network = embedder_network.create(settings.blocks, settings.dimension)
    network.load_state_dict(folder.load(BEST))
    path = folder.path / EXPORTED
    embedder_network.export(network, path, made_for)
    embedder_network.export_torchscript(network, folder.path / SCRIPT, made_for)
    return path


def vectors(network: Any, data: Identities, device: str) -> NDArray[np.float32]:
    """Unit vectors (N, D) of all crops; the network is left in evaluation mode."""
    import torch
    from torch.nn import functional

    network.eval()
    boxes, parts = data.boxes(), []
    with torch.inference_mode():
        for start in range(0, len(data), _AT_ONCE):
            batch = torch.from_numpy(normalised(boxes[start : start + _AT_ONCE])).to(device)
            parts.append(functional.normalize(network(batch)).float().cpu().numpy())
    return np.concatenate(parts)
