"""The results of flames-adaptive's clients as parts of a secure sum.

In a plain run the server knows each client's gains, and pools those of the others for each client. With
secure aggregation the clients send min(patients, MOST)·gain and min(patients, MOST) as parts of a sum, and
each subtracts its own part.
"""

from collections.abc import Sequence

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.choice import CANDIDATES, FLAMES, MOST_PATIENTS, PRIOR_PATIENTS, Preference

NUMBERS = "numbers"
"""Name of the only entry of a stored preference."""

_NAMES = tuple(name for name in CANDIDATES if name != FLAMES)
N_PARTS = 1 + len(_NAMES)
"""Number of parts: patients, and patients times the gain of each candidate but FLAMES."""

_HALF_A_PATIENT = 0.5


def to_parts(preference: Preference | None) -> list[float]:
    """Return a client's parts of the sums: all 0 without results."""
    if preference is None or not preference.gains:
        return [0.0] * N_PARTS
    patients = min(preference.patients, MOST_PATIENTS)
    return [float(patients), *(patients * preference.gains.get(name, 0.0) for name in _NAMES)]


def pool_others(sums: Sequence[float], own: Preference) -> dict[str, float]:
    """Return the gain by candidate that the results of the other clients let expect (see `choice.pool`).

    Args:
        sums: sums over all clients, in the order of `to_parts`.
        own: record of the client whose part is subtracted.
    """
    others = [total - part for total, part in zip(sums, to_parts(own), strict=True)]
    if others[0] < _HALF_A_PATIENT:  # sums are rounded
        return {}
    total = round(others[0]) + PRIOR_PATIENTS
    pooled = (value / total for value in others[1:])
    return {name: min(max(gain, -1.0), 1.0) for name, gain in zip(_NAMES, pooled, strict=True)}


def to_arrays(preference: Preference) -> Weights:
    """Return a record as the client stores it."""
    gains = [preference.gains.get(name, np.nan) for name in _NAMES]
    counts = [preference.n_examples, preference.patients, preference.rounds]
    return {NUMBERS: np.array([*counts, *gains], np.float64)}


def from_arrays(stored: Weights) -> Preference:
    """Return a stored record.

    Raises:
        KeyError, ValueError: it is none.
    """
    n_examples, patients, rounds, *gains = stored[NUMBERS].tolist()
    known = {name: gain for name, gain in zip(_NAMES, gains, strict=True) if not np.isnan(gain)}
    return Preference(int(n_examples), int(patients), float(rounds), known)
