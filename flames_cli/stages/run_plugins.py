"""Plug-ins of runs: those that a run uses, and those that a stored run needs."""

from collections.abc import Mapping
from typing import Any

from flames_cli.config import FederateConfig, keys_with
from flames_cli.errors import FlamesError
from flames_cli.plugins import GROUPS, Origin, require_plugins, used
from flames_cli.store.runs import RunFolder, read_config

PLUGINS = "plugins"
"""Key among a run's facts: its plug-ins, such as `models/tiny flames-example 0.1`; absent without any."""

NO_PART = {"trackers"}
"""Groups that have no part in what a run computes, so that it does not need them later."""


def plugins_of(config: FederateConfig) -> tuple[Origin, ...]:
    """Return the plug-ins that decide what a run with these options computes."""
    names: list[tuple[str, str]] = []
    for group in GROUPS:
        for key in keys_with(type(config), "names", group) if group not in NO_PART else ():
            value = getattr(config, key)
            names += [(group, name) for name in ((value,) if isinstance(value, str) else value or ())]
    return used(names)


def require_packages(config: FederateConfig) -> None:
    """Check that all plug-ins of a run with real nodes are packages: no code travels to a node.

    Raises:
        FlamesError: one comes from a file.
    """
    for one in plugins_of(config):
        if one.file:
            raise FlamesError(
                f"--engine {config.engine} got the plug-in {one.key} of the file {one.file}, expected one of "
                "an installed package: real nodes install their plug-ins themselves; make a package of the "
                "file, or use --engine inline or ray"
            )


def require_run_plugins(run: RunFolder, facts: Mapping[str, Any] | None = None) -> list[str]:
    """Check that the plug-ins of a stored run are there; return a note for each that is another one.

    Args:
        run: folder of the run.
        facts: facts of the run if they are read already.

    Raises:
        FlamesError: a plug-in is not there, or the facts cannot be read.
    """
    stored = read_config(run.config).get("run", {}) if facts is None else facts
    return require_plugins(plugin_facts(stored), f"run '{run.name}'")


def plugin_facts(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the plug-ins in a run's facts, such as `models/tiny flames-example 0.1`."""
    stored = facts.get(PLUGINS, ())
    return tuple(str(one) for one in stored) if isinstance(stored, list) else ()
