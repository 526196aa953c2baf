"""Plug-ins of a run with real nodes: every node needs the packages of what its clients compute."""

from collections.abc import Mapping

from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError
from flames_cli.plugins import Origin, used
from flames_cli.plugins.origins import WORDS, normal_name
from flames_cli.plugins.packages import pin_text, pins_of
from flames_cli.store.deployment.folders import Deployment


def needed_packages(config: FederateConfig, algorithm: Algorithm) -> dict[str, str]:
    """Return the packages that each client of a run needs, name → version."""
    return {normal_name(origin.package): origin.version for origin in _of_clients(config, algorithm)}


def require_allowed(config: FederateConfig, algorithm: Algorithm, deployment: Deployment) -> None:
    """Check that real nodes can have the run's plug-ins, before the run begins.

    Raises:
        FlamesError: one comes from a file, or from a package that the deployment does not allow.
    """
    for origin in used([*_names(config), ("strategies", config.strategy)]):
        if origin.file:
            raise FlamesError(
                f"{WORDS[origin.group]} '{origin.name}' comes from the file {origin.package}, and real nodes "
                "use installed packages alone; make a package of it (docs/plugins.md has a template), or "
                "take --engine inline"
            )
    allowed = pins_of(deployment.plugins)
    for origin in _of_clients(config, algorithm):
        _require(origin, allowed)


def _require(origin: Origin, allowed: Mapping[str, str]) -> None:
    name = normal_name(origin.package)
    if allowed.get(name) != origin.version:
        listed = f"{name} {allowed[name]}" if name in allowed else "no such package"
        raise FlamesError(
            f"{WORDS[origin.group]} '{origin.name}' needs plug-in package {name} {origin.version} at every "
            f"site, and this deployment allows {listed}; run `flames deploy allow "
            f"{pin_text(name, origin.version)}` here and at each site that has installed it"
        )


def _of_clients(config: FederateConfig, algorithm: Algorithm) -> tuple[Origin, ...]:
    # Groups and blends of a strategy work at the server.
    names = _names(config)
    if not isinstance(algorithm.local_update, str):
        names.append(("strategies", config.strategy))
    return used(names)


def _names(config: FederateConfig) -> list[tuple[str, str]]:
    training = config.training
    augmentations = [("augmentations", name) for name in training.augmentations]
    return [("models", config.model), ("losses", training.loss), *augmentations]
