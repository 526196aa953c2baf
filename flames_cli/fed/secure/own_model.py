"""The client's own model in a run with secure aggregation: from its own report and the sum over its group."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.candidates import Offer
from flames_cli.core.federated.choice import Preference, Prior, choose
from flames_cli.core.federated.secure_blend import GroupSum, personalise
from flames_cli.core.federated.summed_preferences import from_arrays, pool_others
from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import OWN, OWN_FACTOR, PREFERENCE, client_state_folder
from flames_cli.fed.messages import SumNote, TrainTask
from flames_cli.fed.node import NodeSettings
from flames_cli.secagg import add_group_mask
from flames_cli.secagg.fixed_point import FIXED_POINTS
from flames_cli.store.client_state import load_client_state_of

ClientState = Mapping[str, Weights]
"""Client state of one round, by kind."""

FACTOR, GROUP_KEY, SESSION_ID = "factor", "group_key", "session"
"""Names of the entries of the state OWN_FACTOR."""


def with_own_weights(task: TrainTask, settings: NodeSettings, client: str) -> TrainTask:
    """Return `task` with the weights of the client's own model, if the server sent a sum in their place.

    All that a client does with its own model begins here: training, the pass after the last round, the
    evaluation and the stored model. If the clients choose, the result has the client's own weights, FLAMES'
    blend and what is known before.

    Args:
        task: task as it arrived; one without a sum is returned as it is.
        settings: settings of the node.
        client: name of the client.

    Raises:
        FlamesError: the client state is damaged or missing, or the sum does not fit it.
    """
    if task.sum is None:
        return task
    stored = _load_report(client_state_folder(settings, task.request.run, client), task.sum)
    blend = _find_blend(stored, task.sum, task.weights)
    if offer := _find_offer(stored, task.sum, blend):
        return replace(task, weights=offer.own, blend=offer.blend, prior=offer.prior, sum=None)
    return replace(task, weights=blend, sum=None)


def find_expected(folder: Path, note: SumNote, words: Weights) -> Weights:
    """Return a client's model after a round without another validation.

    Args:
        folder: the client state of the client.
        note: what is known of the sum that has its report.
        words: the sum, under the mask of the group.

    Raises:
        FlamesError: the client state is damaged or missing, or the sum does not fit it.
    """
    stored = _load_report(folder, note)
    blend = _find_blend(stored, note, words)
    offer, preference = _find_offer(stored, note, blend), find_preference(stored)
    if offer is None or preference is None:
        return blend
    return offer.candidate(choose(offer.prior, preference.patients, {}))


def find_preference(stored: ClientState) -> Preference | None:
    """Return the client's record of its candidates; None if it does not choose."""
    return from_arrays(stored[PREFERENCE]) if PREFERENCE in stored else None


def _load_report(folder: Path, note: SumNote) -> ClientState:
    """Return the client state with the client's own report in a sum, and with the key of this sum."""
    stored = load_client_state_of(folder, note.round) or {}
    session = stored.get(OWN_FACTOR, {}).get(SESSION_ID)
    if OWN not in stored or session is None or session.tobytes().hex() != note.session:
        raise FlamesError(
            f"the report of round {note.round} is not in {folder}, expected it with the key of the sum of "
            "its group; copy the folder back from a backup, or start the run again under another name"
        )
    return stored


def _find_blend(stored: ClientState, note: SumNote, words: Weights) -> Weights:
    """Return FLAMES' blend of a client."""
    own, secret = stored[OWN], stored[OWN_FACTOR]
    try:
        found = _read_sum(words, own, secret[GROUP_KEY].tobytes(), note)
        return personalise(own, float(secret[FACTOR]), found)
    except ValueError as error:
        raise FlamesError(f"{error}; the server's message cannot be used in this round") from error


def _find_offer(stored: ClientState, note: SumNote, blend: Weights) -> Offer | None:
    """Return what a client chooses from; None if clients do not choose."""
    preference = find_preference(stored)
    if not note.preferences or preference is None:
        return None
    pooled = pool_others(note.preferences, preference)
    return Offer(stored[OWN], blend, Prior(note.clients, preference.rounds, preference.gains, pooled))


def _read_sum(words: Weights, own: Weights, group_key: bytes, note: SumNote) -> GroupSum:
    """Return the sum of which `words` are under the mask of the group.

    Raises:
        ValueError: they do not fit the client's report.
    """
    kinds = {array.dtype for array in words.values()}
    fixed = next((one for one in FIXED_POINTS.values() if kinds == {one.dtype}), None)
    shapes = {name: array.shape for name, array in words.items()}
    if fixed is None or shapes != {name: array.shape for name, array in own.items()}:
        raise ValueError(f"the sum of round {note.round} does not fit this client's report")
    weighted = {}
    for name, array in words.items():
        flat = np.array(array).reshape(-1)
        add_group_mask(flat, group_key, name, -note.clients)
        weighted[name] = fixed.decode(flat).reshape(array.shape)
    return GroupSum(weighted, note.total, note.clients, fixed.error(note.clients))
