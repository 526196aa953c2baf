"""One federation of `scale.py` in its own process: prints peak memory and seconds of a round as JSON.

    python benchmarks/scale_arm.py flower 10 --megabytes 54 --rounds 2

Its clients return the received weights plus a constant, so that the figures show the server and the messages
but no training. All servers run over the same in-process Grid. The arms that end with `-files` also write
what a run writes after each round: its line and its checkpoint.
"""

import argparse
import atexit
import json
import logging
import math
import os
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
import psutil
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.allocator import keep_freed_memory
from flames_cli.core.federated.reports import Report, State
from flames_cli.core.federated.shelf import IN_MEMORY, Shelf
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines.inline import FIRST_NODE, make_contexts, run_inline
from flames_cli.fed.federation import Federation, Save, nothing_to_save
from flames_cli.fed.messages import ARRAYS, METRICS, TRAIN, Profile, pack_profile, pack_report, unpack_task
from flames_cli.fed.plan import Plan
from flames_cli.fed.records import record_of
from flames_cli.fed.server import make_server_app
from flames_cli.stages.federate.run_files import make_round_saver, open_spool
from flames_cli.store.runs import RunFolder

FILES = "-files"
ARMS = ("fedavg", "flames", "flower", f"fedavg{FILES}", f"flames{FILES}")
STEP, EXAMPLES, SIZE = 0.25, 100, 8
WITNESS = "0.norm.weight"
"""A small entry, by which the script checks that the rounds have changed the weights."""


@dataclass
class Watch:
    """Times that are recorded at the end of every round and by the clients."""

    wall: list[float] = field(default_factory=list)
    """Wall time in seconds, at the start of the first round and at the end of each."""
    processor: list[float] = field(default_factory=list)
    """Processor time in seconds, at the same moments as `wall`."""
    clients: list[float] = field(default_factory=list)
    """Part of `processor` that the clients used."""
    in_clients: float = 0.0
    witness: float = 0.0

    def end_round(self, weights: Weights) -> None:
        """Record the end of a round, or the start of the first one, with these weights."""
        self.witness = float(weights[WITNESS].mean())
        self.clients.append(self.in_clients)
        self.processor.append(time.process_time())
        self.wall.append(time.perf_counter())


def main() -> None:
    """Run the federation and print its figures."""
    options = parse_options()
    print(json.dumps(measure(options.arm, options.clients, options.megabytes, options.rounds)))


def measure(arm: str, n_clients: int, megabytes: float, rounds: int) -> dict[str, float]:
    """Run a federation and return its figures by name: seconds, and memory in MB."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    keep_freed_memory()  # as in the process of a run, where training begins with it
    weights = make_weights(megabytes)
    watch = Watch()
    server = make_server(arm, weights, rounds + 1, watch)
    contexts = make_contexts({FIRST_NODE + i: {"client": f"client-{i:03d}"} for i in range(n_clients)})
    base, held = peak_mb(), psutil.Process().memory_info().rss / 1e6
    with PrivateMemory() as private:
        run_inline(server, make_client(watch), contexts)
    expected = float(weights[WITNESS].mean()) + STEP * (rounds + 1)
    if abs(watch.witness - expected) > 1e-3:
        raise FlamesError(f"'{WITNESS}' is {watch.witness} on average after the rounds, expected {expected}")
    wall, processor, clients = (
        statistics.fmean(np.diff(marks)[1:]) for marks in (watch.wall, watch.processor, watch.clients)
    )
    figures = {
        "model_mb": sum(array.nbytes for array in weights.values()) / 1e6,
        "base_mb": base,
        "held_mb": held,
        "peak_mb": peak_mb() - base,
        "private_mb": private.peak_mb - private.base_mb,
        "seconds": wall,
        "processor_seconds": processor,
        "server_processor_seconds": processor - clients,
    }
    return {name: round(value, 4) for name, value in figures.items()}


def parse_options() -> argparse.Namespace:
    """Return the options: arm, number of clients, model size, and rounds measured after a first one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("clients", type=int)
    parser.add_argument("--megabytes", type=float, default=54)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


