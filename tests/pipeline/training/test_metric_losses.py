"""Losses against their definitions, written out with loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.training.metric_losses import batch_hard_triplet, similarity_matching


@pytest.fixture
def unit() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(12, 5, dtype=torch.float64))


def test_batch_hard_triplets_are_the_hardest_of_the_batch(unit: torch.Tensor) -> None:
    identity = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    x = unit.numpy()
    losses = []
    for a in range(12):
        distances = np.linalg.norm(x - x[a], axis=1)
        same = (identity == identity[a]).numpy()
        losses.append(max(0.0, 0.3 + distances[same].max() - distances[~same].min()))
    assert float(batch_hard_triplet(unit, identity, 0.3)) == pytest.approx(np.mean(losses), abs=2e-4)


def test_gradient_is_finite_where_crops_are_the_same() -> None:
    vectors = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    unit = torch.nn.functional.normalize(vectors)
    batch_hard_triplet(unit, torch.tensor([0, 0, 1, 1]), 0.3).backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()


def test_similarities_of_a_rotated_teacher_match_exactly(unit: torch.Tensor) -> None:
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    assert float(similarity_matching(unit, unit @ rotation)) == pytest.approx(0, abs=1e-20)


def test_similarity_matching_is_the_mean_square_over_pairs(unit: torch.Tensor) -> None:
    teacher = torch.nn.functional.normalize(torch.randn(12, 9, dtype=torch.float64))
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    expected = np.mean([float(unit[i] @ unit[j] - teacher[i] @ teacher[j]) ** 2 for i, j in pairs])
    assert float(similarity_matching(unit, teacher)) == pytest.approx(expected)
