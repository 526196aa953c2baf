"""Results of clients that choose, as parts of a secure sum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.choice import CANDIDATES, FLAMES, Preference, pool
from flames_cli.core.federated.summed_preferences import (
    N_PARTS,
    from_arrays,
    pool_others,
    to_arrays,
    to_parts,
)

NAMES = [name for name in CANDIDATES if name != FLAMES]
GAINS = st.fixed_dictionaries({name: st.floats(-1, 1) for name in NAMES})
PREFERENCES = st.one_of(
    st.builds(Preference, st.integers(1, 1000)),
    st.builds(Preference, st.integers(1, 1000), st.integers(1, 200), st.floats(0.5, 3), GAINS),
)


@given(st.lists(PREFERENCES, min_size=3, max_size=6))
def test_a_client_pools_the_results_of_the_others_as_the_server_of_a_plain_run(known):
    sums = np.add.reduce([to_parts(one) for one in known])
    for index, own in enumerate(known):
        others = known[:index] + known[index + 1 :]
        assert pool_others(sums, own) == pytest.approx(pool(others), abs=1e-9)


@given(PREFERENCES)
def test_a_stored_record_is_read_as_it_was(preference):
    assert from_arrays(to_arrays(preference)) == preference


def test_sums_that_are_rounded_stay_within_the_limits_of_gains():
    own = Preference(4, 2, 1.0, dict.fromkeys(NAMES, -1.0))
    found = pool_others([2.0001, *[-2.0001] * 4], own)
    assert found == {}, "nobody else has results"
    large = pool_others([52.0, *[-52.0 - 20] * 4], own)
    assert set(large.values()) == {-1.0}


def test_a_client_without_results_adds_nothing():
    assert to_parts(None) == to_parts(Preference(3)) == [0.0] * N_PARTS
