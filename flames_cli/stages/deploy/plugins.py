"""Packages whose plug-ins a deployment's runs may use: PACKAGE==VERSION in its files and in each site's.

A package is never sent: each site installs it. A site's own file decides what its node loads, whatever the
server asks for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from flames_cli.errors import FlamesError
from flames_cli.plugins.packages import (
    installed_version,
    offers_plugins,
    parse_pin,
    pin_text,
    pins_of,
)
from flames_cli.stages.deploy.findings import Finding, ok, problem
from flames_cli.store.deployment.folders import Deployment, Site, read_site, write_deployment, write_site


def pin_installed(typed: Iterable[str]) -> tuple[str, ...]:
    """Return the packages as PACKAGE==VERSION, with the version that is installed on this machine.

    Raises:
        FlamesError: one is not installed here, has another version, or has no plug-ins of FLAMES.
    """
    return tuple(_pin(text) for text in typed)


def _pin(text: str) -> str:
    name, version = parse_pin(text)
    found = installed_version(name)
    if not found:
        wanted = pin_text(name, version) if version else name
        raise FlamesError(
            f"package {name} is not installed here, expected an installed one, which gives the version; "
            f"run pip install {wanted}"
        )
    if version and version != found:
        raise FlamesError(
            f"{name} {found} is installed here, expected {version} as typed; "
            f"run pip install {pin_text(name, version)}, or allow {pin_text(name, found)}"
        )
    if not offers_plugins(name):
        raise FlamesError(
            f"package {name} {found} has no plug-ins of FLAMES, expected an entry point in a group such as "
            "flames.models; `flames info --plugins` lists the packages that have some"
        )
    return pin_text(name, found)


def with_pins(pins: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Return `pins` and `more`; of a package in both, the version in `more`."""
    return _texts(pins_of(pins) | pins_of(more))


def without(pins: Sequence[str], typed: Sequence[str]) -> tuple[str, ...]:
    """Return `pins` without the packages `typed`.

    Raises:
        FlamesError: one of them is not among `pins`.
    """
    left = pins_of(pins)
    for name in (parse_pin(text)[0] for text in typed):
        if left.pop(name, None) is None:
            raise FlamesError(
                f"package {name} is not allowed here, expected one of {', '.join(pins_of(pins)) or 'none'}; "
                "nothing was changed"
            )
    return _texts(left)


def allow_in_deployment(deployment: Deployment, typed: Sequence[str], remove: bool = False) -> Deployment:
    """Allow the packages `typed` in a deployment and in the folders of its sites that are still with it.

    The folders that the sites have are theirs: their owners allow the package there.

    Raises:
        FlamesError: a package is not installed here, or one to remove is not allowed.
    """
    changed = replace(deployment, plugins=_changed(deployment.plugins, typed, remove))
    names = {parse_pin(text)[0] for text in typed}
    for site in map(deployment.site, deployment.sites):
        if site.description.is_file():
            # A site may have fewer packages than the deployment.
            known = read_site(site.path)
            own = {name: version for name, version in pins_of(known.plugins).items() if name not in names}
            new = {name: version for name, version in pins_of(changed.plugins).items() if name in names}
            write_site(replace(known, plugins=_texts(own | new)))
    write_deployment(changed)
    return changed


def allow_at_site(site: Site, typed: Sequence[str], remove: bool = False) -> Site:
    """Allow the packages `typed` at a site, whose node reads them when it starts.

    Raises:
        FlamesError: a package is not installed here, or one to remove is not allowed.
    """
    changed = replace(site, plugins=_changed(site.plugins, typed, remove))
    write_site(changed)
    return changed


def _changed(pins: Sequence[str], typed: Sequence[str], remove: bool) -> tuple[str, ...]:
    return without(pins, typed) if remove else with_pins(pins, pin_installed(typed))


def _texts(pins: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(pin_text(*pin) for pin in pins.items())


def check_plugins(pins: Sequence[str]) -> Iterator[Finding]:
    """Check that each allowed package is installed on this machine, in the allowed version."""
    for name, version in pins_of(pins).items():
        found = installed_version(name)
        install = f"run pip install {pin_text(name, version)}"
        if not found:
            yield problem(f"plug-in package {name} {version} is allowed, and is not installed here", install)
        elif found != version:
            yield problem(
                f"plug-in package {name} {version} is allowed, and {found} is installed here",
                f"{install}, or allow the other version with `flames deploy allow {pin_text(name, found)}`",
            )
        else:
            yield ok(f"plug-in package {name} {version} is installed and allowed")


def describe_pins(pins: Sequence[str]) -> str:
    """Return the packages in words."""
    return ", ".join(f"{name} {version}" for name, version in pins_of(pins).items()) or "none"
