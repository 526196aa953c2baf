"""Privacy cost of a run's releases, computed by Flower's accountant."""

import importlib.util
from functools import lru_cache

from flwr import serverapp
from flwr.serverapp import GaussianPrivacyEvent, NeighboringRelation, PrivacyConfig, SamplingMethod

from flames_cli.core.federated.algorithm import Privacy
from flames_cli.errors import FlamesError, install_extra


def check_accountant() -> None:
    """Raise FlamesError if the accountant is not installed."""
    if importlib.util.find_spec("dp_accounting") is None:
        raise FlamesError(
            "--dp-noise needs Flower's privacy accountant, which is not installed; "
            f"run {install_extra('privacy')}, or leave --dp-noise and --dp-clip out"
        )


@lru_cache
def privacy_spent(privacy: Privacy, releases: int) -> dict[str, float]:
    """Return `epsilon` at `delta` after `releases` (1 or more), for a client that took part in all of them.

    Rényi differential privacy of the Gaussian mechanism (Mironov 2017), converted by Google's dp-accounting.
    Clients are not sampled, so there is no amplification, and the number of clients does not matter.

    Raises:
        FlamesError: the accountant is not installed.
    """
    check_accountant()
    config = PrivacyConfig(
        privacy.delta, 1, NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION
    )
    # Looked up on first use: loading the accountant takes more than a second.
    accountant = serverapp.RdpAccountant(config)
    accountant.compose(GaussianPrivacyEvent(privacy.noise, 1, 1), releases)
    return {"epsilon": accountant.get_epsilon(privacy.delta), "delta": privacy.delta}
