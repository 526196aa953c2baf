"""Checks before a federation between machines begins, at the server and at a site."""

from collections.abc import Sequence
from pathlib import Path

from flames_cli.stages.deploy.check_connection import check_connection, check_port
from flames_cli.stages.deploy.check_files import (
    check_authority,
    check_node_key,
    check_server_files,
    check_site_keys,
)
from flames_cli.stages.deploy.check_machine import check_device, check_machine, check_shards
from flames_cli.stages.deploy.findings import Finding
from flames_cli.stages.deploy.identity import check_identity
from flames_cli.stages.deploy.plugins import check_plugins
from flames_cli.store.deployment.folders import Deployment, Site


def check_server(deployment: Deployment) -> list[Finding]:
    """Return the findings at the server's machine, whether or not the server runs."""
    return [
        *check_authority(deployment.ca_certificate),
        *check_server_files(deployment),
        *check_site_keys(deployment),
        check_port(deployment.port, deployment.ca_certificate),
        *check_plugins(deployment.plugins),
        *check_machine(deployment.path),
    ]


def check_node(site: Site, shards: Sequence[Path] = (), superlink: str | None = None) -> list[Finding]:
    """Return the findings at a site's machine.

    Args:
        site: the site's folder.
        shards: the client's data; not checked if empty.
        superlink: HOST:PORT of the server; None: the address in the site's folder.

    Raises:
        FlamesError: `superlink` is not an address.
    """
    return [
        *check_authority(site.ca_certificate),
        *check_node_key(site),
        *check_identity(site),
        *check_shards(shards),
        *check_plugins(site.plugins),
        *check_machine(site.path),
        check_device(),
        *check_connection(superlink or site.superlink, site.ca_certificate),
    ]