def make_weights(megabytes: float) -> Weights:
    """Return float32 weights of about that size: 24 convolutions of growing width, each with a BatchNorm."""
    width = round((megabytes * 1e6 / 4 / sum(9 * 6 * scale**2 for scale in (1, 2, 4, 8))) ** 0.5)
    rng = derive_rng(0, "benchmark")
    weights: Weights = {}
    for block in range(24):
        n = width * 2 ** (block // 6)
        weights[f"{block}.conv.weight"] = rng.standard_normal((n, n, 3, 3), np.float32)
        for name in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{block}.norm.{name}"] = rng.random(n, np.float32)
    return weights


def make_server(arm: str, weights: Weights, rounds: int, watch: Watch) -> ServerApp:
    """Return the server of an arm, which calls `watch` after every round."""
    if arm == "flower":
        return make_flower(weights, rounds, watch)
    return make_ours(arm.removesuffix(FILES), weights, rounds, watch, arm.endswith(FILES))


def make_ours(strategy: str, weights: Weights, rounds: int, watch: Watch, has_files: bool) -> ServerApp:
    """Return FLAMES' own server, with the files of a run or without."""
    folder = Path(tempfile.mkdtemp(prefix="scale-")) if has_files else None
    if folder:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)

    def open_federation(_: object) -> Federation:
        watch.end_round(weights)
        store, shelf = open_files(folder) if folder else (nothing_to_save, IN_MEMORY)

        def save(state: State, record: dict[str, Any]) -> None:
            store(state, record)
            watch.end_round(next(iter(state.server.values())))

        plan = Plan(get_algorithm(strategy), rounds, 0, "stub", {}, weights, SIZE)
        return Federation(plan, save, shelf=shelf)

    return make_server_app(open_federation)


def open_files(folder: Path) -> tuple[Save, Shelf]:
    """Return what `flames federate` calls after a round, and the place of the clients' models."""
    run = RunFolder(folder)
    spool = open_spool(run)
    return make_round_saver(run, FederateConfig(), spool), spool


def make_flower(weights: Weights, rounds: int, watch: Watch) -> ServerApp:
    """Return a server with Flower's stock FedAvg."""
    app = ServerApp()

    def evaluate(_: int, arrays: ArrayRecord) -> None:
        watch.end_round({WITNESS: arrays[WITNESS].numpy()})

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 (Flower fixes the signature)
        strategy = FedAvg(fraction_evaluate=0.0)
        strategy.start(grid, flower_record(weights), num_rounds=rounds, evaluate_fn=evaluate)

    return app


def make_client(watch: Watch) -> ClientApp:
    """Return a client that answers FLAMES' messages and those of Flower's strategies."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        node = context.node_config
        client = str(node.get("client", f"client-{node.get('partition-id')}"))  # a simulation has no names
        return pack_profile(Profile(client, "MRI", "brain", EXAMPLES, 1, SIZE), message)

    @app.train()
    def train(message: Message, context: Context) -> Message:  # noqa: ARG001 (Flower fixes the signature)
        started = time.process_time()
        ours = TRAIN in message.content
        reply = (answer_flames if ours else answer_flower)(message)
        watch.in_clients += time.process_time() - started
        return reply

    return app


def answer_flames(message: Message) -> Message:
    """Return a report for FLAMES' server."""
    task = unpack_task(message)
    return pack_report(Report(task.request.client, "MRI", move(task.weights), EXAMPLES, 1), message)


def answer_flower(message: Message) -> Message:
    """Return a reply for Flower's strategies."""
    weights = move({name: array.numpy() for name, array in record_of(message, ARRAYS, ArrayRecord).items()})
    metrics = MetricRecord({"num-examples": EXAMPLES})
    return Message(RecordDict({ARRAYS: flower_record(weights), METRICS: metrics}), reply_to=message)


def flower_record(weights: Weights) -> ArrayRecord:
    """Return weights as Flower's own strategies expect them: one array for each entry."""
    return ArrayRecord({name: Array(array) for name, array in weights.items()})


def move(weights: Weights) -> Weights:
    """Return weights plus STEP, in place of training."""
    return {name: array + np.float32(STEP) for name, array in weights.items()}


class PrivateMemory:
    """Peak of the memory that the system cannot free by itself: all but the pages of files on the disk.

    Linux counts both; on other systems the figures are not known.
    """

    SECONDS = 0.005

    def __init__(self) -> None:
        self.base_mb = self.peak_mb = self._read()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PrivateMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.SECONDS):
            self.peak_mb = max(self.peak_mb, self._read())

    @staticmethod
    def _read() -> float:
        try:
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        except OSError:
            return math.nan
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon:"))


def peak_mb() -> float:
    """Return the peak memory of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
