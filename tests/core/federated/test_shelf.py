from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.aggregation import RoundSettings, apply_round
from flames_cli.core.federated.reports import Report, State
from flames_cli.core.federated.shelf import ClientModels, Shelf, StoredModels
from flames_cli.core.federated.update_norms import NormLimit
from flames_cli.fed.algorithms import get_algorithm
from tests.support.asserts import assert_same_state


class CountingShelf(Shelf):
    """Shelf that copies what it stores, and counts."""

    def __init__(self):
        self.reports, self.models, self.loaded = 0, 0, 0

    def keep_report(self, weights):
        self.reports += 1
        return self._load(weights)

    def keep_model(self, weights):
        self.models += 1
        return self._load(weights)

    def _load(self, weights):
        stored = {name: array.copy() for name, array in weights.items()}

        def load():
            self.loaded += 1
            return stored

        return load


def model(value):
    return {"w": np.full((2, 3), value, np.float32), "count": np.array(int(value))}


def two_rounds(strategy, shelf, limit):
    algorithm = get_algorithm(strategy)
    state = State(0, {algorithm.model_group_of("c0", "MRI"): model(0)})
    for _ in range(2):
        reports = [Report(f"c{i}", "MRI", model(1 + i / 8), 10 + i, 3) for i in range(4)]
        state = apply_round(state, reports, algorithm, settings=RoundSettings(limit, shelf=shelf)).state
    return state


@pytest.mark.parametrize("limit", [NormLimit(), NormLimit(9.0)])
@pytest.mark.parametrize(
    ("strategy", "models"), [("fedavg", 0), ("flames", 8), ("flames-adaptive", 4), ("fedbn", 0)]
)
def test_where_models_are_stored_does_not_change_them(strategy, models, limit):
    shelf = CountingShelf()  # in the second round, flames-adaptive rejects reports without a choice
    stored = two_rounds(strategy, shelf, limit)
    assert_same_state(stored, two_rounds(strategy, Shelf(), limit))
    assert shelf.models == models
    waiting = 4 if limit.is_set else 0
    assert shelf.reports == (8 if strategy == "flames" else 0) + waiting


@pytest.mark.parametrize("kind", ["median", "trimmed-mean", "krum"])
def test_robust_means_store_their_reports_on_the_shelf(kind):
    algorithm, shelf = replace(get_algorithm("fedavg"), aggregation=kind), CountingShelf()
    state = State(0, {"all": model(0)})
    reports = [Report(f"c{i}", "MRI", model(i), 10) for i in range(5)]
    stored = apply_round(state, reports, algorithm, settings=RoundSettings(shelf=shelf)).state
    assert_same_state(stored, apply_round(state, reports, algorithm).state)
    assert shelf.reports == 5


def test_only_the_models_that_are_asked_for_are_loaded():
    shelf = CountingShelf()
    models = ClientModels({f"c{i}": shelf.keep_model(model(i)) for i in range(3)})
    newer = models.replaced_by({"c1": model(7)})
    assert "c0" in newer
    assert "c9" not in newer
    assert list(newer) == ["c0", "c1", "c2"]
    assert len(newer) == 3
    assert shelf.loaded == 0
    assert newer["c1"]["count"] == 7
    assert newer["c2"]["count"] == 2
    assert shelf.loaded == 1
    assert models["c1"]["count"] == 1


def test_stored_models_are_loaded_one_at_a_time():
    shelf = CountingShelf()
    models = StoredModels([shelf.keep_report(model(i)) for i in range(3)])
    assert len(models) == 3
    for number, one in enumerate(models, start=1):
        assert shelf.loaded == number
        assert one["count"] == number - 1
