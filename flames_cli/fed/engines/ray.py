"""The ray engine: Flower's simulation runtime, many clients at once on one machine."""

import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.fed.engines.submitted import run_submitted
from flames_cli.fed.events import OnEvent
from flames_cli.fed.jobs import Job
from flames_cli.fed.messages import PROTOCOL
from flames_cli.flower.flwr_command import FlowerCli
from flames_cli.flower.health import wait_until_healthy
from flames_cli.flower.processes import child_environment, free_port, start, stop


@dataclass(frozen=True, slots=True)
class Resources:
    """What each simulated client takes of the machine, and how many there are."""

    n_clients: int
    cpus_per_client: int = 1
    clients_per_gpu: int = 1
    gpus: int = 0

    @property
    def at_once(self) -> int:
        """Clients that train at the same time, at least 1."""
        by_cpu = (os.cpu_count() or 1) // self.cpus_per_client
        return max(1, min(by_cpu, self.gpus * self.clients_per_gpu) if self.gpus else by_cpu)


def check_ray(cpus_per_client: int) -> None:
    """Raises FlamesError where ray is not installed, or a client wants more CPUs than there are."""
    if cpus_per_client > (os.cpu_count() or 1):
        raise FlamesError(
            f"--cpus-per-client {cpus_per_client} is more than this machine has ({os.cpu_count()})"
        )
    if importlib.util.find_spec("ray") is None:
        raise FlamesError(
            "--engine ray needs Flower's simulation runtime, which is not installed; "
            "run pip install 'flames-cli[ray]', or take --engine inline"
        )


def run_ray(job: Job, nodes: Path, resources: Resources, on_event: OnEvent, log: Path) -> None:
    """Run `job` over the simulated nodes whose configurations are in `nodes`.

    A SuperLink of this run alone listens on a free port of the loopback interface while it lasts. It asks
    nobody who he is, as Flower's own simulations: on a machine with users that are not trusted, take the
    inline engine.

    Raises:
        FlamesError: ray is not installed, or what ended the run.
    """
    check_ray(resources.cpus_per_client)
    with tempfile.TemporaryDirectory(prefix="flames-ray-") as folder:
        home, port = Path(folder), free_port()
        command = [sys.executable, "-m", "flames_cli.flower", "superlink", "--flames-protocol", str(PROTOCOL)]
        command += ["--insecure", "--simulation"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
        environment = {**child_environment(home), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        process = start(command, log, environment)
        try:
            address = f"127.0.0.1:{port}"
            wait_until_healthy(process, address, None, log)
            cli = FlowerCli(home, address, None)
            run_submitted(cli, job, on_event, log, nodes, _federation_config(resources))
        finally:
            stop(process)


def _federation_config(resources: Resources) -> dict[str, int | float]:
    return {
        "num-supernodes": resources.n_clients,
        "client-resources-num-cpus": resources.cpus_per_client,
        "client-resources-num-gpus": 1 / resources.clients_per_gpu if resources.gpus else 0.0,
    }
