"""Privacy cost of a run's releases, computed by Google's dp-accounting."""

import importlib.util
import math
from functools import lru_cache
from typing import Any

from flames_cli.core.federated.algorithm import Privacy
from flames_cli.errors import FlamesError, install_extra

ACCOUNTANT = "pld"
"""Accountant of the epsilon in `rounds.jsonl`: privacy loss distributions."""

OLDER_ACCOUNTANT = "rdp"
"""Accountant of runs of earlier releases, whose lines name none: Rényi differential privacy."""

STEP = 0.01
"""Distance between the values of the discretised privacy loss, in its standard deviations."""


def check_accountant() -> None:
    """Raise FlamesError if the accountant is not installed."""
    if importlib.util.find_spec("dp_accounting") is None:
        raise FlamesError(
            "--dp-noise needs the privacy accountant dp-accounting, which is not installed; "
            f"run {install_extra('privacy')}, or leave --dp-noise and --dp-clip out"
        )


@lru_cache
def privacy_spent(privacy: Privacy, releases: int) -> dict[str, Any]:
    """Return `epsilon` at `delta` after `releases` (1 or more), for a client that took part in all of them,
    and the `accountant`.

    Clients are not sampled, so there is no amplification, and the number of clients does not matter. T
    releases with noise multiplier Z have the privacy loss of one with Z/√T: the losses of Gaussian noise are
    normal and add up. Its distribution is discretised by connecting the dots (Doroshenko et al. 2022), which
    gives an upper bound of epsilon: 0.0022 % above the exact value at most, or 0.12 % for an epsilon above
    700, where dp-accounting uses a coarser rule.

    Raises:
        FlamesError: the accountant is not installed.
    """
    check_accountant()
    # Looked up on first use: loading it takes a tenth of a second, and scipy's statistics half a second.
    from dp_accounting.pld import privacy_loss_distribution

    deviation = math.sqrt(releases) / privacy.noise
    losses = privacy_loss_distribution.from_gaussian_mechanism(
        1 / deviation,
        value_discretization_interval=STEP * deviation,
        # What is cut off counts as a loss without limit, and must be far below delta.
        log_mass_truncation_bound=min(-50.0, math.log(privacy.delta) - 20.0),
    )
    epsilon = float(losses.get_epsilon_for_delta(privacy.delta))
    return {"epsilon": epsilon, "delta": privacy.delta, "accountant": ACCOUNTANT}
