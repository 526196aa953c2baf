"""The registry of each group, found by name: the layers that have them are above this one."""

from typing import Any

from flames_cli.plugins.origins import GROUPS
from flames_cli.plugins.registry import Registry, import_reference

PLACES = {
    "models": "flames_cli.learn.models:MODELS",
    "strategies": "flames_cli.fed.algorithms:ALGORITHMS",
    "readers": "flames_cli.readers:READERS",
    "metrics": "flames_cli.core.scores.extra_metrics:METRICS",
    "losses": "flames_cli.learn.loss_registry:LOSSES",
    "augmentations": "flames_cli.learn.augmentations:AUGMENTATIONS",
    "trackers": "flames_cli.trackers:TRACKERS",
}
"""Module and constant of the registry of each group."""


def registry_of(group: str) -> Registry[Any]:
    """Return the registry of a group, one of GROUPS."""
    if group not in GROUPS:
        raise ValueError(f"{group} is no group of plug-ins")
    found: Registry[Any] = import_reference(PLACES[group]) if group in PLACES else Registry(group, {})
    return found
