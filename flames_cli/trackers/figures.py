"""Figures of a round by name, the same for every tracker.

`round/…` is about the round, `privacy/…` the privacy spent, `pooled/…` the mean over all clients, and
`NAME/CLIENT` a figure of one client or, in a run with secure aggregation, of all clients of a model. The
figures of a run with differential privacy are plain means over its clients, without anything about a single
client (docs/security.md).
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from flames_cli.core.federated.round_parts import Record, scored_parts

Rates = Callable[[str, str], float]
"""rate(client, modality) returns a learning rate; with empty names that of clients without their own."""

SECONDS = "round/seconds"
"""Figure that every round has."""

CHOSEN = "chosen/round"
"""Figure of the end that every run has."""

SCORES = {
    "train_loss": "n_examples",
    "received_val_loss": "n_val",
    "received_val_dice": "n_val",
    "received_val_dice_small": "n_val_small",
    "trained_val_loss": "n_val",
    "trained_val_dice": "n_val",
}
"""Scores of a client in a round, with the number of images of each, which is its weight in the mean."""

FINAL_SCORES = {"val_loss": "n_val", "val_dice": "n_val", "val_dice_small": "n_val_small"}
"""Scores of a client on the models that are used."""

OF_CLIENT = {"n_examples": "examples", "seconds": "seconds"}
"""Other figures of a client: name in a record, name here."""

OF_ROUND = {"seconds": "seconds", "bytes_down": "bytes_down", "bytes_up": "bytes_up", "rss_mb": "memory_mib"}
"""Figures of a round: name in a record, name here."""


def round_figures(record: Record, rate: Rates, private: bool) -> dict[str, float]:
    """Return the figures of a round.

    Args:
        record: its line of rounds.jsonl.
        rate: returns the learning rate of a client in this round.
        private: True if the run has differential privacy.
    """
    clients: Sequence[Record] = record["clients"]
    parts = scored_parts(record)
    found = {f"round/{name}": record.get(key) for key, name in OF_ROUND.items()}
    found["round/learning_rate"] = rate("", "")
    found |= {f"privacy/{key}": record.get(key) for key in ("epsilon", "delta")}
    found |= _pool(parts, SCORES, private)
    if not private:
        found["round/examples"] = sum(_numbers(clients, "n_examples"))
        found["round/accepted"] = len(record.get("accepted", ()))
        found["round/rejected"] = len(record.get("rejected", ()))
        found |= _of_clients(parts, {name: name for name in SCORES})
        found |= _of_clients(clients, OF_CLIENT)
        for one in clients:
            found[f"learning_rate/{label(one['client'])}"] = rate(one["client"], one["modality"])
    return _finite(found)


def final_figures(record: Record | None, chosen: int, private: bool) -> dict[str, float]:
    """Return the figures of the chosen round.

    Args:
        record: its entry in final-models.json; None: the clients did not examine its models.
        chosen: its number.
        private: True if the run has differential privacy.
    """
    parts = scored_parts(record) if record else []
    pooled = _pool(parts, FINAL_SCORES, private)
    found = {name.replace("pooled/", "chosen/"): value for name, value in pooled.items()}
    if not private:
        found |= _of_clients(parts, {name: f"chosen_{name}" for name in FINAL_SCORES})
    return _finite({CHOSEN: chosen, **found})


def label(client: str) -> str:
    """Return a client's name with :XX in place of each character that a tracker may reject.

    The name of a real node may contain any character; letters, digits, `_`, `-`, `.` and spaces stay.
    """
    made = re.sub(r"[^\w. -]", lambda found: "".join(f":{byte:02x}" for byte in found[0].encode()), client)
    return made if made.strip(".") else made.replace(".", ":2e")


def _pool(clients: Iterable[Record], scores: Mapping[str, str], private: bool) -> dict[str, float]:
    found = {}
    for name, weight in scores.items():
        # The loss of several clients together counts by their number.
        rows = [(one.get(name), 1.0 if private else one.get(weight, one.get("clients"))) for one in clients]
        known = [(float(value), float(n)) for value, n in rows if _is_number(value) and _is_number(n) and n]
        if known:
            total = math.fsum(n for _, n in known)
            found[f"pooled/{name}"] = math.fsum(value * n for value, n in known) / total
    return found


def _of_clients(clients: Iterable[Record], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        f"{name}/{label(one['client'])}": one[key]
        for key, name in names.items()
        for one in clients
        if key in one
    }


def _numbers(clients: Iterable[Record], key: str) -> list[float]:
    return [one[key] for one in clients if _is_number(one.get(key))]


def _finite(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
