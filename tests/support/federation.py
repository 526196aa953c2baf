"""A federation of stub clients, whose training is arithmetic, and the messages that passed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flwr.app import Context, Message, MessageType
from flwr.clientapp import ClientApp

from flames_cli.core.federated.buffering import Buffering
from flames_cli.core.federated.choice import Choice
from flames_cli.core.federated.reports import Report
from flames_cli.core.rng import derive_rng
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines.inline import InlineGrid, make_contexts, run_inline, run_on
from flames_cli.fed.federation import EarlierRounds, Federation
from flames_cli.fed.final_report import pack_final
from flames_cli.fed.messages import Profile, pack_profile, pack_report, unpack_task
from flames_cli.fed.modality_states import ModalityStates
from flames_cli.fed.pace import USUAL_PACE, Pace
from flames_cli.fed.participation import ALL_AT_ONCE
from flames_cli.fed.plan import Plan
from flames_cli.fed.server import make_server_app
from flames_cli.fed.server_delivery import Delivery
from flames_cli.fed.virtual_clock import VirtualClock

SIZE = 8


def make_profile(client: str, modality: str = "MRI", n_train: int = 10, **changes: Any) -> Profile:
    """Return what a client reports about itself."""
    about = {"client": client, "modality": modality, "organ": "brain", "n_val": 1, "size": SIZE}
    return Profile(**{**about, **changes}, n_train=n_train)


@dataclass
class Watched:
    """What passed in a federation of stubs."""

    requests: list[tuple[Any, dict[str, np.ndarray]]] = field(default_factory=list)
    tasks: list[Any] = field(default_factory=list)
    reports: list[Any] = field(default_factory=list)
    saved: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    tests: list[Any] = field(default_factory=list)
    final: Any = None
    joined: list[Any] = field(default_factory=list)
    """The profiles of each call of `save_clients`."""

    @property
    def state(self) -> Any:
        return self.saved[-1][0]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for _, record in self.saved]

    def received(self, round_: int) -> dict[str, dict[str, np.ndarray]]:
        """{client: the weights that it got in `round_`}."""
        return {request.client: weights for request, weights in self.requests if request.round == round_}

    def reported(self, round_: int) -> dict[str, Any]:
        """{client: its report of `round_`}."""
        names = [request.client for request, _ in self.requests if request.round == round_]
        first = next(i for i, (request, _) in enumerate(self.requests) if request.round == round_)
        return dict(zip(names, self.reports[first:], strict=False))


def initial_weights() -> dict[str, np.ndarray]:
    return {"conv.weight": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "count": np.array(3)}


def drift(request: Any, weights: Mapping[str, np.ndarray], who: Any) -> Any:
    """Training that moves every client elsewhere, by its name, its round and what it received."""
    step = derive_rng(request.seed, request.client, request.round).normal(size=(2, 3))
    moved = {
        "conv.weight": (weights["conv.weight"] * 0.9 + step).astype(np.float32),
        "count": weights["count"] + 1,
    }
    control = {"conv.weight": step.astype(np.float32)} if request.rule == "scaffold" else None
    return Report(who.client, who.modality, moved, who.n_train, 1, {"train_loss": 0.5}, control)


class SlowGrid(InlineGrid):
    """A grid whose nodes train only when their reply was asked for this many times, as `delays` says."""

    def __init__(self, app: ClientApp, contexts: Mapping[int, Context], delays: Mapping[int, int]) -> None:
        super().__init__(app, contexts)
        self._delays = delays
        self._left: dict[str, int] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; the first of a node, which asks for its profile, is answered immediately."""
        listed = list(messages)
        numbers = super().push_messages(listed)
        for number, message in zip(numbers, listed, strict=True):
            is_query = message.metadata.message_type == MessageType.QUERY
            self._left[number] = 0 if is_query else self._delays[message.metadata.dst_node_id]
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the first reply that is ready."""
        wanted = list(message_ids)
        ready = [number for number in wanted if self._left[number] <= 0]
        self._left |= {number: self._left[number] - 1 for number in wanted}
        return super().pull_messages(ready)


def run_federation(
    profiles: Sequence[Any],
    algorithm: str = "flames",
    rounds: int = 2,
    train: Callable[..., Any] = drift,
    nodes: Sequence[int] | None = None,
    resumed: Any = None,
    watched: Watched | None = None,
    describe: Callable[..., Any] | None = None,
    answer: Callable[..., Any] | None = None,
    on_event: Callable[[Any], None] | None = None,
    participation: Any = None,
    test: Callable[..., Any] | None = None,
    examine: Callable[..., Any] | None = None,
    earlier: EarlierRounds | None = None,
    delivery: Delivery | None = None,
    keep: Callable[..., Any] | None = None,
    on_save: Callable[[Any], None] = lambda state: None,
    pace: Pace = USUAL_PACE,
    by_modality: Callable[..., ModalityStates] | None = None,
    delays: Mapping[str, int] | None = None,
    buffering: Buffering | None = None,
    clock: VirtualClock | None = None,
    **plan: Any,
) -> Watched:
    """Run a federation of stub clients, one for each profile, on the inline engine; return what passed.

    `train(request, weights, profile)` returns a Report. `describe` and `answer` (a profile or a report, and
    the message → the reply) replace the functions that pack replies; `keep` (message, profile → reply) stores
    a final model. `nodes` gives the numbers of the nodes. With `by_modality`, such as ModalityStates, each
    modality does its own rounds. The clients in `delays` reply after that many pulls. With `buffering`, which
    needs `by_modality`, clients do not wait for each other; in a simulation `clock` decides their order.
    """
    of_node = dict(zip(nodes or range(2, 2 + len(profiles)), profiles, strict=True))
    seen = watched or Watched()
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return (describe or pack_profile)(of_node[context.node_id], message)

    @app.train()
    def run(message: Message, context: Context) -> Message:
        task = unpack_task(message)
        # A client that may choose takes the blend of FLAMES.
        request, weights = task.request, task.weights if task.blend is None else task.blend
        seen.tasks.append(task)
        seen.requests.append((request, weights))
        report = train(request, weights, of_node[context.node_id])
        if task.prior and report.choice is None:
            report = replace(report, choice=Choice("flames"))
        seen.reports.append(report)
        return (answer or pack_report)(report, message)

    @app.evaluate()
    def run_test(message: Message, context: Context) -> Message:
        assert test is not None
        return test(unpack_task(message), of_node[context.node_id], message)

    @app.evaluate("final")
    def run_final(message: Message, context: Context) -> Message:
        assert examine is not None
        return pack_final(examine(unpack_task(message), of_node[context.node_id]), message)

    @app.evaluate("keep")
    def run_keep(message: Message, context: Context) -> Message:
        assert keep is not None
        return keep(message, of_node[context.node_id])

    def save(state: Any, record: dict[str, Any]) -> None:
        seen.saved.append((state, record))
        on_save(state)

    options = {
        "seed": 0,
        "model": "stub",
        "model_options": {},
        "initial": initial_weights(),
        "size": SIZE,
        **plan,
    }
    states = by_modality(save) if by_modality else None
    made = Federation(
        Plan(replace(get_algorithm(algorithm), buffering=buffering), rounds, **options),
        save,
        resumed,
        on_event or seen.events.append,
        participation or ALL_AT_ONCE,
        (lambda *told: seen.tests.append(told)) if test else None,
        pace=pace,
        save_final=(lambda *found: setattr(seen, "final", found[0])) if examine else None,
        earlier=earlier,
        delivery=delivery,
        save_clients=lambda profiles: seen.joined.append(list(profiles)),
        by_modality=states,
        clock=clock,
    )
    server = make_server_app(lambda _: made)
    contexts = make_contexts({node: {} for node in of_node})
    if delays:
        slow = {node: delays.get(profile.client, 0) for node, profile in of_node.items()}
        run_on(SlowGrid(app, contexts, slow), server)
    else:
        run_inline(server, app, contexts)
    return seen
