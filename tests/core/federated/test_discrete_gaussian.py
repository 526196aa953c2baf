import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest, norm

from flames_cli.core.federated import discrete_gaussian
from flames_cli.core.federated.discrete_gaussian import _exp_bounds, _Uniform, draw_discrete_gaussian

N = 60_000


def words_of(seed):
    """Return a source of random words for tests, which is not secret."""
    generator = np.random.default_rng(seed)
    return lambda n: generator.integers(0, 2**64, n, np.uint64)


def probabilities(variance, largest):
    """Return the exact probabilities of -largest to largest."""
    values = np.arange(-largest, largest + 1)
    weights = np.exp(-(values**2) / (2 * variance))
    return values, weights / weights.sum()


@pytest.mark.parametrize("variance", [1, 2, 5, 17, 300])
def test_samples_have_the_exact_probabilities(variance):
    samples = draw_discrete_gaussian(N, variance, words_of(variance))
    largest = math.ceil(2.5 * math.sqrt(variance))
    values, expected = probabilities(variance, 12 * largest)
    inside = np.abs(values) <= largest
    counts = [np.count_nonzero(samples == value) for value in values[inside]]
    seen = [*counts, np.count_nonzero(samples < -largest), np.count_nonzero(samples > largest)]
    shares = [*expected[inside], expected[values < -largest].sum(), expected[values > largest].sum()]
    assert chisquare(seen, np.array(shares) * N).pvalue > 1e-3


@pytest.mark.parametrize("variance", [1, 2, 9, 10**9, 10**20])
def test_moments_and_tails_are_those_of_the_distribution(variance):
    samples = draw_discrete_gaussian(N, variance, words_of(3)).astype(np.float64)
    if variance < 100:
        values, shares = probabilities(variance, 100)
        second, fourth = (float(shares @ values.astype(float) ** power) for power in (2, 4))
        beyond = float(shares[np.abs(values) > 3 * math.sqrt(variance)].sum())
    else:
        second, fourth, beyond = variance, 3 * variance**2, 2 * norm.sf(3)
    assert abs(samples.mean()) < 4 * math.sqrt(second / N)
    assert samples.var() == pytest.approx(second, rel=4 * math.sqrt(2 / N))
    assert (samples**4).mean() == pytest.approx(fourth, rel=4 * math.sqrt(96 / 9 / N))
    tail = np.count_nonzero(np.abs(samples) > 3 * math.sqrt(variance))
    assert abs(tail - beyond * N) < 4 * math.sqrt(beyond * N) + 1


def test_large_deviations_give_a_normal_distribution_with_uniform_last_bits():
    samples = draw_discrete_gaussian(N, 10**16, words_of(5))
    assert kstest(samples / 1e8, "norm").pvalue > 1e-3
    assert chisquare(np.bincount(samples & 15, minlength=16)).pvalue > 1e-3
    # Neighbouring samples are independent.
    assert abs(np.corrcoef(samples[1:], samples[:-1])[0, 1]) < 4 / math.sqrt(N)


@pytest.mark.parametrize("variance", [1, 7, 10**12])
def test_every_decision_by_doubles_is_that_of_exact_arithmetic(variance, monkeypatch):
    fast = draw_discrete_gaussian(300, variance, words_of(8))
    monkeypatch.setattr(discrete_gaussian, "MARGIN", 1e30)  # nothing is decided by doubles
    asked = []
    exact = _Uniform.is_below_exp
    monkeypatch.setattr(_Uniform, "is_below_exp", lambda *given: asked.append(1) or exact(*given))
    np.testing.assert_array_equal(draw_discrete_gaussian(300, variance, words_of(8)), fast)
    assert len(asked) > 600


def test_a_number_that_its_first_bits_do_not_decide_gets_more():
    low, _ = _exp_bounds(Fraction(1), 64)
    for more, below in ((0, True), (2**64 - 1, False)):
        number = _Uniform(low, lambda n, more=more: np.array([more] * n, np.uint64))
        assert number.is_below_exp(Fraction(1)) is below


@given(st.fractions(0, 500, max_denominator=1000), st.integers(64, 200))
def test_bounds_of_the_exponential_contain_it_and_are_close(exponent, bits):
    low, high = _exp_bounds(exponent, bits)
    assert 0 <= high - low <= 1 + (exponent == 0)
    if exponent < 20:
        assert low / 2**bits == pytest.approx(math.exp(-exponent), rel=1e-9)
    more_low, more_high = _exp_bounds(exponent, bits + 64)
    assert low <= more_low >> 64
    assert (more_high >> 64) <= high


@pytest.mark.parametrize("variance", [0, -1, 2**120])
def test_variances_outside_the_limits_are_rejected(variance):
    with pytest.raises(ValueError, match=r"expected 1 to 2\^110"):
        draw_discrete_gaussian(1, variance, words_of(1))
