"""A client's final model on its way to its site, and the site's answer that the model is stored."""

import re
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict

from flames_cli.fed.messages import REPORT, TrainTask, pack_task, unpack_task
from flames_cli.fed.numbers import read_integer
from flames_cli.fed.records import config_of
from flames_cli.fed.sanitise import sanitise

ACTION = "keep"
"""Action of the ClientApp that stores the model; the message's type is `evaluate.keep`."""
MESSAGE_TYPE = f"evaluate.{ACTION}"

KEEP = "keep"
"""Record with the facts about the model that are not in the request."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FinalModel:
    """A client's model of the chosen round, as the server has it."""

    task: TrainTask
    """Request with the model's round and options; the weights travel in full precision."""
    sha256: str
    """SHA-256 of the weights (`store.weights.hash_weights`)."""
    why: str
    """Reason for the round."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A client's answer: it has stored the model with this checksum."""

    client: str
    round: int
    sha256: str


def pack_final_model(model: FinalModel, node_id: int) -> Message:
    """Return the message that sends a client its final model."""
    message = pack_task(model.task, node_id, MESSAGE_TYPE)
    message.content[KEEP] = ConfigRecord({"sha256": model.sha256, "why": model.why})
    return message


def unpack_final_model(message: Message) -> FinalModel:
    """Return the model in `message`.

    Raises:
        KeyError, TypeError, ValueError, FlamesError: the message does not contain a valid model.
    """
    facts = config_of(message, KEEP)
    return FinalModel(unpack_task(message), _checksum(facts["sha256"]), sanitise(str(facts["why"])))


def pack_stored(stored: StoredModel, request: Message) -> Message:
    """Return a client's answer."""
    record = ConfigRecord({"client": stored.client, "round": stored.round, "sha256": stored.sha256})
    return Message(RecordDict({REPORT: record}), reply_to=request)


def unpack_stored(reply: Message) -> StoredModel:
    """Return the answer in `reply`.

    Raises:
        KeyError, TypeError, ValueError: the reply does not contain a valid answer.
    """
    entries = config_of(reply, REPORT)
    return StoredModel(
        str(entries["client"]), read_integer(entries["round"], "round"), _checksum(entries["sha256"])
    )


def _checksum(value: object) -> str:
    if not (isinstance(value, str) and _SHA256.fullmatch(value)):
        raise ValueError("its checksum is not one of SHA-256")
    return value
