"""Flower's command line `flwr`, run as a subprocess: it submits and stops runs, and registers nodes."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from flames_cli.errors import FlamesError
from flames_cli.flower.control_api import UNREGISTERED, NodeRecord, RunRecord, list_nodes, list_runs
from flames_cli.flower.health import date_fault, is_healthy
from flames_cli.flower.processes import child_environment
from flames_cli.flower.toml_pairs import config_pairs
from flames_cli.store.deployment.node_keys import read_public_key
from flames_cli.store.files.atomic import write_private
from flames_cli.store.files.parse import parse_json

MODULE = "flwr.cli.app"
"""Module that the console script `flwr` runs."""

CONNECTION = "flames"

FRAME = " │╭╰─╮╯"
LONGEST = 400
"""Number of characters, from the end of the command's output, that an error message contains."""

SECONDS = 120.0
"""Longest time that a command may take; with a slow disk even its start takes long."""


class FlwrCommand:
    """`flwr` for one SuperLink at `address` (HOST:PORT), with its configuration in the folder `home`.

    Without `root_certificates` the connection is plain HTTP, which is only for a SuperLink on this machine. A
    command that takes longer than `seconds` fails.
    """

    def __init__(
        self, home: Path, address: str, root_certificates: Path | None, seconds: float = SECONDS
    ) -> None:
        self.home = home.resolve()
        self.address = address
        self.root_certificates = None if root_certificates is None else root_certificates.resolve()
        self._seconds = seconds
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
        arguments = ["run", str(app.resolve()), CONNECTION, "--run-config", config_pairs(run_config)]
        if federation_config:
            arguments += ["--federation-config", config_pairs(federation_config)]
        return int(self._run(arguments)["run-id"])

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
        self._run(["stop", str(run_id), CONNECTION])

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
        arguments = ["supernode", "register", str(public_key.resolve()), CONNECTION, "--name", name]
        return int(self._run(arguments)["node-id"])

    def unregister(self, node_id: int) -> None:
        """Remove a node's key permanently; do nothing if the node is not registered.

        Raises:
            FlamesError: the SuperLink does not answer.
        """
        registered = {node.node_id for node in self.nodes() if node.status != UNREGISTERED}
        if node_id in registered:
            self._run(["supernode", "unregister", str(node_id), CONNECTION])

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
        # Flower's own function gives the bytes that the SuperLink stores, but it ends the program if the key
        # is invalid, so FLAMES' function checks the key first.
        from flwr.cli.supernode.register import try_load_public_key

        read_public_key(public_key)
        key = try_load_public_key(public_key)
        return next((node for node in self.nodes() if node.public_key == key), None)

    def _write_config(self) -> None:
        connection: dict[str, Any] = {"address": self.address}
        if self.root_certificates is None:
            connection["insecure"] = True
        else:
            connection["root-certificates"] = str(self.root_certificates)
        text = tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: connection}})
        write_private(self.home / "config.toml", text.encode())

    def _run(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Run a command and return its JSON output.

        Flower's commands end with status 0 even if they fail; the field `success` shows whether they did.
        """
        try:
            done = subprocess.run(
                [sys.executable, "-m", MODULE, *arguments, "--format", "json"],
                cwd=self.home,  # Flower would use a pyproject.toml of the user's folder as an app
                env=child_environment(self.home),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._seconds,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FlamesError(f"`flwr {arguments[0]}` did not end ({error})") from error
        answer = _last_json(done.stdout)
        if answer.get("success") is not True:
            reason = str(answer.get("error-message") or "") or done.stderr or done.stdout
            raise FlamesError(f"`flwr {arguments[0]}` failed: {_in_one_line(reason)}")
        return answer


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


def _last_json(text: str) -> dict[str, Any]:
    """Return the JSON object at the end of `text`, or an empty one if there is none."""
    start = text.find("{")
    try:
        answer = parse_json(text[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _in_one_line(text: str) -> str:
    """Return Flower's own error message without its frames and its progress messages."""
    lines = [line.strip(FRAME) for line in text.splitlines() if not line.startswith("Using SuperLink")]
    message = " ".join(" ".join(lines).split())
    return message[-LONGEST:] or "it gave no reason"
