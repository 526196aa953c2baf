"""The ray engine: Flower's simulation runtime, which trains many clients simultaneously on one machine."""

import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flames_cli.core.cores import available_cores
from flames_cli.errors import FlamesError, install_extra
from flames_cli.fed.engines.submitted import run_submitted
from flames_cli.fed.events import OnEvent
from flames_cli.fed.jobs import Job
from flames_cli.fed.messages import PROTOCOL
from flames_cli.flower.flwr_command import FlwrCommand
from flames_cli.flower.health import wait_until_healthy
from flames_cli.flower.processes import child_environment, free_port, start, stop


@dataclass(frozen=True, slots=True)
class Resources:
    """Number of simulated clients, and the part of the machine that each of them uses."""

    n_clients: int
    cpus_per_client: int = 1
    clients_per_gpu: int = 1
    gpus: int = 0

    @property
    def simultaneous(self) -> int:
        """Number of clients that train simultaneously, at least 1."""
        by_cpu = available_cores() // self.cpus_per_client
        return max(1, min(by_cpu, self.gpus * self.clients_per_gpu) if self.gpus else by_cpu)


def check_ray(cpus_per_client: int) -> None:
    """Raise FlamesError if ray is not installed, or if a client needs more CPUs than this machine has."""
    if cpus_per_client > available_cores():
        raise FlamesError(
            f"--cpus-per-client is {cpus_per_client}, expected at most {available_cores()}, "
            "the number of cores that this process may use"
        )
    if importlib.util.find_spec("ray") is None:
        raise FlamesError(
            "--engine ray needs Flower's simulation runtime, which is not installed; "
            f"run {install_extra('ray')}, or use --engine inline"
        )


def run_ray(job: Job, nodes: Path, resources: Resources, on_event: OnEvent, log: Path) -> None:
    """Run `job` over the simulated nodes whose configurations are in `nodes`.

    A SuperLink for this run only listens on a free port of the loopback interface until the run ends. As in
    Flower's own simulations, it does not authenticate its users: on a machine with users that you do not
    trust, use the inline engine.

    Raises:
        FlamesError: ray is not installed, or the error that ended the run.
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
            cli = FlwrCommand(home, address, None)
            run_submitted(cli, job, on_event, log, nodes, _federation_config(resources))
        finally:
            stop(process)


def _federation_config(resources: Resources) -> dict[str, int | float]:
    return {
        "num_supernodes": resources.n_clients,
        "client_resources_num_cpus": resources.cpus_per_client,
        "init_args_num_cpus": available_cores(),  # ray would count the machine's
        "client_resources_num_gpus": 1 / resources.clients_per_gpu if resources.gpus else 0.0,
    }
