"""The client's own model in a run with secure aggregation: from its own report and the sum over its group."""

from collections.abc import Callable
from dataclasses import replace

from flames_cli.arrays import Weights
from flames_cli.core.federated.differences import find_difference
from flames_cli.core.federated.running_sum import cast
from flames_cli.core.federated.secure_blend import personalise
from flames_cli.core.federated.sum_layout import from_stored
from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import OWN, OWN_FACTOR, client_state_folder
from flames_cli.fed.messages import TrainTask
from flames_cli.fed.node import NodeSettings
from flames_cli.store.client_state import load_client_state_of

FACTOR = "factor"
"""Name of the only entry of the state OWN_FACTOR."""


def with_own_weights(
    task: TrainTask, settings: NodeSettings, client: str, on_note: Callable[[str], None]
) -> TrainTask:
    """Return `task` with the weights of the client's own model, if the server sent a sum in their place.

    All that a client does with its own model begins here: training, the pass after the last round, the
    evaluation and the stored model. A client without its report of that round takes the mean of all clients.

    Args:
        task: task as it arrived; one without a sum is returned as it is.
        settings: settings of the node.
        client: name of the client.
        on_note: called with a sentence for the node's log.

    Raises:
        FlamesError: the client state is damaged, or the sum does not fit it.
    """
    if task.sum is None:
        return task
    folder = client_state_folder(settings, task.request.run, client)
    stored = load_client_state_of(folder, task.sum.round) or {}
    own, factor = stored.get(OWN), stored.get(OWN_FACTOR)
    if own is None or factor is None:
        on_note(
            f"the report of round {task.sum.round} is not in {folder}, so the mean of all clients replaces "
            "this client's own model"
        )
        return replace(task, weights=_as_model(task.weights), sum=None)
    if problem := find_difference(_as_model(task.weights), own):
        raise FlamesError(
            f"the sum of round {task.sum.round} does not fit this client's report ({problem}); install the "
            "same version everywhere"
        )
    note = task.sum
    try:
        weights = personalise(own, float(factor[FACTOR]), task.weights, note.total, note.clients)
    except ValueError as error:
        raise FlamesError(f"{error}; the server's message cannot be used in this round") from error
    return replace(task, weights=weights, sum=None)


def _as_model(mean: Weights) -> Weights:
    """Return the mean as a model; integers, which travel as fractions, are rounded."""
    return {name: cast(from_stored(array, array.dtype), array.dtype) for name, array in mean.items()}
