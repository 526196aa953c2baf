"""Requests of a secure sum: the same for all its clients, which each client checks.

A server could ask all clients but one for a training whose result it knows (a model that learns nothing, or a
learning rate that changes nothing), and subtract the known results from the sum. This is the attack of
Pasquini et al. 2022, "Eluding Secure Aggregation in Federated Learning via Model Inconsistency". So the terms
of a sum have the digests of the request and of the models. All keys are bound to the terms: with others for
one client, none of its boxes opens.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from flames_cli.errors import FlamesError
from flames_cli.fed.messages import ARRAYS, SUM, TRAIN
from flames_cli.fed.node import Declined
from flames_cli.fed.records import WIRE, record_of
from flames_cli.fed.secure.messages import BLOBS, SECURE
from flames_cli.fed.secure.terms import SumTerms

_RECORDS = {TRAIN, ARRAYS, WIRE, SUM, SECURE, BLOBS}
"""Records that the request of a secure sum may have: any other would be a part that no digest covers."""

_FREE = {"client", "last_accepted_round", "rounds", "epsilon", "delta", "run_name", "strategy"}
"""Entries of a request that differ between clients, or when a run continues, and change no training."""


def agree(requests: Iterable[Message], group: str) -> dict[str, Any]:
    """Return the terms about the requests to all clients of a sum: `asked` and `models`.

    Raises:
        FlamesError: the clients are asked for different trainings.
    """
    asked, known = set(), dict[int, tuple[ArrayRecord, str]]()
    models = set()
    for request in requests:
        asked.add(_digest_request(request.content))
        record = record_of(request, ARRAYS, ArrayRecord)
        if id(record) not in known:  # most clients get the same record, which takes long to hash
            known[id(record)] = record, _digest_model(request.content)
        models.add(known[id(record)][1])
    if len(asked) > 1:
        raise different_trainings(group, len(asked))
    return {"asked": asked.pop(), "models": tuple(sorted(models))}


def different_trainings(group: str, number: int) -> FlamesError:
    """Return the error that clients of a model group have this number of different trainings."""
    return FlamesError(
        f"the clients of model {group} have {number} different trainings (--lr or --local-epochs by name), "
        "expected the same for all in a secure sum, since each client checks it; use one value for all "
        "clients of a model, or leave --secure-aggregation out"
    )


def check_asked(terms: SumTerms, message: Message) -> None:
    """Check that a request is one of those to which the terms of the sum are bound.

    Raises:
        Declined: it is another one.
    """
    content = message.content
    fits = terms.asked == _digest_request(content) and _digest_model(content) in terms.models
    if not fits or not set(content) <= _RECORDS:
        raise Declined(
            "the server asks it for another training or sends another model than it announced to all clients "
            "of the sum, expected the same: a server that knows the results of the others could read this "
            "client's weights; ask who runs the server"
        )


def _digest_request(content: RecordDict) -> str:
    found = content[TRAIN]
    values = dict(found) if isinstance(found, ConfigRecord) else {}
    return _digest({name: value for name, value in values.items() if name not in _FREE})


def _digest_model(content: RecordDict) -> str:
    """Return the SHA-256 of the weights, or of the sum with what is said of it, as they travel."""
    how = {name: dict(content[name]) for name in (WIRE, SUM) if isinstance(content.get(name), ConfigRecord)}
    digest = hashlib.sha256(_digest(how).encode())
    record = content[ARRAYS]
    for array in record.values() if isinstance(record, ArrayRecord) else ():
        digest.update(array.data)
    return digest.hexdigest()


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, default=bytes.hex)
    return hashlib.sha256(text.encode()).hexdigest()
