"""Flower's own command line, `flwr`, as a subprocess: submit a run, stop it, register a node."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from flames_cli.errors import FlamesError
from flames_cli.flower.control_api import UNREGISTERED, NodeRecord, RunRecord, list_nodes, list_runs
from flames_cli.flower.processes import child_environment, is_healthy
from flames_cli.flower.toml_pairs import config_pairs
from flames_cli.store.deployment.node_keys import read_public_key
from flames_cli.store.files.atomic import write_private
from flames_cli.store.files.parse import parse_json

MODULE = "flwr.cli.app"
"""What the console script `flwr` runs."""

CONNECTION = "flames"

FRAME = " │╭╰─╮╯"
LONGEST = 400
"""Characters of its words that an error message holds: the last ones."""

SECONDS = 120.0
"""A command may take; a slow disk makes even its start slow."""


class FlowerCli:
    """`flwr` for one SuperLink at `address` (HOST:PORT), with its configuration in the folder `home`.

    Without `root_certificates` the connection is plain HTTP: for a SuperLink on this machine alone.
    """

    def __init__(self, home: Path, address: str, root_certificates: Path | None) -> None:
        self.home = home.resolve()
        self.address = address
        self.root_certificates = None if root_certificates is None else root_certificates.resolve()
        self._write_config()

    def answers(self) -> bool:
        """Whether the SuperLink answers now."""
        return is_healthy(self.address, self.root_certificates)

    def submit(
        self,
        app: Path,
        run_config: Mapping[str, str],
        federation_config: Mapping[str, int | float] | None = None,
    ) -> int:
        """Start a run of the app in folder `app`; the run's number.

        Raises:
            FlamesError: the app, the configuration or the SuperLink is at fault.
        """
        arguments = ["run", str(app.resolve()), CONNECTION, "--run-config", config_pairs(run_config)]
        if federation_config:
            arguments += ["--federation-config", config_pairs(federation_config)]
        return int(self._run(arguments)["run-id"])

    def run_status(self, run_id: int) -> tuple[str, str]:
        """A run's status, such as running or finished:completed, and details, which may be empty.

        Raises:
            FlamesError: the SuperLink gives no answer or does not know the run.
        """
        (run,) = list_runs(self.address, self.root_certificates, run_id)
        return run.status, run.details

    def stop(self, run_id: int) -> None:
        """Stop a run.

        Raises:
            FlamesError: it is over already, or the SuperLink does not know it or gives no answer.
        """
        self._run(["stop", str(run_id), CONNECTION])

    def register(self, public_key: Path, name: str) -> int:
        """Let the node with this key (OpenSSH's format) take part; its node id, new or old.

        Raises:
            FlamesError: the key is not of a kind that Flower takes, or was taken back, or the SuperLink gives
                no answer.
        """
        known = self._node_with_key(public_key)
        if known is not None and known.status == UNREGISTERED:
            raise FlamesError(
                f"the key of {name} was taken back, and Flower never takes it again; move its folder away "
                "and make a new one with `flames deploy add`"
            )
        if known is not None:
            return known.node_id
        arguments = ["supernode", "register", str(public_key.resolve()), CONNECTION, "--name", name]
        return int(self._run(arguments)["node-id"])

    def unregister(self, node_id: int) -> None:
        """Take a node's key back, for ever; a node that is not registered is left as it is.

        Raises:
            FlamesError: the SuperLink gives no answer.
        """
        registered = {node.node_id for node in self.nodes() if node.status != UNREGISTERED}
        if node_id in registered:
            self._run(["supernode", "unregister", str(node_id), CONNECTION])

    def nodes(self) -> list[NodeRecord]:
        """Every node that the SuperLink knows, the unregistered among them.

        Raises:
            FlamesError: the SuperLink gives no answer.
        """
        return list_nodes(self.address, self.root_certificates)

    def runs(self) -> list[RunRecord]:
        """The newest runs, newest first.

        Raises:
            FlamesError: the SuperLink gives no answer.
        """
        return list_runs(self.address, self.root_certificates)

    def _node_with_key(self, public_key: Path) -> NodeRecord | None:
        # Flower's own reading of a key gives the bytes that the SuperLink keeps; it ends the program where it
        # takes a key for none, so ours comes first.
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
        """What the command answers, as JSON.

        Flower's commands end with status 0 even where they fail: `success` tells.
        """
        try:
            done = subprocess.run(
                [sys.executable, "-m", MODULE, *arguments, "--format", "json"],
                cwd=self.home,  # a pyproject.toml of the user's folder must not be taken for an app
                env=child_environment(self.home),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FlamesError(f"`flwr {arguments[0]}` did not end ({error})") from error
        answer = _last_json(done.stdout)
        if answer.get("success") is not True:
            said = str(answer.get("error-message") or "") or done.stderr or done.stdout
            raise FlamesError(f"`flwr {arguments[0]}` failed: {_in_one_line(said)}")
        return answer


def find_superlink(home: Path, port: int, root_certificates: Path) -> FlowerCli | None:
    """The SuperLink that listens on `port` of this machine, None where none answers.

    It is asked without TLS where it was started so.
    """
    address = f"127.0.0.1:{port}"
    for certificates in (root_certificates, None):
        if is_healthy(address, certificates):
            return FlowerCli(home, address, certificates)
    return None


def _last_json(text: str) -> dict[str, Any]:
    """The JSON object at the end of `text`; empty where there is none."""
    start = text.find("{")
    try:
        answer = parse_json(text[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _in_one_line(text: str) -> str:
    """What went wrong, in Flower's own words, without its frames and without what it says it is doing."""
    lines = [line.strip(FRAME) for line in text.splitlines() if not line.startswith("Using SuperLink")]
    said = " ".join(" ".join(lines).split())
    return said[-LONGEST:] or "it said nothing"
