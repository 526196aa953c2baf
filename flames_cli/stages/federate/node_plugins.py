"""Plug-ins of a run with real nodes: every node needs the packages of what its client computes."""

from collections.abc import Iterator

from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError
from flames_cli.plugins import Origin
from flames_cli.plugins.origins import WORDS, normal_name
from flames_cli.plugins.packages import pin_text, pins_of
from flames_cli.stages.run_plugins import plugins_of
from flames_cli.store.deployment.folders import Deployment

OF_CLIENTS = {"models", "losses", "augmentations"}
"""Groups whose members clients use."""


def needed_packages(config: FederateConfig, algorithm: Algorithm) -> dict[str, str]:
    """Return the packages that each client of a run needs, name → version."""
    return {normal_name(one.package): one.version for one in _of_clients(config, algorithm)}


def require_allowed(config: FederateConfig, algorithm: Algorithm, deployment: Deployment) -> None:
    """Check that a deployment allows the packages that each client of a run needs.

    Raises:
        FlamesError: it does not allow one, or not this version.
    """
    allowed = pins_of(deployment.plugins)
    for one in _of_clients(config, algorithm):
        name = normal_name(one.package)
        if allowed.get(name) != one.version:
            listed = f"{name} {allowed[name]}" if name in allowed else "no such package"
            raise FlamesError(
                f"{WORDS[one.group]} '{one.name}' needs plug-in package {name} {one.version} at every site, "
                f"and this deployment allows {listed}; run `flames deploy allow "
                f"{pin_text(name, one.version)}` here and at each site that has installed it"
            )


def _of_clients(config: FederateConfig, algorithm: Algorithm) -> Iterator[Origin]:
    # Groups and blends of a strategy work at the server.
    own_rule = not isinstance(algorithm.local_update, str)
    for one in plugins_of(config):
        if one.group in OF_CLIENTS or (own_rule and one.group == "strategies"):
            yield one
