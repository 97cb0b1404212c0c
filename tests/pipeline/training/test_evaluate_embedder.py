"""Retrieval figures against scikit-learn, which knows nothing of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from identity_data import write_identities
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.errors import UsageError
from pipeline.training import embedder_network
from pipeline.training.corruptions import CORRUPTIONS
from pipeline.training.evaluate_embedder import SEPARATION, evaluate, retrieval
from pipeline.training.identities import Identities, read_identities


def identities(identity: list[int], time: list[float], group: list[int] | None = None) -> Identities:
    n = len(identity)
    groups = np.array(group or [0] * n)
    return Identities(np.zeros((n, 1, 1, 3), np.uint8), np.array(identity), groups, np.array(time), ("a", "b"))


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    identity = rng.integers(0, 6, 60)
    features = rng.normal(size=(60, 8)) + 1.5 * rng.normal(size=(6, 8))[identity]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    data = identities(identity.tolist(), [np.nan] * 60)
    found = retrieval(features.astype(np.float32), data)

    similarity = features.astype(np.float32) @ features.astype(np.float32).T
    precisions, first, labels, scores = [], [], [], []
    for query in range(60):
        others = np.arange(60) != query
        same = identity[others] == identity[query]
        precisions.append(average_precision_score(same, similarity[query][others]))
        first.append(same[np.argmax(similarity[query][others])])
        labels.append(same)
        scores.append(similarity[query][others])
    assert found.queries == 60
    assert found.mean_ap == pytest.approx(np.mean(precisions), abs=1e-6)
    assert found.rank[1] == pytest.approx(np.mean(first))
    assert found.auc == pytest.approx(roc_auc_score(np.concatenate(labels), np.concatenate(scores)), abs=1e-6)


def test_crops_close_in_time_find_nobody() -> None:
    near, far = SEPARATION / 2, SEPARATION * 2
    # the second crop of identity 0 is all but a copy of the first: it may not be found by it
    data = identities([0, 0, 1, 1], [0.0, near, 0.0, far])
    assert retrieval(np.eye(4, dtype=np.float32), data).queries == 2


def test_galleries_are_of_one_group() -> None:
    data = identities([0, 0, 1, 1], [np.nan] * 4, group=[0, 0, 1, 1])
    features = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    assert retrieval(features, data).rank[1] == 1.0  # nobody else is in either group


def test_data_in_which_nobody_is_seen_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="seen twice"):
        retrieval(np.eye(3, dtype=np.float32), identities([0, 1, 2], [np.nan] * 3))


def test_every_condition_is_measured_and_an_attack_hurts(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    network = embedder_network.create(3, 16)
    embedder_network.export_torchscript(network, tmp_path / "random.torchscript", "person")
    embedder_network.export(network, tmp_path / "random.onnx", "person")
    data = read_identities([str(write_identities(tmp_path / "people", 5, 4))])
    script = evaluate(str(tmp_path / "random.torchscript"), data, "cpu", 0, clean_only=False)
    assert list(script) == ["clean", *CORRUPTIONS, "attack"]
    assert script["attack"].auc < script["clean"].auc
    onnx = evaluate(str(tmp_path / "random.onnx"), data, "cpu", 0, clean_only=False)
    assert list(onnx) == ["clean", *CORRUPTIONS]  # no gradient to attack with
    assert onnx["clean"].mean_ap == pytest.approx(script["clean"].mean_ap, abs=0.02)
