"""Plug-ins: members that other packages, or files of the user, add to the registries.

A plug-in is code that runs with the rights of the user. It comes from an installed package or from a file
that the user names on this machine; no server, no artifact and no message brings one.
"""

from flames_cli.plugins.allowed import ALLOWED_VARIABLE, allow_only, allowed_packages
from flames_cli.plugins.code import code_digest
from flames_cli.plugins.facts import require_plugins, used
from flames_cli.plugins.files import FILES_VARIABLE, use_files
from flames_cli.plugins.installed import installed_plugins
from flames_cli.plugins.origins import GROUPS, RAISED, Origin, Problem, describe_error, one_line
from flames_cli.plugins.places import all_plugins, all_problems, registry_of
from flames_cli.plugins.registry import Registry

__all__ = [
    "ALLOWED_VARIABLE",
    "FILES_VARIABLE",
    "GROUPS",
    "RAISED",
    "Origin",
    "Problem",
    "Registry",
    "all_plugins",
    "all_problems",
    "allow_only",
    "allowed_packages",
    "code_digest",
    "describe_error",
    "installed_plugins",
    "one_line",
    "registry_of",
    "require_plugins",
    "use_files",
    "used",
]
