import json
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flames_cli.secagg import Collector, Dealt, Declined, Participant, Session
from flames_cli.secagg.session import advert_text
from tests.support.secagg import Federation, add_up, make_vectors, new_session


def ready(clients=4, step="receive"):
    """A federation after that step; all clients are there."""
    federation = Federation(make_vectors(clients))
    federation.until(getattr(federation, step))
    return federation


def test_the_keys_of_each_participant_are_new():
    session = new_session()
    adverts = [Participant.create(session, "a").advert for _ in range(3)]
    assert len({key for one in adverts for key in (one.encryption_key, one.mask_key)}) == 6


def test_a_session_of_two_is_declined():
    session = new_session()
    one, two = (Participant.create(session, name) for name in "ab")
    with pytest.raises(Declined, match="2 clients are in the session of ct, expected at least 3"):
        one.share([one.advert, two.advert])


def test_a_participant_knows_its_own_keys():
    session = new_session()
    clients = {name: Participant.create(session, name) for name in "abc"}
    adverts = [client.advert for client in clients.values()]
    forged = [replace(adverts[0], mask_key=bytes([9] * 32)), *adverts[1:]]
    for wrong in (forged, [*adverts[1:], Participant.create(session, "d").advert]):
        with pytest.raises(Declined, match="other keys of a than its own"):
            clients["a"].share(wrong)


def test_two_clients_with_one_name_or_key_are_declined():
    session = new_session()
    clients = {name: Participant.create(session, name) for name in "abc"}
    adverts = [client.advert for client in clients.values()]
    again = replace(adverts[2], client="d")
    for wrong in ([*adverts, again], [*adverts, Participant.create(session, "c").advert]):
        with pytest.raises(Declined, match="the same name or the same key"):
            clients["a"].share(wrong)


@pytest.mark.parametrize("key", ["encryption_key", "mask_key"])
def test_a_key_of_small_order_is_declined_by_name(key):
    session = new_session()
    clients = {name: Participant.create(session, name) for name in "abc"}
    adverts = [client.advert for client in clients.values()]
    adverts[1] = replace(adverts[1], **{key: bytes(32)})
    with pytest.raises(Declined, match="a key of b cannot be used"):
        clients["a"].share(adverts)


# -- identities


def identities(*names):
    return {name: Ed25519PrivateKey.generate() for name in names}


def pinned(owners):
    return {name: key.public_key().public_bytes_raw() for name, key in owners.items()}


def test_pinned_clients_that_sign_their_keys_make_a_session():
    owners, session = identities("a", "b", "c"), new_session()
    clients = [Participant.create(session, name, key.sign, pinned(owners)) for name, key in owners.items()]
    adverts = [client.advert for client in clients]
    for client in clients:
        assert set(Participant.from_bytes(client.to_bytes()).share(adverts).sealed) == set("abc") - {
            client.client
        }


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda adverts, key, session: replace(adverts["b"], signature=b""), "the signature of b is wrong"),
        (
            lambda adverts, key, session: replace(adverts["b"], mask_key=bytes([9] * 32)),
            "the signature of b is wrong",
        ),
        (
            lambda adverts, key, session: Participant.create(new_session(), "b", key.sign).advert,
            "the signature of b is wrong",
        ),
        (lambda adverts, key, session: Participant.create(session, "d", key.sign).advert, "d is not pinned"),
    ],
    ids=["unsigned", "keys exchanged in between", "of another session", "not pinned"],
)
def test_clients_that_are_not_those_that_are_pinned_are_declined_by_name(forge, reason):
    owners, session = identities("a", "b", "c"), new_session()
    clients = {
        name: Participant.create(session, name, key.sign, pinned(owners)) for name, key in owners.items()
    }
    adverts = {name: client.advert for name, client in clients.items()}
    adverts["b"] = forge(adverts, owners["b"], session)
    with pytest.raises(Declined, match=reason):
        clients["a"].share(adverts.values())


def test_the_signed_text_differs_in_session_round_name_and_keys():
    session = new_session()
    texts = {
        advert_text(one, client, key, other)
        for one in (
            session,
            new_session(),
            replace(session, round=3),
            replace(session, bits=32),
            replace(session, group="mri"),
        )
        for client in ("a", "b")
        for key, other in ((b"1", b"2"), (b"2", b"1"), (b"", b"12"))
    }
    assert len(texts) == 5 * 2 * 3


# -- shares


def change_one(sealed, **changes):
    return {**sealed, "site-002": replace(sealed["site-002"], **changes)}


