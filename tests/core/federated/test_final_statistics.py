"""Statistics of final models: pooled over clients they are those of all images together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.final_statistics import pool_statistics, statistics_of

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=5)


@given(SIZES, st.integers(0, 2**32 - 1))
def test_pooled_statistics_are_those_of_all_values_together(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(rng.normal(0, 3), 2, (n, 4)) for n in sizes]
    found = pool_statistics(
        [
            ({"a.running_mean": part.mean(axis=0), "a.running_var": part.var(axis=0)}, len(part))
            for part in parts
        ]
    )
    values = np.concatenate(parts)
    np.testing.assert_allclose(found["a.running_mean"], values.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(found["a.running_var"], values.var(axis=0), atol=1e-9)


def test_pooled_statistics_of_one_client_are_its_own_and_keep_their_type():
    own = {"n.running_mean": np.float32([1e4, -2]), "n.running_var": np.float32([0, 3])}
    pooled = pool_statistics([(own, 7)])
    np.testing.assert_allclose(pooled["n.running_mean"], own["n.running_mean"])
    np.testing.assert_allclose(pooled["n.running_var"], own["n.running_var"], atol=1e-6)
    assert {array.dtype for array in pooled.values()} == {np.dtype(np.float32)}
    assert (pooled["n.running_var"] >= 0).all()


def test_statistics_are_running_means_and_variances_alone():
    names = ["a.weight", "a.running_mean", "a.running_var", "a.num_batches_tracked", "running_meaning"]
    assert set(statistics_of({name: np.zeros(1) for name in names})) == {"a.running_mean", "a.running_var"}


@pytest.mark.parametrize("parts", [[], [({}, 0)]])
def test_statistics_of_no_images_are_an_error(parts):
    with pytest.raises(ValueError, match="expected at least one image"):
        pool_statistics(parts)
