"""Checks of a deployment's certificates and keys: dates, names, signatures and file permissions."""

import os
import shlex
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.stages.deploy.findings import Finding, ok, problem, problem_of, skipped, warning
from flames_cli.store.deployment.certificates import (
    CertificateInfo,
    describe_certificate,
    is_signed_by,
    key_matches,
)
from flames_cli.store.deployment.folders import Deployment, Site
from flames_cli.store.deployment.node_keys import public_key_of, read_public_key

SOON_DAYS = 30
"""Number of days before a certificate expires from which there is a warning."""

RENEW = "run `flames deploy renew` and restart the server"
NEW_AUTHORITY = "make a new deployment with `flames deploy init` and give every site its new folder"


def check_authority(certificate: Path) -> Iterator[Finding]:
    """Check the certificate of the authority, which the server and every site have."""
    try:
        yield check_dates(certificate, describe_certificate(certificate), NEW_AUTHORITY)
    except FlamesError as error:
        yield problem_of(error)


def check_server_files(deployment: Deployment) -> Iterator[Finding]:
    """Check the server's certificate and the private keys in the same folder."""
    certificate, key = deployment.server_certificate, deployment.server_key
    try:
        info = describe_certificate(certificate)
    except FlamesError as error:
        yield problem_of(error)
        yield skipped("the server certificate's dates, names, signature and key were", "it cannot be read")
    else:
        yield check_dates(certificate, info, RENEW)
        yield _names(certificate, info, deployment.host)
        yield _signature(certificate, deployment.ca_certificate)
        yield _together(key, certificate, lambda: key_matches(key, certificate), RENEW)
    yield from check_private(key)
    if deployment.ca_key.exists():
        yield from check_private(deployment.ca_key)
    else:
        yield ok(f"{deployment.ca_key.name} is not on this machine: `flames deploy renew` will need it")


def check_site_keys(deployment: Deployment) -> Iterator[Finding]:
    """Check every site's public key, by which the server identifies its node; all must be different."""
    owners: dict[bytes, str] = {}
    for name in deployment.sites:
        try:
            key = read_public_key(deployment.node_key(name))
        except FlamesError as error:
            yield problem(f"site {name}: {str(error).partition('; ')[0]}", "copy the site's node.pub there")
            continue
        if (owner := owners.setdefault(key, name)) != name:
            yield problem(
                f"sites {owner} and {name} have the same key",
                "let each site make its own key with `flames deploy key`",
            )
        else:
            yield ok(f"site {name}: its public key is valid")
        if (private := deployment.site(name).private_key).exists():
            yield from check_private(private)


def check_node_key(site: Site) -> Iterator[Finding]:
    """Check the node's private key, and the public key that the server was given."""
    private, public = site.private_key, site.public_key
    if not private.exists():
        yield problem(
            f"{private} does not exist",
            "copy the node.key that `flames deploy key` made at this site to it, "
            "or copy the site's complete folder from the server again",
        )
        yield skipped("the node's key was", "it does not exist")
        return
    yield from check_private(private)
    if public.exists():
        fix = "give the server the public key that belongs to it, or replace node.key by the right one"
        yield _together(private, public, lambda: public_key_of(private) == read_public_key(public), fix)
    else:
        yield skipped("whether the node's keys belong together was", f"{public.name} does not exist")


def check_server_dates(deployment: Deployment) -> Iterator[Finding]:
    """Check that the certificates that the server uses are valid now, and for some time."""
    yield from check_authority(deployment.ca_certificate)
    certificate = deployment.server_certificate
    try:
        yield check_dates(certificate, describe_certificate(certificate), RENEW)
    except FlamesError as error:
        yield problem_of(error)


def check_dates(path: Path, info: CertificateInfo, fix: str) -> Finding:
    """Check that a certificate is valid now, and for some time."""
    now = datetime.now(UTC)
    left = (info.not_after - now).days
    if now < info.not_before:
        return problem(
            f"{path.name} is valid only from {info.not_before:%Y-%m-%d %H:%M} UTC, and this machine's clock "
            f"says {now:%Y-%m-%d %H:%M} UTC",
            "set the clock (`timedatectl set-ntp true`)",
        )
    if now > info.not_after:
        return problem(
            f"{path.name} expired on {info.not_after:%Y-%m-%d %H:%M} UTC, and this machine's clock says "
            f"{now:%Y-%m-%d %H:%M} UTC",
            f"{fix}, or set the clock if it is wrong",
        )
    if left < SOON_DAYS:
        return warning(f"{path.name} expires in {left} days, on {info.not_after:%Y-%m-%d}", fix)
    return ok(f"{path.name} is valid until {info.not_after:%Y-%m-%d}, {left} days from now")


def _names(path: Path, info: CertificateInfo, host: str) -> Finding:
    if info.covers(host):
        return ok(f"{path.name} names {host}")
    return problem(f"{path.name} names {', '.join(info.names) or 'no host'} and not {host}", RENEW)


def _signature(certificate: Path, authority: Path) -> Finding:
    try:
        if is_signed_by(certificate, authority):
            return ok(f"{certificate.name} is signed by {authority.name}")
    except FlamesError:
        return skipped(f"the signature of {certificate.name} was", f"{authority.name} cannot be read")
    return problem(f"{certificate.name} is not signed by {authority.name}", RENEW)


def _together(key: Path, other: Path, match: Callable[[], bool], fix: str) -> Finding:
    try:
        if match():
            return ok(f"{key.name} belongs to {other.name}")
    except FlamesError as error:
        return problem_of(error)
    return problem(f"{key.name} does not belong to {other.name}", fix)


def check_private(key: Path) -> Iterator[Finding]:
    """Check that only the owner can read `key`; on POSIX, and only if it exists."""
    if os.name != "posix" or not key.exists():
        return
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield problem(
            f"other users can read the private key {key} (mode {mode:04o}), expected its owner only",
            _chmod(key),
        )
    else:
        yield ok(f"only its owner can read {key}")


def _chmod(key: Path) -> str:
    return f"chmod 600 {shlex.quote(str(key))}"
