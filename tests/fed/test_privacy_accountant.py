import math

import pytest
from scipy.stats import norm

from flames_cli.core.federated.algorithm import Privacy
from flames_cli.errors import FlamesError
from flames_cli.fed import privacy_accountant as privacy_spent
from flames_cli.fed.privacy_accountant import privacy_spent as spent

CASES = [
    (noise, delta, releases) for noise in (0.7, 1.0, 4.0) for delta in (1e-5, 1e-3) for releases in (1, 50)
]


@pytest.fixture
def _accountant():
    pytest.importorskip("dp_accounting", reason="flames-cli[privacy] is not installed")


@pytest.mark.usefixtures("_accountant")
@pytest.mark.parametrize(("noise", "delta", "releases"), CASES)
def test_epsilon_lies_between_what_is_exact_and_the_closed_bound(noise, delta, releases):
    told = spent(Privacy(noise, 1.0, delta), releases)
    epsilon = told["epsilon"]
    assert told["delta"] == delta
    # Mironov 2017, proposition 3 with corollary 3: ρ + 2√(ρ·ln 1/δ), ρ = T/(2Z²), at the best real order.
    rho = releases / (2 * noise**2)
    closed = rho + 2 * math.sqrt(rho * math.log(1 / delta))
    assert epsilon <= closed
    assert epsilon > 0.7 * closed
    # Balle & Wang 2018, theorem 8: the delta of T releases together, one of noise Z/√T.
    mu = math.sqrt(releases) / noise
    exact = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert exact <= delta


@pytest.mark.usefixtures("_accountant")
def test_more_releases_cost_more_and_more_noise_less_whatever_the_clip():
    def epsilon(noise, clip, releases):
        return spent(Privacy(noise, clip, 1e-5), releases)["epsilon"]

    assert epsilon(1.0, 1.0, 2) > epsilon(1.0, 1.0, 1) > epsilon(2.0, 1.0, 1)
    assert epsilon(1.0, 1.0, 3) == epsilon(1.0, 9.0, 3)


def test_who_has_no_accountant_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setattr(privacy_spent.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FlamesError, match=r"pip install 'flames-cli\[privacy\]'"):
        privacy_spent.check_accountant()
