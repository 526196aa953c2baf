"""The operator of a SuperLink: runs are submitted and stopped, nodes registered, and both listed.

Flower's own command `flwr` does the same; each start of it takes seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from flames_cli.errors import FlamesError
from flames_cli.flower.control_api import (
    UNREGISTERED,
    NodeRecord,
    RunRecord,
    list_nodes,
    list_runs,
    register_node,
    start_run,
    stop_run,
    unregister_node,
)
from flames_cli.flower.fab import build_fab
from flames_cli.flower.health import date_fault, is_healthy
from flames_cli.store.deployment.node_keys import read_public_key
from flames_cli.store.files.atomic import write_private

CONNECTION = "flames"


class FlwrCommand:
    """The operator of one SuperLink at `address` (HOST:PORT).

    Without `root_certificates` the connection is plain HTTP, which is only for a SuperLink on this machine.
    The folder `home` gets the configuration with which `flwr` reaches the same SuperLink.
    """

    def __init__(self, home: Path, address: str, root_certificates: Path | None) -> None:
        self.home = home.resolve()
        self.address = address
        self.root_certificates = None if root_certificates is None else root_certificates.resolve()
        self._write_config()

    def answers(self) -> bool:
        """Return whether the SuperLink answers now."""
        return is_healthy(self.address, self.root_certificates)

    def submit(
        self,
        app: Path,
        run_config: Mapping[str, str],
        federation_config: Mapping[str, int | float] | None = None,
    ) -> int:
        """Start a run of the app in folder `app`, and return the run's number.

        Raises:
            FlamesError: the app or the configuration is wrong, or the SuperLink does not answer.
        """
        return start_run(self.address, self.root_certificates, build_fab(app), run_config, federation_config)

    def run_status(self, run_id: int) -> tuple[str, str]:
        """Return the status of a run (`running`, `finished:completed` …) and its details, which may be empty.

        Raises:
            FlamesError: the SuperLink does not answer or does not know the run.
        """
        (run,) = list_runs(self.address, self.root_certificates, run_id)
        return run.status, run.details

    def stop(self, run_id: int) -> None:
        """Stop a run.

        Raises:
            FlamesError: the run has ended, or the SuperLink does not answer or does not know the run.
        """
        stop_run(self.address, self.root_certificates, run_id)

    def register(self, public_key: Path, name: str) -> int:
        """Register the node with this public key (OpenSSH's format), and return its node id.

        A node that is registered already keeps its id.

        Raises:
            FlamesError: Flower does not accept this kind of key, the key was removed before, or the SuperLink
                does not answer.
        """
        known = self._node_with_key(public_key)
        if known is not None and known.status == UNREGISTERED:
            raise FlamesError(
                f"the key of {name} was removed before, and Flower never accepts it again; move the "
                "site's folder away and make a new one with `flames deploy add`"
            )
        if known is not None:
            return known.node_id
        return register_node(self.address, self.root_certificates, _read_key(public_key), name)

    def unregister(self, node_id: int) -> None:
        """Remove a node's key permanently; do nothing if the node is not registered.

        Raises:
            FlamesError: the SuperLink does not answer.
        """
        registered = {node.node_id for node in self.nodes() if node.status != UNREGISTERED}
        if node_id in registered:
            unregister_node(self.address, self.root_certificates, node_id)

    def nodes(self) -> list[NodeRecord]:
        """Return every node that the SuperLink knows, including those whose key was removed.

        Raises:
            FlamesError: the SuperLink does not answer.
        """
        return list_nodes(self.address, self.root_certificates)

    def runs(self) -> list[RunRecord]:
        """Return the newest runs, newest first.

        Raises:
            FlamesError: the SuperLink does not answer.
        """
        return list_runs(self.address, self.root_certificates)

    def _node_with_key(self, public_key: Path) -> NodeRecord | None:
        key = _read_key(public_key)
        return next((node for node in self.nodes() if node.public_key == key), None)

    def _write_config(self) -> None:
        connection: dict[str, Any] = {"address": self.address}
        if self.root_certificates is None:
            connection["insecure"] = True
        else:
            connection["root-certificates"] = str(self.root_certificates)
        text = tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: connection}})
        write_private(self.home / "config.toml", text.encode())


def _read_key(public_key: Path) -> bytes:
    """Return the key of that file as the SuperLink stores it.

    Flower's own function gives these bytes, but it ends the program if the key is invalid, so the key is
    checked before.
    """
    from flwr.cli.supernode.register import try_load_public_key

    read_public_key(public_key)
    return bytes(try_load_public_key(public_key))


def find_superlink(home: Path, port: int, root_certificates: Path) -> FlwrCommand | None:
    """Return the SuperLink that listens on `port` of this machine, or None if no SuperLink answers.

    The connection is plain HTTP if the SuperLink was started without TLS.

    Raises:
        FlamesError: a server answers, whose certificate has expired or is not valid yet.
    """
    address = f"127.0.0.1:{port}"
    for certificates in (root_certificates, None):
        if is_healthy(address, certificates):
            return FlwrCommand(home, address, certificates)
    if fault := date_fault(address, root_certificates):
        raise FlamesError(
            f"the server at port {port} of this machine cannot be used: {fault}; `flames deploy check` shows "
            "the dates: run `flames deploy renew` and restart the server, or set the clock"
        )
    return None
