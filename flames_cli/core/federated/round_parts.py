"""The parts of a round's record that have numbers: single clients or, in a run with secure aggregation, all
clients of a model together, of which nobody knows the numbers of one."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
"""A line of rounds.jsonl, or the content of final-models.json for one round."""

GROUPS = "groups"
"""Key of the numbers by model group, in records of runs with secure aggregation."""


def has_groups(record: Record) -> bool:
    """Return whether a record has the numbers of model groups in place of those of clients."""
    return isinstance(record.get(GROUPS), dict)


def scored_parts(record: Record) -> list[Record]:
    """Return the entries of a record that may have numbers, each with a name, `client`, and a `modality`.

    These are the entries of its clients, or one of each model group with the pooled numbers of its clients,
    whose number is `clients`. A file that was edited may contain anything: entries without a name are left
    out.
    """
    if has_groups(record):
        return [
            {**numbers, "client": group_label(group), "modality": group}
            for group, numbers in record[GROUPS].items()
            if isinstance(numbers, dict)
        ]
    clients = record.get("clients")
    entries = clients if isinstance(clients, list) else []
    return [one for one in entries if isinstance(one, dict) and "client" in one]


def received_round(record: Record, part: Record) -> int:
    """Return the round whose models an entry's `received_…` numbers are of: the one before, or without rounds
    in step the one with whose models the client began."""
    before = int(record["round"]) - 1
    began = part.get("began")
    return began if type(began) is int and 0 <= began <= before else before


def group_label(group: str) -> str:
    """Return the name of the clients of a model together."""
    return f"model {group}"
