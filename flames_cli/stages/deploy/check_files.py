"""Whether a deployment's certificates and keys are well: their dates, names, signatures and rights."""

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
"""Before its end a certificate is warned of."""

RENEW = "run `flames deploy renew` and start the server anew"
NEW_AUTHORITY = "make a new deployment with `flames deploy init` and give every site its new folder"


def check_authority(certificate: Path) -> Iterator[Finding]:
    """The authority's certificate, which the server and every site have."""
    try:
        yield _dates(certificate, describe_certificate(certificate), NEW_AUTHORITY)
    except FlamesError as error:
        yield problem_of(error)


def check_server_files(deployment: Deployment) -> Iterator[Finding]:
    """The server's certificate and the private keys that lie beside it."""
    certificate, key = deployment.server_certificate, deployment.server_key
    try:
        said = describe_certificate(certificate)
    except FlamesError as error:
        yield problem_of(error)
        yield skipped("the server certificate's dates, names, signature and key were", "it cannot be read")
    else:
        yield _dates(certificate, said, RENEW)
        yield _names(certificate, said, deployment.host)
        yield _signature(certificate, deployment.ca_certificate)
        yield _together(key, certificate, lambda: key_matches(key, certificate), RENEW)
    yield from _rights(key)
    if deployment.ca_key.exists():
        yield from _rights(deployment.ca_key)
    else:
        yield ok(f"{deployment.ca_key.name} is kept elsewhere: `flames deploy renew` will need it")


def check_site_keys(deployment: Deployment) -> Iterator[Finding]:
    """Every site's public key, by which the server knows its node; no two of them the same."""
    owners: dict[bytes, str] = {}
    for name in deployment.sites:
        try:
            key = read_public_key(deployment.node_key(name))
        except FlamesError as error:
            yield problem(f"site {name}: {str(error).partition('; ')[0]}", "copy the site's node.pub there")
            continue
        if (owner := owners.setdefault(key, name)) != name:
            yield problem(f"sites {owner} and {name} have the same key", "let each make its own")
        else:
            yield ok(f"site {name}: its public key is known")
        if (private := deployment.site(name).private_key).exists():
            yield from _rights(private)


def check_node_key(site: Site) -> Iterator[Finding]:
    """The node's private key, and the public key that the server was given."""
    private, public = site.private_key, site.public_key
    if not private.exists():
        yield problem(
            f"{private} is not there",
            "put there the node.key that `flames deploy key` made at this site, "
            "or copy the site's whole folder from the server again",
        )
        yield skipped("the node's key was", "it is not there")
        return
    yield from _rights(private)
    if public.exists():
        fix = "give the server the public key that belongs to it, or put the right node.key there"
        yield _together(private, public, lambda: public_key_of(private) == read_public_key(public), fix)
    else:
        yield skipped("whether the node's keys belong together was", f"{public.name} is not here")


def _dates(path: Path, said: CertificateInfo, fix: str) -> Finding:
    now = datetime.now(UTC)
    left = (said.not_after - now).days
    if now < said.not_before:
        return problem(
            f"{path.name} holds only from {said.not_before:%Y-%m-%d %H:%M} UTC, and this machine's clock "
            f"says {now:%Y-%m-%d %H:%M} UTC",
            "set the clock (`timedatectl set-ntp true`)",
        )
    if now > said.not_after:
        return problem(f"{path.name} expired on {said.not_after:%Y-%m-%d}", f"{fix}, or set a wrong clock")
    if left < SOON_DAYS:
        return warning(f"{path.name} expires in {left} days, on {said.not_after:%Y-%m-%d}", fix)
    return ok(f"{path.name} holds until {said.not_after:%Y-%m-%d}, {left} days from now")


def _names(path: Path, said: CertificateInfo, host: str) -> Finding:
    if said.covers(host):
        return ok(f"{path.name} names {host}")
    return problem(f"{path.name} names {', '.join(said.names) or 'no host'} and not {host}", RENEW)


def _signature(certificate: Path, authority: Path) -> Finding:
    try:
        if is_signed_by(certificate, authority):
            return ok(f"{certificate.name} is signed by {authority.name}")
    except FlamesError:
        return skipped(f"who signed {certificate.name} was", f"{authority.name} cannot be read")
    return problem(f"{certificate.name} is not signed by {authority.name}", RENEW)


def _together(key: Path, other: Path, match: Callable[[], bool], fix: str) -> Finding:
    try:
        if match():
            return ok(f"{key.name} belongs to {other.name}")
    except FlamesError as error:
        return problem_of(error)
    return problem(f"{key.name} does not belong to {other.name}", fix)


def _rights(key: Path) -> Iterator[Finding]:
    """Nothing where the system has no such rights, or the key is not there, which is told elsewhere."""
    if os.name != "posix" or not key.exists():
        return
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield problem(f"others may use the private key {key} (mode {mode:04o})", _chmod(key))
    else:
        yield ok(f"{key} is its owner's alone")


def _chmod(key: Path) -> str:
    return f"chmod 600 {shlex.quote(str(key))}"
