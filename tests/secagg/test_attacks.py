"""Attacks of a server that deviates from the protocol, with and without clients that help it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.secagg import Declined, Participant
from flames_cli.secagg.masks import Mask, add_masks
from flames_cli.secagg.session import least_reports, threshold
from tests.support.secagg import Federation, make_vectors

RESULTS = {}


def trained(clients):
    """A federation whose clients wait for UNMASK, made once: the clients are copied by their bytes."""
    if clients not in RESULTS:
        federation = Federation(make_vectors(clients, length=4))
        federation.until(federation.train)
        RESULTS[clients] = federation
    return RESULTS[clients]


def shares_of(openings):
    """The number of shares of each secret, by its kind and client."""
    return Counter(
        (kind, name)
        for opening in openings
        for kind, shares in (("seed", opening.seeds), ("key", opening.keys))
        for name in shares
    )


def ask_each_for_its_own_list(federation, data):
    """Let the server name other survivors to each client, whatever the client still answers."""
    names = sorted(federation.vectors)
    needed = least_reports(len(names))
    openings = []
    for name, client in federation.clients.items():
        others = data.draw(st.permutations([one for one in names if one != name]), name)
        size = data.draw(st.integers(needed - 1, len(names) - 1), f"size for {name}")
        openings.append(Participant.from_bytes(client.to_bytes()).unmask([name, *others[:size]]))
    return openings


@settings(max_examples=40)
@given(clients=st.integers(3, 12), data=st.data())
def test_other_survivors_for_each_client_never_open_both_secrets_of_one(clients, data):
    """A server that has a client's seed and its mask key would have its vector."""
    found = shares_of(ask_each_for_its_own_list(trained(clients), data))
    needed = threshold(clients)
    names = trained(clients).vectors
    assert not [name for name in names if min(found["seed", name], found["key", name]) >= needed]


@settings(max_examples=40)
@given(clients=st.integers(3, 12), data=st.data())
def test_other_survivors_for_each_client_leave_at_least_three_in_every_sum(clients, data):
    """A sum needs a secret of every client: the vector of each whose mask key is not opened is in it."""
    found = shares_of(ask_each_for_its_own_list(trained(clients), data))
    lost = [name for name in trained(clients).vectors if found["key", name] >= threshold(clients)]
    assert clients - len(lost) >= 3


@pytest.mark.parametrize("clients", range(3, 40))
def test_helpers_below_a_third_do_not_give_the_server_both_secrets_of_a_client(clients):
    """An honest client gives one share of each other client, a helper of the server both."""
    helpers = -(-clients // 3) - 1
    honest = clients - helpers
    assert honest + 2 * helpers < 2 * threshold(clients)


@pytest.mark.parametrize("clients", range(3, 101))
def test_the_most_keys_that_one_server_can_open_leave_three_clients(clients):
    """The strongest server: each client names as many drop-outs as it accepts, all of them well placed."""
    keys = clients * (clients - least_reports(clients)) // threshold(clients)
    assert clients - keys >= max(3, clients // 2)


def test_a_server_that_knows_the_key_of_one_client_and_its_neighbours_still_needs_the_seed():
    """Every pair mask is taken off, as after a drop-out that was none: the own mask remains."""
    federation = Federation(make_vectors(4, length=1000))
    federation.until(federation.receive)
    client = federation.clients["site-000"]
    state, roster = client._state, client.roster
    words = np.zeros(1000, "<u8")
    client.mask(words)
    masks = [
        Mask(roster.mask_key(state.mask_private, "site-000", peer), minus=peer > "site-000")
        for peer in client.peers
        if peer != "site-000"
    ]
    add_masks(words, masks)
    alone = words.copy()
    add_masks(words, [Mask(roster.own_mask_key(state.seed, "site-000"), minus=True)])
    assert not words.any()
    assert np.count_nonzero(alone) > 990


def test_two_attempts_at_one_round_open_one_list_of_survivors():
    """Both sums together would reveal the difference: the vector of the client that is in one of them."""
    first, second = (Federation(make_vectors(6)) for _ in range(2))
    for federation in (first, second):
        federation.until(federation.train)
    everyone = sorted(first.vectors)
    opened = everyone[:5]
    first.clients["site-000"].unmask(opened)
    with pytest.raises(Declined, match="the difference of two sums reveals single clients"):
        second.clients["site-000"].unmask(everyone, opened=opened)
