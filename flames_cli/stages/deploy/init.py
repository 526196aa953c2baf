"""The folder of a federation between machines: create it, add sites, renew its certificate.

A folder is created completely or not at all, and an existing key is never overwritten.
"""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flames_cli.core.addresses import check_host, check_port
from flames_cli.errors import FlamesError
from flames_cli.stages.deploy.plugins import pin_installed, with_pins
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


def init_deployment(
    out: Path, host: str, port: int, sites: Sequence[str], days: int, plugins: Sequence[str] = ()
) -> Deployment:
    """Make a deployment: an authority, the server's certificate, and for each site a folder with a key pair.

    Args:
        out: the folder, which must not exist or be empty.
        host: the name or IP address by which the sites reach the server.
        port: port of the server.
        sites: names of the sites.
        days: number of days for which the server's certificate is valid.
        plugins: packages whose plug-ins its runs may use, as PACKAGE or PACKAGE==VERSION.

    Raises:
        FlamesError: `out` is not empty, the host, the port, a name or the number of days is not allowed, or a
            package is not installed here.
    """
    host = check_host(host)
    check_port(port)
    _check_days(days)
    names = _check_names(sites, ())
    _check_free(out)
    pins = pin_installed(plugins)
    with _complete_folder(out) as folder:
        made = Deployment(folder, host, port, names, pins)
        make_authority(made.ca_certificate, made.ca_key, days)
        _certify(made, days)
        for name in names:
            _fill(made.site(name), made.ca_certificate)
            write_public_key(made.node_key(name), read_public_key(made.site(name).public_key))
        write_deployment(made)
    return replace(made, path=out)


def add_site(
    deployment: Deployment, name: str, public_key: Path | None = None, plugins: Sequence[str] = ()
) -> Site:
    """Make the folder of another site; without a private key if the site made the key of `public_key` itself.

    The site may use the deployment's plug-in packages, and `plugins`, which then belong to the deployment
    too.

    Raises:
        FlamesError: the name is not allowed or in use, the key is invalid or another site's, or a package is
            not installed here.
    """
    _check_names([name], deployment.sites)
    known = read_public_key(public_key) if public_key else None
    if known:
        _check_new_key(deployment, known)
    pins = with_pins(deployment.plugins, pin_installed(plugins))
    site = replace(deployment.site(name), plugins=pins)
    if site.path.exists():
        raise FlamesError(
            f"{site.path} exists already and is not overwritten; move it away or choose another name"
        )
    with _complete_folder(site.path) as folder:
        begun = replace(site, path=folder)
        _fill(begun, deployment.ca_certificate, known)
        write_public_key(deployment.node_key(name), read_public_key(begun.public_key))
    # Last: a running server reads the new sites here, and needs their keys then.
    write_deployment(replace(deployment, sites=(*deployment.sites, name), plugins=pins))
    return site


def remove_site(deployment: Deployment, name: str) -> Deployment:
    """Remove site `name` from the federation: the server removes its key, now or at its next start.

    The site's folder stays unchanged. Flower never accepts a removed key again.

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
    """Make the key pair of site `name` in folder `out`, and return the private and the public key's file.

    Raises:
        FlamesError: the name is not allowed, or `out` contains a key already.
    """
    site = Site(out, check_site_name(name), "")
    make_node_keys(site.private_key, site.public_key)
    return site.private_key, site.public_key


def renew_certificate(path: Path, days: int) -> Deployment:
    """Make a new key and a certificate for `days` from now for the server of the deployment in `path`.

    The sites need no change: they trust the authority, which stays the same.

    Raises:
        FlamesError: the authority's key does not exist, or the number of days is not allowed.
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
    """Return valid, different names; case is ignored, as some file systems do."""
    if not names:
        raise FlamesError("no site was given; pass --site NAME for each site")
    known = {name.lower() for name in taken}
    for name in names:
        if check_site_name(name).lower() in known:
            raise FlamesError(f"there is a site '{name}' already; choose another name")
        known.add(name.lower())
    return tuple(names)


def _check_new_key(deployment: Deployment, key: bytes) -> None:
    for name in deployment.sites:
        if read_public_key(deployment.node_key(name)) == key:
            raise FlamesError(
                f"this is the key of site {name}; each site makes its own key with `flames deploy key`"
            )


def _check_days(days: int) -> None:
    if not 1 <= days <= LONGEST_DAYS:
        raise FlamesError(
            f"a certificate cannot be valid for {days} days; give a number from 1 to {LONGEST_DAYS}"
        )


def _check_free(out: Path) -> None:
    if (out / "deployment.toml").exists():
        raise FlamesError(
            f"{out} is a deployment already and is not overwritten; add sites with `flames deploy add`, "
            "or choose another --out"
        )
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FlamesError(f"{out} exists already and is not overwritten; choose another --out")


@contextmanager
def _complete_folder(path: Path) -> Iterator[Path]:
    """Return a private folder to fill; it is moved to `path` after the block, or removed if the block fails.

    Raises:
        FlamesError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=0o700)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FlamesError(
            f"{path} cannot be written: {reason_of(error)}; check the free space and the permissions"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
