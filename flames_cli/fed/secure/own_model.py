"""The client's own model in a run with secure aggregation: from its own report and the sum over its group."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from flames_cli.arrays import Weights
from flames_cli.core.federated.candidates import Offer
from flames_cli.core.federated.choice import Preference, Prior, choose
from flames_cli.core.federated.differences import find_difference
from flames_cli.core.federated.running_sum import cast
from flames_cli.core.federated.secure_blend import personalise
from flames_cli.core.federated.sum_layout import from_stored
from flames_cli.core.federated.summed_preferences import from_arrays, pool_others
from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import OWN, OWN_FACTOR, PREFERENCE, client_state_folder
from flames_cli.fed.messages import SumNote, TrainTask
from flames_cli.fed.node import NodeSettings
from flames_cli.store.client_state import load_client_state_of

ClientState = Mapping[str, Weights]
"""Client state of one round, by kind."""

FACTOR = "factor"
"""Name of the only entry of the state OWN_FACTOR."""


def with_own_weights(
    task: TrainTask, settings: NodeSettings, client: str, on_note: Callable[[str], None]
) -> TrainTask:
    """Return `task` with the weights of the client's own model, if the server sent a sum in their place.

    All that a client does with its own model begins here: training, the pass after the last round, the
    evaluation and the stored model. A client without its report of that round takes the mean of all clients.
    If the clients choose, the result has the client's own weights, FLAMES' blend and what is known before.

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
    if not has_report(stored):
        on_note(
            f"the report of round {task.sum.round} is not in {folder}, so the mean of all clients replaces "
            "this client's own model"
        )
        return replace(task, weights=_as_model(task.weights), sum=None)
    if problem := find_difference(_as_model(task.weights), stored[OWN]):
        raise FlamesError(
            f"the sum of round {task.sum.round} does not fit this client's report ({problem}); install the "
            "same version everywhere"
        )
    try:
        offer = find_offer(stored, task.sum, task.weights)
        if offer:
            return replace(task, weights=offer.own, blend=offer.blend, prior=offer.prior, sum=None)
        return replace(task, weights=find_blend(stored, task.sum, task.weights), sum=None)
    except ValueError as error:
        raise FlamesError(f"{error}; the server's message cannot be used in this round") from error


def has_report(stored: ClientState) -> bool:
    """Return whether a client state has the client's own report with its factor."""
    return OWN in stored and OWN_FACTOR in stored


def find_blend(stored: ClientState, note: SumNote, mean: Weights) -> Weights:
    """Return FLAMES' blend of a client, from the mean M of a sum; raises as `personalise`."""
    return personalise(stored[OWN], float(stored[OWN_FACTOR][FACTOR]), mean, note.total, note.clients)


def find_offer(stored: ClientState, note: SumNote, mean: Weights) -> Offer | None:
    """Return what a client chooses from; None if clients do not choose. Raises ValueError as `find_blend`."""
    preference = find_preference(stored)
    if not note.preferences or preference is None:
        return None
    pooled = pool_others(note.preferences, preference)
    prior = Prior(note.clients, preference.rounds, preference.gains, pooled)
    return Offer(stored[OWN], find_blend(stored, note, mean), prior)


def find_preference(stored: ClientState) -> Preference | None:
    """Return the client's record of its candidates; None if it does not choose."""
    return from_arrays(stored[PREFERENCE]) if PREFERENCE in stored else None


def find_expected(stored: ClientState, note: SumNote, mean: Weights) -> Weights:
    """Return a client's model after a round without another validation; raises as `find_blend`."""
    offer, preference = find_offer(stored, note, mean), find_preference(stored)
    if offer is None or preference is None:
        return find_blend(stored, note, mean)
    return offer.candidate(choose(offer.prior, preference.patients, {}))


def _as_model(mean: Weights) -> Weights:
    """Return the mean as a model; integers, which travel as fractions, are rounded."""
    return {name: cast(from_stored(array, array.dtype), array.dtype) for name, array in mean.items()}
