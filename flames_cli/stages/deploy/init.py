"""The folder of a federation between machines: made, given further sites, its certificate renewed.

What is made appears whole or not at all, and no key that is there is ever written over.
"""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flames_cli.core.addresses import check_host, check_port
from flames_cli.errors import FlamesError
from flames_cli.store.deployment.certificates import make_authority, make_server_certificate
from flames_cli.store.deployment.folders import (
    Deployment,
    Site,
    check_site_name,
    read_deployment,
    write_deployment,
    write_site,
)
from flames_cli.store.deployment.node_keys import make_node_keys, read_public_key, write_public_key
from flames_cli.store.files.atomic import reason_of

LONGEST_DAYS = 36500


def init_deployment(out: Path, host: str, port: int, sites: Sequence[str], days: int) -> Deployment:
    """Make a deployment: an authority, the server's certificate, and a folder with a key pair for each site.

    Args:
        out: the folder, not there or empty.
        host: the name or IP address by which the sites reach the server.
        port: of the server.
        sites: their names.
        days: how long the server's certificate holds.

    Raises:
        FlamesError: something is in `out`, or the host, the port, a name or the days cannot be.
    """
    check_host(host)
    check_port(port)
    _check_days(days)
    names = _check_names(sites, ())
    _check_free(out)
    with _whole_folder(out) as folder:
        made = Deployment(folder, host, port, names)
        make_authority(made.ca_certificate, made.ca_key, days)
        _certify(made, days)
        for name in names:
            _fill(made.site(name), made.ca_certificate)
            write_public_key(made.node_key(name), read_public_key(made.site(name).public_key))
        write_deployment(made)
    return replace(made, path=out)


def add_site(deployment: Deployment, name: str, public_key: Path | None = None) -> Site:
    """Make one more site's folder; with a `public_key` that the site made itself, without a private key.

    Raises:
        FlamesError: the name cannot be or is taken, or the key is none, or another site's.
    """
    _check_names([name], deployment.sites)
    known = read_public_key(public_key) if public_key else None
    if known:
        _check_new_key(deployment, known)
    site = deployment.site(name)
    if site.path.exists():
        raise FlamesError(f"{site.path} is there already and is kept; move it away or choose another name")
    with _whole_folder(site.path) as folder:
        begun = replace(site, path=folder)
        _fill(begun, deployment.ca_certificate, known)
        write_public_key(deployment.node_key(name), read_public_key(begun.public_key))
    # Last: a running server looks here for sites that are new, and finds their keys.
    write_deployment(replace(deployment, sites=(*deployment.sites, name)))
    return site


def remove_site(deployment: Deployment, name: str) -> Deployment:
    """Let site `name` take part no more: a running server takes its key back, another one when it starts.

    The site's folder stays as it is. Flower never takes a key again that was taken back.

    Raises:
        FlamesError: there is no such site.
    """
    if name not in deployment.sites:
        raise FlamesError(f"there is no site '{name}', expected one of {', '.join(deployment.sites)}")
    left = replace(deployment, sites=tuple(site for site in deployment.sites if site != name))
    write_deployment(left)
    deployment.node_key(name).unlink(missing_ok=True)
    return left


def make_key(name: str, out: Path) -> tuple[Path, Path]:
    """Make site `name`'s key pair where it will be used: the private and the public key's file in `out`.

    Raises:
        FlamesError: the name cannot be, or a key is in `out` already.
    """
    site = Site(out, check_site_name(name), "")
    make_node_keys(site.private_key, site.public_key)
    return site.private_key, site.public_key


def renew_certificate(path: Path, days: int) -> Deployment:
    """Give the server of the deployment in `path` a new key and a certificate of `days` from now.

    The sites notice nothing: they know the authority, which stays.

    Raises:
        FlamesError: the authority's key is not there, or the days cannot be.
    """
    _check_days(days)
    deployment = read_deployment(path)
    _certify(deployment, days)
    return deployment


def _certify(deployment: Deployment, days: int) -> None:
    make_server_certificate(
        deployment.ca_certificate,
        deployment.ca_key,
        deployment.server_certificate,
        deployment.server_key,
        deployment.host,
        days,
    )


def _fill(site: Site, authority: Path, public_key: bytes | None = None) -> None:
    write_site(site)
    shutil.copyfile(authority, site.ca_certificate)
    if public_key:
        write_public_key(site.public_key, public_key)
    else:
        make_node_keys(site.private_key, site.public_key)


def _check_names(names: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    """Names of files: two that differ in case alone are one where the file system says so."""
    if not names:
        raise FlamesError("no site was named; pass --site NAME for each of them")
    known = {name.lower() for name in taken}
    for name in names:
        if check_site_name(name).lower() in known:
            raise FlamesError(f"there is a site '{name}' already; each needs a name of its own")
        known.add(name.lower())
    return tuple(names)


def _check_new_key(deployment: Deployment, key: bytes) -> None:
    for name in deployment.sites:
        if read_public_key(deployment.node_key(name)) == key:
            raise FlamesError(f"this is the key of site {name}; each site makes its own: `flames deploy key`")


def _check_days(days: int) -> None:
    if not 1 <= days <= LONGEST_DAYS:
        raise FlamesError(f"a certificate cannot hold for {days} days; give from 1 to {LONGEST_DAYS}")


def _check_free(out: Path) -> None:
    if (out / "deployment.toml").exists():
        raise FlamesError(
            f"{out} is a deployment already and is kept; add sites with `flames deploy add`, "
            "or choose another --out"
        )
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FlamesError(f"{out} is there already and is kept; choose another --out")


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """A private folder to fill, moved to `path` where the block ends well, removed where it fails.

    Raises:
        FlamesError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=0o700)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FlamesError(f"{path} cannot be written: {reason_of(error)}; check space and rights") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
