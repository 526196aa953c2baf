import math

import pytest
from scipy.optimize import brentq
from scipy.special import log_ndtr

from flames_cli.core.federated.algorithm import Privacy
from flames_cli.errors import FlamesError
from flames_cli.fed import privacy_accountant
from flames_cli.fed.privacy_accountant import privacy_spent

CASES = [
    (noise, delta, releases)
    for noise in (0.7, 1.0, 4.0, 50.0)
    for delta in (1e-9, 1e-5, 1e-3)
    for releases in (1, 3, 50)
]


@pytest.fixture
def _accountant():
    pytest.importorskip("dp_accounting", reason="flames-cli[privacy] is not installed")


def exact_epsilon(noise: float, delta: float, releases: int) -> float:
    """Return epsilon of T Gaussian releases, which are one of noise Z/√T: Balle & Wang 2018, theorem 8."""
    mu = math.sqrt(releases) / noise

    def log_delta(epsilon: float) -> float:
        first, second = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
        return float(first + math.log(-math.expm1(second - first)))

    highest = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    return float(brentq(lambda epsilon: log_delta(epsilon) - math.log(delta), 1e-9, highest, xtol=1e-13))


@pytest.mark.usefixtures("_accountant")
@pytest.mark.parametrize(("noise", "delta", "releases"), CASES)
def test_epsilon_is_the_exact_value_or_hardly_more_and_never_less(noise, delta, releases):
    spent = privacy_spent(Privacy(noise, 1.0, delta), releases)
    assert (spent["delta"], spent["accountant"]) == (delta, "pld")
    exact = exact_epsilon(noise, delta, releases)
    assert exact * (1 - 1e-11) <= spent["epsilon"] <= exact * (1 + 3e-5)


@pytest.mark.usefixtures("_accountant")
def test_the_noise_that_the_analytic_gaussian_mechanism_needs_for_epsilon_1_gives_epsilon_1():
    # Balle & Wang 2018, algorithm 1: σ = 3.7306 for ε = 1 and δ = 1e-5.
    assert privacy_spent(Privacy(3.7306, 1.0, 1e-5), 1)["epsilon"] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.usefixtures("_accountant")
def test_thousands_of_releases_and_little_noise_still_give_an_upper_bound():
    for noise, releases in ((0.5, 5000), (0.1, 100), (1.0, 5000)):
        exact = exact_epsilon(noise, 1e-5, releases)
        assert exact <= privacy_spent(Privacy(noise, 1.0, 1e-5), releases)["epsilon"] <= 1.0013 * exact


@pytest.mark.usefixtures("_accountant")
def test_a_delta_below_what_is_usually_cut_off_has_a_finite_epsilon():
    exact = exact_epsilon(1.0, 1e-40, 2)
    assert exact <= privacy_spent(Privacy(1.0, 1.0, 1e-40), 2)["epsilon"] <= exact * (1 + 3e-5)


@pytest.mark.usefixtures("_accountant")
def test_epsilon_is_below_the_bound_by_renyi_divergences():
    for noise, releases in ((1.0, 1), (1.0, 50), (4.0, 200)):
        # Mironov 2017, proposition 3 with corollary 3: ρ + 2√(ρ·ln 1/δ), ρ = T/(2Z²), at the best real order.
        rho = releases / (2 * noise**2)
        bound = rho + 2 * math.sqrt(rho * math.log(1e5))
        assert 0.8 * bound < privacy_spent(Privacy(noise, 1.0, 1e-5), releases)["epsilon"] < 0.95 * bound


@pytest.mark.usefixtures("_accountant")
def test_more_releases_cost_more_and_more_noise_less_whatever_the_clip():
    def epsilon(noise, clip, releases):
        return privacy_spent(Privacy(noise, clip, 1e-5), releases)["epsilon"]

    assert epsilon(1.0, 1.0, 2) > epsilon(1.0, 1.0, 1) > epsilon(2.0, 1.0, 1)
    assert epsilon(1.0, 1.0, 3) == epsilon(1.0, 9.0, 3)


def test_the_error_without_an_accountant_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(privacy_accountant.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FlamesError, match=r"pip install 'flames-cli\[privacy\]'"):
        privacy_accountant.check_accountant()
