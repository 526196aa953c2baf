"""Small models whose values are all the same, and the reports that clients make of them."""

from typing import Any

import numpy as np

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import Entries, Report, State

MODALITIES = {"brain-1": "MRI", "brain-2": "MRI", "breast": "US"}
"""The clients of these tests with their modalities."""


def make_model(value: float, counter: int = 0) -> Entries:
    """Return a model whose every value is `value`."""
    return {
        "conv.weight": np.full((2, 3), value, np.float32),
        "norm.running_var": np.full(3, value, np.float32),
        "norm.num_batches_tracked": np.array(counter, np.int64),
    }


def make_report(
    client: str, value: float, n_examples: int = 10, counter: int = 0, n_steps: int = 4, **more: Any
) -> Report:
    """Return a client's report of such a model, with all that any algorithm asks for."""
    floats = {name: a / 8 for name, a in make_model(value).items() if a.dtype == np.float32}
    sent = {"control": floats, **more}
    return Report(client, MODALITIES[client], make_model(value, counter), n_examples, n_steps, **sent)


def start_state(algorithm: Algorithm) -> State:
    """Return the state of an algorithm's groups before a round."""
    groups = {algorithm.model_group_of(client, modality) for client, modality in MODALITIES.items()}
    return State(5, {group: make_model(0.5) for group in groups})
