"""The superlink engine: a federation of real nodes, by the SuperLink that `flames deploy server` runs."""

from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.fed.deployed.flower_cli import FlowerCli
from flames_cli.fed.deployed.processes import is_healthy
from flames_cli.fed.engines.submitted import run_submitted
from flames_cli.fed.events import OnEvent
from flames_cli.fed.jobs import Job


def find_superlink(home: Path, port: int, root_certificates: Path) -> FlowerCli:
    """The SuperLink that listens on `port` of this machine; one without TLS where it was started so.

    Raises:
        FlamesError: none answers.
    """
    address = f"127.0.0.1:{port}"
    for certificates in (root_certificates, None):
        if is_healthy(address, certificates):
            return FlowerCli(home, address, certificates)
    raise FlamesError(
        f"no server answers at port {port} of this machine; start it with `flames deploy server` here, "
        "and look with `flames deploy status`"
    )


def run_superlink(cli: FlowerCli, job: Job, on_event: OnEvent, log: Path) -> None:
    """Run `job` over the nodes that have joined the SuperLink of `cli`.

    Raises:
        FlamesError: what ended the run.
    """
    run_submitted(cli, job, on_event, log)
