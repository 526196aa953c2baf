"""Time until each modality has its last model, with rounds in step and with rounds by modality.

    python benchmarks/modalities.py --rounds 20

The sites are simulated: each replies after a time that is drawn by seed, client and round, the same in both
ways, and trains nothing. The server, its rounds and its waiting are those of a run between real nodes.
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
from flwr.app import Context, Message, MessageType
from flwr.clientapp import ClientApp

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import Report, State
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines.inline import InlineGrid, make_contexts, run_on
from flames_cli.fed.events import Event, ModalityDone, RoundDone
from flames_cli.fed.federation import Federation
from flames_cli.fed.messages import Profile, pack_profile, pack_report, unpack_task
from flames_cli.fed.modality_states import ModalityStates
from flames_cli.fed.plan import Plan
from flames_cli.fed.server import make_server_app

SITES = {
    **{f"mri-{number}": ("MRI", 1.0) for number in range(1, 5)},
    **{f"ct-{number}": ("CT", 0.5) for number in range(1, 4)},
    **{f"us-{number}": ("US", 0.2) for number in range(1, 4)},
}
"""Modality of each site, and the median of its time for a round in seconds."""

SPREAD = 0.5
"""Standard deviation of the logarithm of a site's times: it is busy with other work now and then."""

SIZE, SEED = 8, 0


class TimedGrid(InlineGrid):
    """A grid whose clients reply after the time that each of their rounds takes."""

    def __init__(self, app: ClientApp, contexts: Mapping[int, Context]) -> None:
        super().__init__(app, contexts)
        self._ready: dict[str, float] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages, of which the clients begin to work on each now."""
        listed = list(messages)
        numbers = super().push_messages(listed)
        for number, message in zip(numbers, listed, strict=True):
            seconds = 0.0
            if message.metadata.message_type == MessageType.TRAIN:
                request = unpack_task(message).request
                seconds = seconds_of(request.client, request.round)
            self._ready[number] = time.monotonic() + seconds
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the first reply that is ready."""
        now = time.monotonic()
        return super().pull_messages([number for number in message_ids if self._ready[number] <= now])


def seconds_of(client: str, round_: int) -> float:
    """Return the time that a client needs for a round."""
    factor = np.exp(SPREAD * derive_rng(SEED, "duration", client, round_).standard_normal())
    return float(SITES[client][1] * factor)


def measure(rounds: int, by_modality: bool) -> tuple[dict[str, float], State]:
    """Run the federation; return the seconds until each modality had its last model, and the last state."""
    done: dict[str, float] = {}
    states: list[State] = []

    def listen(event: Event) -> None:
        now = round(time.monotonic() - started, 2)
        if isinstance(event, RoundDone):
            done["all"] = now
            if not by_modality:
                done.update(dict.fromkeys((modality for modality, _ in SITES.values()), now))
        elif isinstance(event, ModalityDone):
            done[event.modality] = now

    nodes = dict(enumerate(SITES, 2))
    plan = Plan(get_algorithm("flames"), rounds, SEED, "stub", {}, make_weights(), SIZE)
    federation = Federation(plan, lambda state, _: states.append(state), on_event=listen)
    if by_modality:
        federation = replace(federation, by_modality=ModalityStates(federation.save))
    grid = TimedGrid(make_client(nodes), make_contexts({node: {} for node in nodes}))
    started = time.monotonic()
    run_on(grid, make_server_app(lambda _: federation))
    return done, states[-1]


def make_weights() -> Weights:
    """Return the weights of a small model."""
    return {"weight": derive_rng(SEED, "weights").standard_normal((64, 64), np.float32)}


def make_client(nodes: Mapping[int, str]) -> ClientApp:
    """Return a client that moves its model by its name and round, and trains nothing."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        client = nodes[context.node_id]
        return pack_profile(Profile(client, SITES[client][0], "organ", 10, 1, SIZE), message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        task, client = unpack_task(message), nodes[context.node_id]
        step = derive_rng(SEED, client, task.request.round).standard_normal((64, 64), np.float32)
        moved = {"weight": (task.weights["weight"] * np.float32(0.9) + step).astype(np.float32)}
        report = Report(client, SITES[client][0], moved, 10, 1, {"train_loss": 0.5}, round=task.request.round)
        return pack_report(report, message)

    return app


def main() -> None:
    """Measure both ways, check that the models are equal bit for bit, and print the seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    logging.getLogger("flwr").setLevel(logging.ERROR)
    step, in_step = measure(rounds, by_modality=False)
    own, by_modality = measure(rounds, by_modality=True)
    for client in SITES:
        if not np.array_equal(in_step.personal[client]["weight"], by_modality.personal[client]["weight"]):
            raise FlamesError(f"the models of {client} differ; expected the same bits in both ways")
    print(json.dumps({"rounds": rounds, "in step": step, "by modality": own}))


if __name__ == "__main__":
    main()
