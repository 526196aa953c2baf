"""Rounds of a run as flat records, one for each round, and one for each client and round."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

from flames_cli.core.federated.best_round import RoundScores
from flames_cli.core.federated.round_parts import scored_parts


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a run. A figure that is not known is None."""

    run: str
    round: int
    """Number of the round, from 1."""
    seconds: float
    accepted: int
    """Number of clients whose reports were used."""
    rejected: int
    """Number of clients whose reports were rejected or did not come."""
    train_loss: float | None
    """Mean training loss of the clients, each weighted by its training images; with secure aggregation a
    plain mean."""
    val_dice: float | None
    """Mean Dice of the models after this round over the validation images of all clients; the next round
    measures it, and the last pass for the last round."""
    val_dice_small: float | None
    """The same for images with small lesions."""
    bytes_down: int | None
    """Bytes that the server sent to clients."""
    bytes_up: int | None
    epsilon: float | None
    """Differential privacy spent until this round; None without."""


@dataclass(frozen=True, slots=True)
class ClientRound:
    """One client in one round. A figure that the client did not report is None."""

    run: str
    round: int
    client: str
    modality: str
    accepted: bool
    rejection_reason: str | None
    """Reason why its report was not used."""
    seconds: float | None
    n_examples: int | None
    """Number of its training images."""
    n_steps: int | None
    train_loss: float | None
    best_epoch: int | None
    received_val_loss: float | None
    """Validation loss of the model that it received, before its training."""
    received_val_dice: float | None
    trained_val_loss: float | None
    """Validation loss of the model that it trained."""
    trained_val_dice: float | None
    n_val: int | None
    """Number of its validation images."""
    n_val_patients: int | None
    update_norm: float | None


_FIGURES = {one.name: str(one.type) for one in fields(ClientRound)[6:]}


def make_round(run: str, line: Mapping[str, Any], scores: RoundScores | None = None) -> Round:
    """Return the record of a line of rounds.jsonl, with the scores of the run's rounds if they are known."""
    number, parts = int(line["round"]), [one for one in scored_parts(line) if "train_loss" in one]
    losses = [(_number(one["train_loss"]), one.get("n_examples") or one.get("clients") or 1) for one in parts]
    known = [(loss, n) for loss, n in losses if loss is not None]
    return Round(
        run=run,
        round=number,
        seconds=float(line.get("seconds") or 0.0),
        accepted=len(line.get("accepted", ())),
        rejected=len(line.get("rejected", ())),
        train_loss=fmean([loss for loss, _ in known], [n for _, n in known]) if known else None,
        val_dice=scores.of(number) if scores else None,
        val_dice_small=scores.of(number, "small") if scores else None,
        bytes_down=line.get("bytes_down"),
        bytes_up=line.get("bytes_up"),
        epsilon=_number(line.get("epsilon")),
    )


def make_client_rounds(run: str, lines: Iterable[Mapping[str, Any]]) -> list[ClientRound]:
    """Return the records of all clients in the lines of rounds.jsonl."""
    return [_client_round(run, line, one) for line in lines for one in line.get("clients", ())]


def _client_round(run: str, line: Mapping[str, Any], client: Mapping[str, Any]) -> ClientRound:
    name = str(client["client"])
    figures: dict[str, Any] = {key: _number(client.get(key)) for key in _FIGURES}
    whole = {
        key: int(value) for key, value in figures.items() if value is not None and "int" in _FIGURES[key]
    }
    return ClientRound(
        run=run,
        round=int(line["round"]),
        client=name,
        modality=str(client.get("modality", "")),
        accepted=name in line.get("accepted", ()),
        rejection_reason=client.get("rejection_reason") or line.get("rejected", {}).get(name),
        **{**figures, **whole},
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
