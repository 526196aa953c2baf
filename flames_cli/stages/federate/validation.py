"""Validation of a run by its clients, in its best and its last round: the table at the end of `federate`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flames_cli.config import FederateConfig
from flames_cli.core.federated.best_round import RoundScores, score_rounds
from flames_cli.core.federated.round_parts import GROUPS, Record, has_groups, scored_parts
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.stages.rounds import read_passes, read_run_rounds
from flames_cli.store.runs import RunFolder

ALL_CLIENTS = "all clients"
"""Label of the row of all clients together."""


@dataclass(frozen=True, slots=True)
class ValidationRow:
    """Validation Dice of the model of one client, or of the models of several clients together."""

    label: str
    modality: str
    """Modality of the client; empty for several clients."""
    n_clients: int
    patients: int
    images: int
    best: float | None
    """Mean Dice over the images in the best round; None: not known."""
    last: float | None
    """Mean Dice over the images in the last round; None: not known."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Validation of a run in its best and its last round."""

    clients: list[ValidationRow]
    """Rows of the clients; empty for a private run, and for one with secure aggregation."""
    models: list[ValidationRow]
    """Rows of the clients of each server model; empty if every model has only one client."""
    total: ValidationRow
    """All clients together, by which the best round is chosen."""
    best_round: int | None
    """The best round; None: the run has none, or must not choose one."""
    last_round: int


def read_validation(run: RunFolder, config: FederateConfig, lines: Sequence[Record]) -> Validation | None:
    """Return the validation of a run from its lines of rounds.jsonl and its final models; None without any.

    A private run has no rows of single clients and no best round: the privacy account covers neither.

    Raises:
        MissingArtifact: the run has no checkpoint.
        FlamesError: a file of the run cannot be read.
    """
    rounds, passes = read_run_rounds(run, config), read_passes(run, lines)
    best, algorithm = rounds.best_rounds.get("best"), get_algorithm(config.strategy)
    records = [*lines, *passes]
    modalities = {one["client"]: one["modality"] for record in records for one in record["clients"]}

    def row(label: str, clients: Collection[str], modality: str = "") -> ValidationRow:
        own = [[_only(record, label, clients) for record in part] for part in (lines, passes)]
        scores, images = score_rounds(*own), _count_images([*own[0], *own[1]])
        dice = [None if number is None else _dice_at(scores, number) for number in (best, rounds.last)]
        return ValidationRow(label, modality, len(clients), scores.patients, images, *dice)

    total = row(ALL_CLIENTS, modalities)
    if not total.images:
        return None
    groups: dict[str, list[str]] = {}
    for client, modality in modalities.items():
        groups.setdefault(algorithm.model_group_of(client, modality), []).append(client)
    hidden = config.dp_noise is not None or config.secure_aggregation
    single = {} if hidden else modalities
    return Validation(
        clients=[row(client, [client], modality) for client, modality in single.items()],
        models=[] if algorithm.alone else [row(group, clients) for group, clients in groups.items()],
        total=total,
        best_round=best,
        last_round=rounds.last,
    )


def _dice_at(scores: RoundScores, round_: int) -> float | None:
    """Return the score of a round, or of the last one before it in which one of the clients was asked."""
    known = scores.dice["all"]
    done = [number for number in known if number <= round_]
    return known[max(done)] if done else None


def _only(record: Record, label: str, clients: Collection[str]) -> Record:
    """Return the record of some clients only, or of the model that they share if it has no other numbers."""
    if has_groups(record):
        groups = record[GROUPS]
        return {**record, GROUPS: {one: groups[one] for one in groups if label in (ALL_CLIENTS, one)}}
    return {**record, "clients": [one for one in record["clients"] if one["client"] in clients]}


def _count_images(records: Sequence[Record]) -> int:
    """Return the sum of the clients' last numbers of validation images."""
    found = [one for record in records for one in scored_parts(record) if "n_val" in one]
    return int(sum({one["client"]: one["n_val"] for one in found}.values()))