@pytest.mark.parametrize("field", ["box", "key_commitment", "seed_commitment"])
def test_a_share_or_commitment_that_was_changed_names_its_dealer(field):
    federation = ready(step="share")
    sealed = federation.collector.dealt_for("site-000").sealed
    value = getattr(sealed["site-002"], field)
    with pytest.raises(Declined, match="the shares from site-002 do not open"):
        federation.clients["site-000"].receive(
            Dealt(change_one(sealed, **{field: value[:-1] + bytes([value[-1] ^ 1])}))
        )


def test_a_dealer_that_seals_other_shares_than_it_commits_to_is_named(monkeypatch):
    federation = Federation(make_vectors(4))
    federation.advertise()
    adverts = federation.collector.close_adverts()
    from flames_cli.secagg import participant

    for name, client in federation.clients.items():
        with monkeypatch.context() as patch:
            if name == "site-002":
                patch.setattr(participant, "_commit", lambda *where: (bytes(32), bytes(32)))
            federation.collector.add_dealing(name, client.share(adverts))
    with pytest.raises(Declined, match="the shares from site-002 do not open, or do not fit"):
        federation.receive()


def test_shares_for_another_client_do_not_open():
    federation = ready(step="share")
    sealed = federation.collector.dealt_for("site-001").sealed
    own = federation.collector.dealt_for("site-000").sealed
    with pytest.raises(Declined, match="do not open"):
        federation.clients["site-000"].receive(Dealt({**own, "site-002": sealed["site-002"]}))


def test_shares_of_another_session_do_not_open():
    """The same clients in the same round, after the server was started again."""
    first, second = ready(step="share"), ready(step="share")
    with pytest.raises(Declined, match="the shares from site-001; site-002; site-003 do not open"):
        second.clients["site-000"].receive(first.collector.dealt_for("site-000"))


def test_clients_that_were_given_different_keys_of_another_do_not_go_on():
    """A server in the middle: site-003 has other keys for one half of the clients than for the other."""
    federation = Federation(make_vectors(4))
    federation.advertise()
    adverts = federation.collector.close_adverts()
    other = Participant.create(federation.session, "site-003").advert
    for name, client in federation.clients.items():
        told = [*adverts[:3], other] if name == "site-000" else adverts
        federation.collector.add_dealing(name, client.share(told))
    with pytest.raises(Declined, match="the shares from site-001; site-002; site-003"):
        federation.clients["site-000"].receive(federation.collector.dealt_for("site-000"))
    with pytest.raises(Declined, match="the shares from site-000"):
        federation.clients["site-001"].receive(federation.collector.dealt_for("site-001"))


def test_too_few_dealers_or_strangers_are_declined():
    federation = ready(clients=6, step="share")
    sealed = federation.collector.dealt_for("site-000").sealed
    few = dict(list(sealed.items())[:2])
    strange = {**sealed, "stranger": sealed["site-001"]}
    own = {**sealed, "site-000": sealed["site-001"]}
    for wrong in (few, strange, own):
        with pytest.raises(Declined, match="expected those of at least 3 other clients"):
            federation.clients["site-000"].receive(Dealt(wrong))


def test_all_clients_have_one_key_that_is_in_no_message():
    federation = ready(5)
    group = {client.group_key for client in federation.clients.values()}
    assert len(group) == 1
    assert len(group.copy().pop()) == 32
    assert group.pop() != ready(5).clients["site-000"].group_key
    federation.train()
    federation.unmask()
    texts = b" ".join(federation.texts)
    assert next(iter(federation.clients.values())).group_key.hex().encode() not in texts


def test_a_client_that_did_not_deal_has_no_part_in_the_key_of_the_group():
    federation = Federation(make_vectors(5))
    federation.advertise()
    federation.share(lost=["site-004"])
    federation.receive()
    assert len({client.group_key for client in federation.clients.values()}) == 1


# -- the vector


def test_a_vector_is_masked_once():
    client = ready().clients["site-000"]
    client.mask(np.zeros(10, "<u8"))
    with pytest.raises(Declined, match="step train of secure aggregation after another, expected unmask"):
        client.mask(np.zeros(10, "<u8"))


def test_the_secrets_are_forgotten_after_the_vector():
    client = ready().clients["site-000"]
    secrets = [client._state.mask_private.hex(), client._state.seed.hex()]
    assert all(secret in client.to_bytes().decode() for secret in secrets)
    client.mask(np.zeros(10, "<u8"))
    assert not any(secret in client.to_bytes().decode() for secret in secrets)
    assert client._state.encryption_private == b""


@pytest.mark.parametrize(
    "words", [np.zeros(10, "<u4"), np.zeros(10, "<f8"), np.zeros((2, 5), "<u8")], ids=str
)
def test_a_vector_of_another_type_is_not_masked(words):
    client = ready().clients["site-000"]
    with pytest.raises(Declined, match="expected one of words of 64 bits"):
        client.mask(words)
    assert not words.any()


