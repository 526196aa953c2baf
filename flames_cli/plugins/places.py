"""The registry of each group, found by name: the layers that have them are above this one."""

from typing import Any

from flames_cli.plugins.files import shown_name
from flames_cli.plugins.installed import installed_plugins
from flames_cli.plugins.origins import GROUPS, Origin, Problem
from flames_cli.plugins.registry import Registry, import_reference, usable_files

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
    found: Registry[Any] = import_reference(PLACES[group])
    return found


def all_plugins() -> list[Origin]:
    """Return the origins of the plug-ins of all groups, those that cannot be used among them."""
    return [origin for group in GROUPS for origin in registry_of(group).origins()]


def all_problems() -> list[Problem]:
    """Return what is wrong with plug-ins as far as their names show it; imports no package."""
    files = [
        Problem("", "", shown_name(one.path), one.version, f"{one.path} {one.error}")
        for one in usable_files()
        if one.error
    ]
    groups = [one for group in GROUPS for one in registry_of(group).problems()]
    return [*(one for one in installed_plugins()[1] if not one.group), *files, *groups]
