"""Folder of a federation between machines: the files of the server, and a folder that is sent to each site.

deployment.toml  ca.crt  ca.key
server/          server.crt  server.key  keys/NAME.pub, and files that the server writes while it runs
sites/NAME/      site.toml  ca.crt  node.key  node.pub, and files that the node writes there (identity.key, …)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from flames_cli.core.addresses import check_host, check_port, join_address, split_address
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.plugins.packages import parse_pin, pin_text
from flames_cli.store.deployment.identity import parse_identity
from flames_cli.store.files.atomic import write_text
from flames_cli.store.files.parse import parse_toml, read_text
from flames_cli.store.schema import DEPLOYMENT, SITE, Format, check_stamp, stamp

SITE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,62}")
"""Pattern of the names of sites, which become names of files and of clients."""

SECURE, REQUIRED = "secure-aggregation", "required"
"""Entry of `site.toml`, and its value for a node that takes part in no other runs."""


@dataclass(frozen=True, slots=True)
class Site:
    """Folder of a site: the client's `name` and the `superlink` to which it connects, as HOST:PORT."""

    path: Path
    name: str
    superlink: str
    plugins: tuple[str, ...] = ()
    """Packages whose plug-ins a run may use at this site, as PACKAGE==VERSION; its owner may change them."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """Other sites' identities (`identity_text`), by client, with which the node shares secure sums; with
    none, any client may take part."""
    secure_only: bool = False
    """True: the node takes part only in runs with secure aggregation."""

    @property
    def description(self) -> Path:
        """The file with the site's name and the address of its server."""
        return self.path / "site.toml"

    @property
    def ca_certificate(self) -> Path:
        """The certificate with which the node checks its server."""
        return self.path / "ca.crt"

    @property
    def private_key(self) -> Path:
        """The private key with which the node identifies itself to the server."""
        return self.path / "node.key"

    @property
    def identity(self) -> Path:
        """The private key with which the site identifies itself to the other sites; no server ever has it."""
        return self.path / "identity.key"

    @property
    def public_key(self) -> Path:
        """The public key of the node, which the server also has."""
        return self.path / "node.pub"

    @property
    def flower_home(self) -> Path:
        """Flower's folder of the node (FLWR_HOME)."""
        return self.path / "flower"

    @property
    def models(self) -> Path:
        """The folder of the site's own models, one folder for each run."""
        return self.path / "models"

    @property
    def client_state(self) -> Path:
        """The folder of the client state, which the client stores between rounds; it is called `memory` on
        disk."""
        return self.path / "memory"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Folder of the server: `host` (a name or an IP address) and `port`, and the `sites`' names, in order."""

    path: Path
    host: str
    port: int
    sites: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    """Packages whose plug-ins its runs may use, as PACKAGE==VERSION."""

    @property
    def description(self) -> Path:
        """The file with the host, port and sites."""
        return self.path / "deployment.toml"

    @property
    def superlink(self) -> str:
        """The address to which nodes connect, as HOST:PORT."""
        return join_address(self.host, self.port)

    @property
    def ca_certificate(self) -> Path:
        """The certificate of the authority that signed the server's certificate."""
        return self.path / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The key that signs servers' certificates; it never leaves the server."""
        return self.path / "ca.key"

    @property
    def server(self) -> Path:
        """The folder of the running server."""
        return self.path / "server"

    @property
    def server_certificate(self) -> Path:
        """The certificate that the server shows to nodes."""
        return self.server / "server.crt"

    @property
    def server_key(self) -> Path:
        """The private key of the server's certificate."""
        return self.server / "server.key"

    @property
    def flower_home(self) -> Path:
        """Flower's folder of the server (FLWR_HOME)."""
        return self.server / "flower"

    @property
    def database(self) -> Path:
        """Flower's database of nodes and runs."""
        return self.server / "superlink.db"

    @property
    def log(self) -> Path:
        """The log of Flower's server."""
        return self.server / "superlink.log"

    @property
    def nodes(self) -> Path:
        """The file with the node id of each site, as assigned by Flower."""
        return self.server / "nodes.json"

    def node_key(self, name: str) -> Path:
        """Return the path of site `name`'s public key in the server's folder."""
        return self.server / "keys" / f"{name}.pub"

    def site(self, name: str) -> Site:
        """Return site `name`'s folder, whether or not it exists."""
        return Site(self.path / "sites" / name, name, self.superlink, self.plugins)


def check_site_name(name: str) -> str:
    """Return `name` if it can name a file and a client.

    Raises:
        FlamesError: it cannot.
    """
    if not SITE_NAME.fullmatch(name):
        raise FlamesError(
            f"'{name}' cannot name a site; use letters, digits, '-', '_' and '.', "
            "at most 63 of them and no '.' first"
        )
    return name


def write_deployment(deployment: Deployment) -> None:
    """Write `deployment.toml`, atomically."""
    _write(deployment.description, DEPLOYMENT, _deployment_table(deployment))


