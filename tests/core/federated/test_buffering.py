import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.buffering import Buffering


def test_the_weight_is_fedasyncs_polynomial():
    weights = [Buffering(2, 0.5).weight(staleness) for staleness in range(4)]
    assert weights == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5])


@given(st.integers(0, 10**6), st.floats(0, 10))
def test_a_weight_is_never_above_that_of_a_fresh_report(staleness, exponent):
    buffering = Buffering(1, exponent)
    assert buffering.weight(0) == 1.0
    assert 0 < buffering.weight(staleness + 1) <= buffering.weight(staleness) <= 1


def test_with_exponent_0_a_stale_report_counts_as_much_as_a_fresh_one():
    assert Buffering(1, 0).weight(100) == 1.0


def test_a_report_from_a_later_version_has_no_weight():
    with pytest.raises(ValueError, match="-1"):
        Buffering(1).weight(-1)


@pytest.mark.parametrize(("size", "exponent"), [(0, 0.5), (1, -0.1), (1, float("nan")), (1, float("inf"))])
def test_sizes_and_exponents_without_a_meaning_are_refused(size, exponent):
    with pytest.raises(ValueError, match="expected"):
        Buffering(size, exponent)