@pytest.mark.parametrize("step", ["share", "receive", "mask", "unmask"])
def test_no_step_is_done_out_of_order(step):
    federation = ready(step="advertise")
    adverts = federation.collector.close_adverts()
    client = federation.clients["site-000"]
    calls = {
        "share": lambda: client.share(adverts),
        "receive": lambda: client.receive(Dealt({})),
        "mask": lambda: client.mask(np.zeros(10, "<u8")),
        "unmask": lambda: client.unmask(list(federation.clients)),
    }
    if step == "share":
        client.share(adverts)
    with pytest.raises(Declined, match="start the round again"):
        calls[step]()


# -- the opening


def test_an_opening_never_has_both_secrets_of_one_client():
    federation = ready(clients=6, step="train")
    opening = federation.clients["site-000"].unmask([f"site-00{i}" for i in range(4)])
    assert set(opening.seeds) == {f"site-00{i}" for i in range(4)}
    assert set(opening.keys) == {"site-004", "site-005"}


NAMES = [f"site-00{i}" for i in range(6)]


@pytest.mark.parametrize(
    "survivors",
    [NAMES[:3], [*NAMES[:3], NAMES[0]], [*NAMES, NAMES[1]], [*NAMES[:4], "stranger"], []],
    ids=["fewer than the threshold", "one twice in place of a fourth", "one twice", "a stranger", "none"],
)
def test_a_sum_of_too_few_of_one_twice_or_of_strangers_is_declined(survivors):
    client = ready(clients=6, step="train").clients["site-000"]
    with pytest.raises(Declined, match="expected at least 4 of the 6 that dealt shares, each once"):
        client.unmask(survivors)


def test_three_clients_open_only_the_sum_of_all_three():
    client = ready(clients=3, step="train").clients["site-000"]
    with pytest.raises(Declined, match=r"a sum of 2 clients is asked for \(2 names\), expected at least 3"):
        client.unmask(["site-000", "site-001"])


def test_a_client_opens_no_sum_without_its_own_vector():
    client = ready(clients=6, step="train").clients["site-000"]
    with pytest.raises(Declined, match="a sum without site-000 is asked for"):
        client.unmask(NAMES[1:])


def test_a_second_request_for_other_survivors_is_declined_and_one_for_the_same_is_answered():
    client = ready(clients=6, step="train").clients["site-000"]
    first = client.unmask(NAMES[:5])
    again = Participant.from_bytes(client.to_bytes())
    for other in (NAMES, NAMES[:4], [*NAMES[:4], NAMES[5]]):
        with pytest.raises(Declined, match="after one of 5 others in this round"):
            again.unmask(other)
    assert again.unmask(NAMES[4::-1]) == first


def test_a_repeated_round_is_opened_only_for_the_same_survivors():
    client = ready(clients=6, step="train").clients["site-000"]
    with pytest.raises(Declined, match="after one of 5 others in this round"):
        client.unmask(NAMES, opened=NAMES[:5])
    assert set(client.unmask(NAMES, opened=NAMES).seeds) == set(NAMES)


# -- the stored state


def test_a_state_of_another_version_or_a_damaged_one_is_declined():
    client = ready().clients["site-000"]
    fields = json.loads(client.to_bytes())
    damaged = [
        b"",
        b"[]",
        b"\xff",
        client.to_bytes()[:-5],
        *(
            json.dumps({**fields, **change}).encode()
            for change in ({"version": 2}, {"step": "x"}, {"seed": "zz"}, {"shares": [1]})
        ),
        json.dumps({name: value for name, value in fields.items() if name != "seed"}).encode(),
    ]
    for data in damaged:
        with pytest.raises(
            Declined, match="the stored state of a client of secure aggregation cannot be read"
        ):
            Participant.from_bytes(data)


def test_the_state_is_plain_json():
    client = ready(step="train").clients["site-000"]
    assert json.loads(client.to_bytes())["version"] == 1
    assert Participant.from_bytes(client.to_bytes()).to_bytes() == client.to_bytes()


def test_a_server_that_is_not_the_collector_gets_a_usable_session_from_its_bytes():
    session = new_session(32, "mri")
    assert Session.from_bytes(session.to_bytes()) == session
    assert Collector(session, 1).session.fixed_point.bits == 32


def test_all_vectors_of_a_federation_go_through_states_in_bytes():
    vectors = make_vectors(5)
    np.testing.assert_array_equal(Federation(vectors).run(), add_up(vectors))