def _deployment_table(deployment: Deployment) -> dict[str, Any]:
    table = {"host": deployment.host, "port": deployment.port, "sites": list(deployment.sites)}
    return {**table, **_plugins_table(deployment.plugins)}


def read_deployment(path: Path) -> Deployment:
    """Return the deployment in folder `path`.

    Raises:
        MissingArtifact: there is none.
        FlamesError: the file cannot be read, has another format or version, or has missing or wrong entries.
    """
    table = _read(path / "deployment.toml", DEPLOYMENT)
    try:
        host, port, sites = table["host"], table["port"], table["sites"]
    except KeyError as error:
        raise FlamesError(f"{path / 'deployment.toml'} has no host, port or sites; restore it") from error
    if type(port) is not int or not isinstance(host, str):
        raise FlamesError(
            f"{path / 'deployment.toml'} has the host {host!r} and the port {port!r}, expected a text and a "
            "number; restore it"
        )
    if not (isinstance(sites, list) and all(isinstance(name, str) for name in sites)):
        raise FlamesError(
            f"{path / 'deployment.toml'} has the sites {sites!r}, expected a list of names; restore it"
        )
    names = tuple(check_site_name(name) for name in sites)
    plugins = _read_plugins(table, path / "deployment.toml")
    return Deployment(path, check_host(host), check_port(port), names, plugins)


def write_site(site: Site) -> None:
    """Write `site.toml`, atomically."""
    table: dict[str, Any] = {"name": site.name, "superlink": site.superlink, **_plugins_table(site.plugins)}
    if site.secure_only:
        table[SECURE] = REQUIRED
    if site.peers:
        table["peers"] = dict(site.peers)
    _write(site.description, SITE, table)


def read_site(path: Path) -> Site:
    """Return the site in folder `path`.

    Raises:
        MissingArtifact: there is none.
        FlamesError: the file cannot be read, has another format or version, or has missing or wrong entries.
    """
    table = _read(path / "site.toml", SITE)
    name, superlink = table.get("name"), table.get("superlink")
    if not (isinstance(name, str) and isinstance(superlink, str)):
        raise FlamesError(f"{path / 'site.toml'} has no name or superlink; ask the server for the file")
    split_address(superlink)
    return Site(
        path,
        check_site_name(name),
        superlink,
        _read_plugins(table, path / "site.toml"),
        _read_peers(table, path / "site.toml"),
        _read_secure_only(table, path / "site.toml"),
    )


def check_peers(peers: Mapping[str, str]) -> dict[str, str]:
    """Return the identities of other sites, by client.

    Raises:
        FlamesError: a name or an identity has the wrong form, or two clients have the same identity.
    """
    owners: dict[bytes, str] = {}
    for name, text in peers.items():
        owner = owners.setdefault(parse_identity(text), check_site_name(name))
        if owner != name:
            raise FlamesError(
                f"the clients {owner} and {name} have the same identity, expected one of its own for each; "
                "compare them again with both sites"
            )
    return dict(peers)


def _read_peers(table: dict[str, Any], path: Path) -> dict[str, str]:
    peers = table.get("peers", {})
    if not (isinstance(peers, dict) and all(isinstance(text, str) for text in peers.values())):
        raise FlamesError(
            f'{path} has the peers {peers!r}, expected a table such as {{hospital-b = "ed25519:…"}}; '
            "change it with `flames deploy pin`"
        )
    return check_peers(peers)


def _read_secure_only(table: dict[str, Any], path: Path) -> bool:
    value = table.get(SECURE, "allowed")
    if value not in ("allowed", REQUIRED):
        raise FlamesError(
            f"{path} has the secure-aggregation {value!r}, expected 'required' or 'allowed'; correct it"
        )
    return bool(value == REQUIRED)


def _plugins_table(plugins: tuple[str, ...]) -> dict[str, list[str]]:
    return {"plugins": list(plugins)} if plugins else {}


def _read_plugins(table: dict[str, Any], path: Path) -> tuple[str, ...]:
    pins = table.get("plugins", [])
    if not (isinstance(pins, list) and all(isinstance(pin, str) and parse_pin(pin)[1] for pin in pins)):
        raise FlamesError(
            f"{path} has the plugins {pins!r}, expected a list such as ['flames-example==0.1.0']; "
            "change it with `flames deploy allow`"
        )
    return tuple(pin_text(*parse_pin(pin)) for pin in pins)


def _write(path: Path, format_: Format, table: dict[str, Any]) -> None:
    write_text(path, tomli_w.dumps({**stamp(format_), **table}))


def _read(path: Path, format_: Format) -> dict[str, Any]:
    if not path.is_file():
        raise MissingArtifact(f"no {path.name} in {path.parent}; {_WHERE[format_.name]}")
    try:
        table = parse_toml(read_text(path))
    except (OSError, ValueError) as error:
        raise FlamesError(f"{path} cannot be read ({error}); restore it or copy it again") from error
    check_stamp(table, format_, path)
    return table


_WHERE = {
    DEPLOYMENT.name: "make it with `flames deploy init`, or name its folder with --deployment",
    SITE.name: "name with --site the folder that the server gave to this site",
}
