import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.rng import derive_rng, derive_seed

PARTS = st.text(max_size=5) | st.integers()
SCOPES = st.lists(PARTS, max_size=4).map(tuple)


def test_the_same_scope_gives_the_same_stream():
    once, again = (derive_rng(7, "augment", "client-1", 3).random(5) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_a_stream_ignores_what_was_drawn_before():
    expected = derive_rng(7, "split").random()
    derive_rng(7, "augment").random(100)
    np.random.default_rng().random(100)
    assert derive_rng(7, "split").random() == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("1",), (1,)),
        ((1, 11), (11, 1)),
        (("a", ""), ("a",)),
        (("a", "b"), ("b", "a")),
        (("a", 1), ("a", 2)),
        ((), (0,)),
    ],
)
def test_different_scopes_give_different_streams(one, other):
    assert derive_seed(0, *one) != derive_seed(0, *other)
    assert derive_rng(0, *one).random() != derive_rng(0, *other).random()


def test_different_seeds_give_different_streams():
    assert derive_seed(0, "split") != derive_seed(1, "split")


def test_seed_and_scope_do_not_run_together():
    assert derive_seed(1, 2) != derive_seed(12)
    assert derive_seed(1, 2) != derive_seed(2, 1)


@settings(max_examples=50)
@given(SCOPES, SCOPES)
def test_scopes_share_a_seed_only_where_they_are_equal(one, other):
    assert (derive_seed(0, *one) == derive_seed(0, *other)) == (one == other)


@settings(max_examples=50)
@given(st.integers(), SCOPES)
def test_seeds_fit_in_63_bits(seed, scope):
    assert 0 <= derive_seed(seed, *scope) < 2**63


def test_known_values_never_change():
    assert derive_seed(0, "split", "brats", 1) == 229748519056367197
    assert derive_rng(0, "split", "brats", 1).integers(0, 1000, 4).tolist() == [146, 987, 941, 11]
