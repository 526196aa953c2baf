"""Secure aggregation: the server learns the sum of the clients' vectors and nothing else of them.

The protocol is that of Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine
Learning") in four exchanges. This package has neither files nor messages of Flower: it computes what a client
(`Participant`) and the server (`Collector`) of one session send each other. docs/secure-aggregation.md has
the formulas.

A session is one attempt at one round of one model group. At the server:

    session = Session.new(run="run token", round=3, group="ct", bits=64)
    collector = Collector(session, length)               # number of words of the vector
    collector.add_advert(client, advert)                 # 1 KEYS: for each reply; then
    adverts = collector.close_adverts()                  # to all that answered
    collector.add_dealing(client, dealing)               # 2 SHARES: for each reply; then
    for client in collector.close_dealings():            # the clients that go on
        dealt = collector.dealt_for(client)              # to this client, in its training request
    collector.add(client, words)                         # 3 TRAIN: for each masked vector; then
    survivors = collector.close_vectors()                # to each of the survivors
    collector.add_opening(client, opening)               # 4 UNMASK: for each reply; then
    words = collector.open()                             # the sum; collector.faults: {client: what it did}

At a client, which may be written to bytes and read again after each step:

    participant = Participant.create(session, client)    # with `sign` and `peers`: identities, see there
    participant.advert                                   # 1 KEYS
    dealing = participant.share(adverts)                 # 2 SHARES
    participant.receive(dealt)                           # 3 TRAIN, before the training
    participant.mask(words)                              #          after it, in place
    opening = participant.unmask(survivors)              # 4 UNMASK
    data = participant.to_bytes(); participant = Participant.from_bytes(data)

A participant masks one vector only. Store what `to_bytes` returns after `mask` before the vector is sent: a
state from before it would mask a second vector with the same masks.

`Session`, `Advert`, `Dealing`, `Dealt` and `Opening` have `to_bytes` and `from_bytes` for the messages.
`session.fixed_point` has `encode_into`, `decode` and `bound` for words of 64 or 32 bits. A client raises
`Declined`, whose message is for the server; the collector raises `BadMessage` for a message that it does not
use (its client drops out) and `Abandoned` if the sum cannot be opened. `threshold(n)` and `least_reports(n)`
have the limits.

A part of the vector may be hidden from the server also after the sum is opened: each client adds
`add_group_mask(words, participant.group_key, entry)` before `mask`, and subtracts it from the opened sum as
many times as there are survivors.
"""

from flames_cli.secagg.collector import Collector
from flames_cli.secagg.errors import Abandoned, BadMessage, Declined
from flames_cli.secagg.fixed_point import FixedPoint
from flames_cli.secagg.masks import add_group_mask
from flames_cli.secagg.messages import Advert, Dealing, Dealt, Opening, SealedShares
from flames_cli.secagg.participant import Participant
from flames_cli.secagg.session import Session, least_reports, threshold

__all__ = [
    "Abandoned",
    "Advert",
    "BadMessage",
    "Collector",
    "Dealing",
    "Dealt",
    "Declined",
    "FixedPoint",
    "Opening",
    "Participant",
    "SealedShares",
    "Session",
    "add_group_mask",
    "least_reports",
    "threshold",
]
