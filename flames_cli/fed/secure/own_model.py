"""The client's own model in a run with secure aggregation: from its own report and the sum over its group."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.secure_blend import GroupSum, personalise
from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import OWN, OWN_FACTOR, client_state_folder
from flames_cli.fed.messages import SumNote, TrainTask
from flames_cli.fed.node import NodeSettings
from flames_cli.secagg import add_group_mask
from flames_cli.secagg.fixed_point import FIXED_POINTS
from flames_cli.store.client_state import load_client_state_of

FACTOR, GROUP_KEY, SESSION_ID = "factor", "group_key", "session"
"""Names of the entries of the state OWN_FACTOR."""


def with_own_weights(task: TrainTask, settings: NodeSettings, client: str) -> TrainTask:
    """Return `task` with the weights of the client's own model, if the server sent a sum in their place.

    All that a client does with its own model begins here: training, the pass after the last round, the
    evaluation and the stored model.

    Args:
        task: task as it arrived; one without a sum is returned as it is.
        settings: settings of the node.
        client: name of the client.

    Raises:
        FlamesError: the client state is damaged or missing, or the sum does not fit it.
    """
    if task.sum is None:
        return task
    folder = client_state_folder(settings, task.request.run, client)
    return replace(task, weights=make_own_weights(folder, task.weights, task.sum), sum=None)


def make_own_weights(folder: Path, words: Weights, note: SumNote) -> Weights:
    """Return the weights of the client's own model, from the client state in `folder` and a sum.

    Args:
        folder: the client state of a client.
        words: the sum under the mask of the group.
        note: what else is known of it.

    Raises:
        FlamesError: the client state is damaged or missing, or the sum does not fit it.
    """
    stored = load_client_state_of(folder, note.round) or {}
    own, secret = stored.get(OWN), stored.get(OWN_FACTOR)
    if own is None or secret is None or secret[SESSION_ID].tobytes().hex() != note.session:
        raise FlamesError(
            f"the report of round {note.round} is not in {folder}, expected it with the key of the sum of "
            "its group; copy the folder back from a backup, or start the run again under another name"
        )
    try:
        found = _read_sum(words, own, secret[GROUP_KEY].tobytes(), note)
        return personalise(own, float(secret[FACTOR]), found)
    except ValueError as error:
        raise FlamesError(f"{error}; the server's message cannot be used in this round") from error


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
