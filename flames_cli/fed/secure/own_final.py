"""The client's own final model in a run with secure aggregation, which the server does not have.

In the pass after the last round a client stores what it has found: BatchNorm's statistics on its own images,
or all entries of the model that it has chosen. Its evaluation and its stored model take these entries.
"""

from dataclasses import replace

from flames_cli.arrays import Weights
from flames_cli.fed.client_state import FINAL, client_state_folder
from flames_cli.fed.messages import TrainRequest, TrainTask
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.secure.own_model import find_expected, with_own_weights
from flames_cli.store.client_state import load_client_state_of, save_client_state

STORED_PASSES = 16
"""Number of rounds whose final entries are stored: the best rounds of a run that was continued, and its last
ones."""


def save_final_entries(settings: NodeSettings, request: TrainRequest, client: str, entries: Weights) -> None:
    """Store entries of the client's model after the round of `request`.

    Raises:
        FlamesError: the folder cannot be written.
    """
    if not entries:  # the weights of the server's message are complete
        return
    folder = client_state_folder(settings, request.run, client) / FINAL
    save_client_state(folder, request.round, {FINAL: entries}, STORED_PASSES)


def with_final_model(task: TrainTask, settings: NodeSettings, client: str, round_: int) -> TrainTask:
    """Return `task` with the weights of the client's own model after `round_`, if no server has it.

    Raises:
        FlamesError: the client state is damaged, or does not fit the server's message.
    """
    if not task.request.secure:
        return task
    own = with_own_weights(task, settings, client)
    folder = client_state_folder(settings, task.request.run, client)
    if task.sum and own.prior:
        expected = find_expected(folder, task.sum, task.weights)
        own = replace(own, weights=expected, blend=None, prior=None)
    stored = load_client_state_of(folder / FINAL, round_) or {}
    known = {name: array for name, array in stored.get(FINAL, {}).items() if name in own.weights}
    return replace(own, weights={**own.weights, **known})
