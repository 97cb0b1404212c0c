"""Losses of metric learning, over the unit vectors of a batch."""

from __future__ import annotations

from typing import Any


def batch_hard_triplet(unit: Any, identity: Any, margin: float) -> Any:
    """The hardest positive and the hardest negative of each crop (Hermans et al. 2017, equation 5).

    Args:
        unit: (B, D) tensor of unit vectors. identity: (B,) integers. margin: on the Euclidean distance, 0..2.

    Returns:
        scalar: mean over the crops of max(0, margin + furthest of the same identity - nearest of another).
    """
    distance = (2 - 2 * unit @ unit.T).clamp_min(1e-6).sqrt()
    same = identity[:, None] == identity[None, :]
    furthest = distance.masked_fill(~same, 0).amax(dim=1)
    nearest = distance.masked_fill(same, 2).amin(dim=1)
    return (margin + furthest - nearest).clamp_min(0).mean()


def similarity_matching(unit: Any, teacher: Any) -> Any:
    """How much the similarities within a batch differ from the teacher's (Tung and Mori 2019, on cosines).

    Matching similarities, not vectors, lets the student have a length of its own.

    Args:
        unit: (B, D) unit vectors. teacher: (B, E) unit vectors of the same crops.

    Returns:
        scalar: mean square of the differences, pairs of a crop with itself left out.
    """
    size = len(unit)
    return (unit @ unit.T - teacher @ teacher.T).square().sum() / (size * (size - 1))
