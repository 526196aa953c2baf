"""Names and versions of the packages that a federation's nodes may use, such as `flames-example==0.1.0`."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache

from flames_cli.errors import FlamesError
from flames_cli.plugins.allowed import ALLOWED_VARIABLE
from flames_cli.plugins.origins import PREFIX, normal_name

NO_PACKAGES = "{}"
"""An empty list of packages as JSON."""

LONGEST_TEXT = 10_000
"""Largest number of characters of a list of packages as text."""

NAME = re.compile(r"[a-z0-9](-?[a-z0-9])*")
"""Pattern of a package's name in its normal form."""

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
LONGEST = 100
"""Largest number of characters of a name and of a version."""


def parse_pin(text: str) -> tuple[str, str]:
    """Return the name and the version of PACKAGE==VERSION; the version is empty for PACKAGE alone.

    Raises:
        FlamesError: it is neither.
    """
    name, separator, version = (part.strip() for part in text.partition("=="))
    name = normal_name(name)
    if not _is_name(name) or (separator and not _is_version(version)):
        raise FlamesError(
            f"{text!r} is no plug-in package, expected PACKAGE or PACKAGE==VERSION; "
            "write such as flames-example==0.1.0"
        )
    return name, version


def pin_text(name: str, version: str) -> str:
    """Return PACKAGE==VERSION, as pip takes it."""
    return f"{name}=={version}"


def is_pin(name: str, version: str) -> bool:
    """Return whether a name, in any case and with any dashes, and a version are such as pip knows."""
    return _is_name(normal_name(name)) and _is_version(version)


def pins_of(texts: Iterable[str]) -> dict[str, str]:
    """Return name → version of texts such as `flames-example==0.1.0`."""
    return dict(map(parse_pin, texts))


def installed_version(name: str) -> str:
    """Return the version of an installed package; empty if it is not installed."""
    from importlib import metadata  # it takes a third of the time of `flames --help`

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def offers_plugins(name: str) -> bool:
    """Return whether an installed package has plug-ins of FLAMES, without loading any of them."""
    from importlib import metadata

    return any(entry.group.startswith(PREFIX) for entry in metadata.distribution(name).entry_points)


def packages_text(packages: Mapping[str, str]) -> str:
    """Return name → version as JSON, for `parse_packages`."""
    return json.dumps(dict(packages), sort_keys=True)


def parse_packages(text: str) -> dict[str, str]:
    """Return name → version in `text`, which may come from another machine; a version may be empty.

    Raises:
        ValueError: it is too long, is not JSON, or has anything but names and versions of packages.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"its list of plug-in packages has more than {LONGEST_TEXT} characters")
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("its list of plug-in packages is nested") from error
    if not isinstance(found, dict) or not all(
        _is_name(name) and isinstance(version, str) and (not version or _is_version(version))
        for name, version in found.items()
    ):
        raise ValueError("its list of plug-in packages has anything but names and versions")
    return found


def usable_here() -> str:
    """Return, as JSON, the allowed packages: with their version, or "" if it is not the installed one."""
    return _usable(os.environ.get(ALLOWED_VARIABLE) or NO_PACKAGES)


@cache
def _usable(allowed: str) -> str:
    # A process uses the version that was installed when it began, so that one answer is enough.
    packages = parse_packages(allowed)
    return packages_text(
        {name: version if installed_version(name) == version else "" for name, version in packages.items()}
    )


def _is_name(name: str) -> bool:
    return len(name) <= LONGEST and NAME.fullmatch(name) is not None


def _is_version(version: str) -> bool:
    return len(version) <= LONGEST and VERSION.fullmatch(version) is not None
