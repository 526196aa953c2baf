"""Records of a message about a client's choice among candidates: what is known before, and the choice."""

from flwr.app import ConfigRecord, Message

from flames_cli.core.federated.choice import Choice, Prior
from flames_cli.fed.numbers import read_integer, read_number
from flames_cli.fed.records import config_of

CHOICE = "choice"
"""Name of the record, in both directions."""

DICE, GAIN, POOLED = "dice.", "gain.", "pooled."
"""Starts of the names of numbers by candidate."""


def pack_prior(prior: Prior) -> ConfigRecord:
    """Return the record that a server sends with the candidates."""
    return ConfigRecord(
        {
            "n_clients": prior.n_clients,
            "rounds": prior.rounds,
            **{GAIN + name: gain for name, gain in prior.gains.items()},
            **{POOLED + name: gain for name, gain in prior.pooled.items()},
        }
    )


def unpack_prior(message: Message) -> Prior | None:
    """Return what a task says about a choice; None if the client does not choose.

    Raises:
        KeyError, TypeError, ValueError: the record is not valid.
    """
    if CHOICE not in message.content:
        return None
    record = config_of(message, CHOICE)
    return Prior(
        n_clients=read_integer(record["n_clients"], "n_clients"),
        rounds=read_number(record["rounds"], "rounds"),
        gains=_by_candidate(record, GAIN),
        pooled=_by_candidate(record, POOLED),
    )


def pack_choice(choice: Choice) -> ConfigRecord:
    """Return the record that a client sends with its report."""
    dice = {DICE + name: value for name, value in choice.dice.items()}
    return ConfigRecord({"pick": choice.pick, "patients": choice.patients, **dice})


def unpack_choice(message: Message) -> Choice | None:
    """Return a client's choice; None if the report has none.

    Raises:
        KeyError, TypeError, ValueError: the record is not valid.
    """
    if CHOICE not in message.content:
        return None
    record = config_of(message, CHOICE)
    return Choice(
        str(record["pick"]), read_integer(record["patients"], "patients"), _by_candidate(record, DICE)
    )


def patients_reason(choice: Choice | None, n_val: int) -> str:
    """Return why a client with `n_val` validation images cannot have made `choice`; "" if it can."""
    if choice is None or choice.patients <= n_val:
        return ""
    return f"it chose by {choice.patients} validation patients, it joined with {n_val} validation images"


def _by_candidate(record: dict[str, object], start: str) -> dict[str, float]:
    return {
        name.removeprefix(start): read_number(value, name)
        for name, value in record.items()
        if name.startswith(start)
    }
