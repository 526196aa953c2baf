"""A federation of stub clients with secure aggregation, and everything that its server received."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from flames_cli.core.federated.choice import flames_alpha
from flames_cli.core.federated.secure_blend import INVERSE
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.client_state import OWN, OWN_FACTOR, client_state_folder
from flames_cli.fed.engines.inline import make_contexts, run_inline
from flames_cli.fed.federation import Federation, NoteOpening, no_opening_to_note
from flames_cli.fed.messages import pack_profile, unpack_task
from flames_cli.fed.modality_states import ModalityStates
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.participation import ALL_AT_ONCE
from flames_cli.fed.plan import Plan
from flames_cli.fed.secure.asked import check_asked
from flames_cli.fed.secure.client import ClientSession, answer_keys, mask_report, own_part
from flames_cli.fed.secure.messages import KEYS, SHARES, UNMASK, read_part
from flames_cli.fed.secure.own_model import with_own_weights
from flames_cli.fed.server import make_server_app
from flames_cli.store.client_state import delete_client_state_from, save_client_state
from flames_cli.store.secure_sessions import SecureFiles
from tests.support.federation import SIZE, drift, initial_weights

TOKEN = "00112233445566ff"
TRAIN = "train"
ACTIONS = (KEYS, SHARES, TRAIN, UNMASK)

Spoil = Callable[[str, str, int, Message, Callable[[], Message]], Message]
"""spoil(action, client, round, message, answer) returns the reply, or raises."""


@dataclass
class SecureRun:
    """What passed in a federation."""

    folder: Path
    saved: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    reports: dict[tuple[str, int], Any] = field(default_factory=dict)
    """Report of each client and round, which never left the client."""
    starts: dict[tuple[str, int], Mapping[str, np.ndarray]] = field(default_factory=dict)
    """Weights from which each client trained in each round."""
    asked: list[tuple[str, str, Message]] = field(default_factory=list)
    """Action, client and message of everything that the server sent."""
    replies: list[tuple[str, str, Message]] = field(default_factory=list)
    """The same of everything that it received."""

    @property
    def state(self) -> Any:
        return self.saved[-1][0]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for _, record in self.saved]


def do_as_asked(
    action: str, client: str, round_: int, message: Message, answer: Callable[[], Message]
) -> Message:
    return answer()


def run_secure(
    profiles: Sequence[Any],
    folder: Path,
    algorithm: str = "flames",
    rounds: int = 2,
    train: Callable[..., Any] = drift,
    spoil: Spoil = do_as_asked,
    resumed: Any = None,
    participation: Any = ALL_AT_ONCE,
    changes: Mapping[str, Any] | None = None,
    note_opening: NoteOpening = no_opening_to_note,
    by_modality: bool = False,
    **plan: Any,
) -> SecureRun:
    """Run a federation of stub clients on the inline engine, and return what passed.

    The clients' own code answers; only the training is arithmetic. `changes` are options of the algorithm.
    """
    of_node = dict(enumerate(profiles, 2))
    seen, app = SecureRun(folder), ClientApp()

    def settings_of(who: Any) -> NodeSettings:
        return NodeSettings((), who.client, client_state=folder)

    def files_of(who: Any, run: str) -> SecureFiles:
        return SecureFiles(client_state_folder(settings_of(who), run, who.client))

    def session_of(who: Any, message: Message) -> ClientSession:
        part = read_part(message)
        return ClientSession.load(files_of(who, part.run), part.session)

    def answering(action: str, make: Callable[[Any, Message], Message]) -> Callable[..., Message]:
        def answer(message: Message, context: Context) -> Message:
            who = of_node[context.node_id]
            seen.asked.append((action, who.client, message))
            round_ = int(message.metadata.group_id or 0)
            reply = spoil(action, who.client, round_, message, lambda: make(who, message))
            seen.replies.append((action, who.client, reply))
            return reply

        return answer

    def answer_training(who: Any, message: Message) -> Message:
        task = unpack_task(message)
        session, part = session_of(who, message), read_part(message)
        check_asked(session.terms, message)
        session.begin(part, "round", task.request.round)
        round_, place = task.request.round, client_state_folder(settings_of(who), TOKEN, who.client)
        delete_client_state_from(place, task.request.last_accepted_round + 1)
        own = with_own_weights(task, settings_of(who), who.client)
        seen.starts[who.client, round_] = own.weights
        report = train(own.request, own.weights, who)
        seen.reports[who.client, round_] = report
        reply = mask_report(session, report, who, message, task.weights)
        if task.request.secure == INVERSE:
            kept = own_part(session, report)
            save_client_state(place, round_, {OWN: report.weights, OWN_FACTOR: kept})
        return reply

    app.query()(lambda message, context: pack_profile(of_node[context.node_id], message))
    app.query(KEYS)(
        answering(KEYS, lambda who, message: answer_keys(message, lambda run: files_of(who, run), who.client))
    )
    app.query(SHARES)(
        answering(
            SHARES,
            lambda who, message: session_of(who, message).answer_shares(read_part(message), message),
        )
    )
    app.train()(answering(TRAIN, answer_training))
    app.query(UNMASK)(
        answering(
            UNMASK,
            lambda who, message: session_of(who, message).answer_unmask(read_part(message), message),
        )
    )
    options = {
        "seed": 0,
        "model": "stub",
        "model_options": {},
        "initial": initial_weights(),
        "size": SIZE,
        "run": TOKEN,
        "secure": True,
        **plan,
    }

    def save(state: Any, record: dict[str, Any]) -> None:
        seen.saved.append((state, record))

    made = Federation(
        Plan(replace(get_algorithm(algorithm), **(changes or {})), rounds, **options),
        save,
        resumed,
        seen.events.append,
        participation,
        note_opening=note_opening,
        by_modality=ModalityStates(save) if by_modality else None,
    )
    run_inline(make_server_app(lambda _: made), app, make_contexts({node: {} for node in of_node}))
    return seen


def blend_bound(largest: float, factor: float, total: float, clients: int) -> float:
    """Return how far a client's own model after one secure round may be from that of a plain round.

    With |w| ≤ A = `largest` everywhere, K = `clients`, T = `total`, c = `factor` and words of 36 fractional
    bits: S and T have errors of at most K·2⁻³⁷; so the mean of the others, (S − c·w)/(T − c), is wrong by
    at most K·2⁻³⁷·(1 + A)/(T − c), and by twice as much where it is taken for equal to w. The model has the
    share 1 − α of it; and both models are rounded to float32 at the end.
    """
    others = 3 * clients * 2.0**-37 * (1 + largest) / (total - factor)
    return (1 - flames_alpha(clients)) * others + 2 * 2.0**-24 * largest


def server_bound(largest: float) -> float:
    """Return how far a mean of a secure round may be from that of a plain round: fixed point, and float32."""
    return 2 * 2.0**-37 * max(1.0, largest) + 2 * 2.0**-24 * largest
