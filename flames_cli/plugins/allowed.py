"""Packages whose plug-ins this process may use: all, or those that a site allows."""

import json
import os
from collections.abc import Mapping

from flames_cli.plugins.origins import Origin, same_package

ALLOWED_VARIABLE = "FLAMES_ALLOWED_PLUGINS"
"""Environment variable with the allowed packages as JSON, name → version; without it all are allowed."""


def allow_only(packages: Mapping[str, str] | None) -> None:
    """Let this process, and those that it starts, use plug-ins of these packages and versions alone.

    Plug-ins of files are then never loaded. None: all plug-ins may be used.
    """
    if packages is None:
        os.environ.pop(ALLOWED_VARIABLE, None)
    else:
        os.environ[ALLOWED_VARIABLE] = json.dumps(dict(sorted(packages.items())))


def allowed_packages() -> dict[str, str] | None:
    """Return the allowed packages with their versions; None if all are allowed.

    A variable that cannot be read allows none.
    """
    text = os.environ.get(ALLOWED_VARIABLE)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}


def is_allowed(origin: Origin, packages: Mapping[str, str] | None) -> bool:
    """Return whether a plug-in may be used where `packages` are allowed."""
    if packages is None:
        return True
    if origin.file:
        return False
    return any(
        same_package(name, origin.package) and version == origin.version for name, version in packages.items()
    )
