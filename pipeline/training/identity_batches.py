"""Which crops make a batch, and how they become tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.normalisation import IMAGENET
from pipeline.training.crop_augmentation import CropAugmentation
from pipeline.training.embedder_teacher import Teacher
from pipeline.training.identities import HEIGHT, WIDTH, Identities

Draw = tuple[int, int, int]
"""A crop, another that may stand in front of it, and the seed of its augmentation."""


class IdentityBatches:
    """Batches of P identities with K crops each (Hermans et al. 2017, section 2).

    Identities are drawn, not crops, so that those seen often count no more than those seen rarely. A batch takes its
    identities from one group as far as they go: to tell people of one camera apart is the task, while people
    of two cameras differ by their background already.

    The draws depend on seed, epoch and rank alone: a run that was resumed sees the same ones.
    """

    def __init__(self, data: Identities, identities: int, crops: int, batches: int, seed: int, rank: int = 0) -> None:
        """Draw `batches` batches an epoch, of `identities` times `crops`."""
        self.epoch = 0
        self._identities, self._crops, self._batches = identities, crops, batches
        self._seed = (seed, rank)
        self._rows = [np.flatnonzero(data.identity == identity) for identity in range(data.count)]
        of_group = [np.unique(data.identity[data.group == group]) for group in range(len(data.groups))]
        self._of_group = of_group
        # between every group equally often and every identity equally often
        weight = np.sqrt([len(members) for members in of_group])
        self._share = weight / weight.sum()

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((*self._seed, self.epoch))
        for _ in range(self._batches):
            group = rng.choice(len(self._of_group), p=self._share)
            members = rng.permutation(self._of_group[group])[: self._identities]
            if len(members) < self._identities:
                others = np.setdiff1d(np.arange(len(self._rows)), members)
                members = np.concatenate([members, rng.permutation(others)[: self._identities - len(members)]])
            batch: list[Draw] = []
            for place, identity in enumerate(members):
                rows = self._rows[identity]
                for row in rng.choice(rows, self._crops, replace=len(rows) < self._crops):
                    neighbour = (
                        members[(place + rng.integers(1, len(members))) % len(members)]
                        if len(members) > 1
                        else identity
                    )
                    batch.append((int(row), int(rng.choice(self._rows[neighbour])), int(rng.integers(2**62))))
            yield batch


Batch = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]
"""Normalised crops (B, 3, HEIGHT, WIDTH), their numbers (B,), and a teacher's vectors of them (B, E), E = 0 without."""


class AugmentedCrops:
    """From draws to what the network takes."""

    def __init__(
        self, data: Identities, augmentation: CropAugmentation, teacher: Teacher | None, *, same: bool
    ) -> None:
        """The teacher sees the `same` augmented crops, or else the originals."""
        self._crops, self._augmentation = data.crops, augmentation
        self._teacher, self._same = teacher, same

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Augment the crops of a batch."""
        images = [
            self._augmentation(self._crops[row], self._crops[other], np.random.default_rng(seed))
            for row, other, seed in draws
        ]
        rows = np.array([row for row, _, _ in draws])
        if self._teacher is None:
            taught = np.zeros((len(rows), 0), np.float32)
        else:
            taught = self._teacher(images) if self._same else self._teacher.originals[rows]
        return normalised(images), rows, taught


def normalised(images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Crops (HEIGHT, WIDTH, 3) as the network takes them: (N, 3, HEIGHT, WIDTH)."""
    batch = np.empty((len(images), 3, HEIGHT, WIDTH), np.float32)
    for image, planes in zip(images, batch, strict=True):
        IMAGENET.write(np.ascontiguousarray(image), planes)
    return batch
