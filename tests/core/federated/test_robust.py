import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import compute_distances
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.robust import krum, robust_mean, shortage, tolerated_bad
from flames_cli.core.rng import derive_rng


def models_of(values):
    return [{"w": np.asarray(row, np.float32), "n": np.array(len(row), np.int64)} for row in values]


START = {"w": np.zeros(2, np.float32), "n": np.array(0, np.int64)}
numbers = st.floats(-100, 100, width=32)
rows = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=9)


@given(rows)
def test_the_median_is_numpys_by_value(values):
    mean = robust_mean("median", models_of(values), START, None)
    expected = np.median(np.array(values, np.float64), axis=0).astype(np.float32)
    np.testing.assert_array_equal(mean["w"], expected)
    assert mean["n"] == 2
    assert mean["n"].dtype == np.int64


@given(rows.filter(lambda values: len(values) >= 3))
def test_the_trimmed_mean_is_flowers(values):
    cut = tolerated_bad("trimmed-mean", len(values), None)
    mean = robust_mean("trimmed-mean", models_of(values), START, None)
    expected = trim_mean(np.array(values, np.float64), (cut + 0.25) / len(values))
    np.testing.assert_allclose(mean["w"], expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("n", "bad"), [(5, 1), (7, 2), (9, 0)])
def test_krum_chooses_as_flower_does(n, bad):
    values = derive_rng(0, "krum", n).normal(size=(n, 2)).astype(np.float32)
    distances = compute_distances([ArrayRecord({"w": Array(row)}) for row in values])
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, : n - bad - 2].sum(axis=1)
    assert krum(models_of(values), START, bad) == int(scores.argmin())


@pytest.mark.parametrize("kind", ["median", "trimmed-mean", "krum"])
@pytest.mark.parametrize("poison", [1e30, -1e30, 3e38])
def test_one_client_of_five_cannot_move_the_model_away(kind, poison):
    honest = [(1.0, 2.0), (1.1, 2.1), (0.9, 1.9), (1.05, 2.0)]
    mean = robust_mean(kind, models_of([*honest, (poison, poison)]), START, None)
    assert np.abs(mean["w"] - np.array([1.0, 2.0])).max() <= 0.11


def test_krum_judges_by_what_moved_however_large_the_model_is():
    large = {"w": np.full(2, 1e7, np.float64), "n": START["n"]}
    moved = [{"w": large["w"] + step, "n": START["n"]} for step in (1.0, 1.1, 0.9, 1.0, 50.0)]
    assert krum(moved, large, 1) in (0, 3)


@pytest.mark.parametrize("kind", ["median", "trimmed-mean", "krum"])
def test_the_result_is_a_copy(kind):
    models = models_of([(1.0, 2.0)] * 5)
    mean = robust_mean(kind, models, START, None)
    mean["w"][0] = 9
    assert all(model["w"][0] == 1 for model in models)


@pytest.mark.parametrize(
    ("kind", "n", "bad", "problem"),
    [
        ("median", 1, None, None),
        ("trimmed-mean", 1, None, None),
        ("trimmed-mean", 2, 1, "trimmed-mean needs 3 good reports to tolerate 1 bad, there are 2"),
        ("trimmed-mean", 3, 1, None),
        ("krum", 2, None, "krum needs 3 good reports to tolerate 0 bad, there are 2"),
        ("krum", 3, None, None),
        ("krum", 4, 1, "krum needs 5 good reports to tolerate 1 bad, there are 4"),
        ("krum", 5, 1, None),
    ],
)
def test_too_few_reports_are_told(kind, n, bad, problem):
    assert shortage(kind, n, bad) == problem


@given(st.integers(1, 300))
def test_what_is_borne_by_default_always_suffices(n):
    assert shortage("trimmed-mean", n, None) is None
    assert shortage("krum", n, None) is None or n < 3
    assert 2 * tolerated_bad("trimmed-mean", n, None) < n
