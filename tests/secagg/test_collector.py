from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.secagg import Abandoned, BadMessage, Collector, Opening, Participant, threshold
from flames_cli.secagg.session import least_reports
from tests.support.secagg import Federation, add_up, make_vectors, new_session


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("clients", [3, 4, 7, 10])
def test_the_opened_sum_is_exact(clients, bits):
    vectors = make_vectors(clients, bits=bits)
    np.testing.assert_array_equal(Federation(vectors, bits).run(), add_up(vectors))


STEPS = ("advertise", "share", "receive", "train", "unmask")


@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_is_lost_at_any_step_leaves_the_sum_of_the_others(step):
    vectors = make_vectors(6)
    federation = Federation(vectors)
    opened = federation.run({step: ["site-002"]})
    reported = set(vectors) if step == "unmask" else set(vectors) - {"site-002"}
    np.testing.assert_array_equal(opened, add_up(vectors, reported))


@settings(max_examples=25)
@given(clients=st.integers(3, 9), data=st.data())
def test_any_clients_may_be_lost_at_any_steps_as_long_as_enough_remain(clients, data):
    vectors = make_vectors(clients, length=3)
    last = {name: data.draw(st.sampled_from([*STEPS, *["never"] * 8]), name) for name in vectors}
    lost = {step: [name for name in vectors if last[name] == step] for step in STEPS}
    joined = clients - len(lost["advertise"])
    dealt = joined - len(lost["share"])
    reported = {name for name in vectors if last[name] in ("unmask", "never")}
    answered = [name for name in vectors if last[name] == "never"]
    federation = Federation(vectors)
    enough = joined >= 3 and min(dealt, len(reported)) >= least_reports(joined)
    if enough and len(answered) >= threshold(joined):
        np.testing.assert_array_equal(federation.run(lost), add_up(vectors, reported))
    else:
        with pytest.raises(Abandoned):
            federation.run(lost)


@pytest.mark.parametrize(
    ("clients", "needed", "least"), [(3, 2, 3), (4, 3, 3), (5, 4, 4), (6, 4, 4), (100, 67, 67)]
)
def test_the_threshold_is_two_thirds_and_a_sum_has_three_clients(clients, needed, least):
    assert (threshold(clients), least_reports(clients)) == (needed, least)


def test_fewer_than_three_clients_have_no_session():
    with pytest.raises(Abandoned, match=r"2 clients sent keys \(site-000; site-001\)"):
        Federation(make_vectors(2)).run()


def test_too_few_vectors_abandon_the_sum_by_name():
    with pytest.raises(
        Abandoned, match=r"3 of 6 clients sent a vector, expected at least 4; without site-000; site-001"
    ):
        Federation(make_vectors(6)).run({"train": ["site-000", "site-001", "site-005"]})


def test_keys_that_cannot_be_used_make_a_drop_out():
    collector = Collector(new_session(), 3)
    advert = Participant.create(collector.session, "a").advert
    zero = bytes(32)  # a point of small order: everybody would share the same secret
    for bad in (
        replace(advert, encryption_key=zero),
        replace(advert, mask_key=zero),
        replace(advert, mask_key=b"short"),
    ):
        with pytest.raises(BadMessage, match="the keys from a cannot be used"):
            collector.add_advert("a", bad)
    collector.add_advert("a", advert)
    with pytest.raises(BadMessage, match="once in a session"):
        collector.add_advert("a", advert)
    with pytest.raises(BadMessage, match="keys of its own"):
        collector.add_advert("b", replace(advert, client="b"))
    with pytest.raises(BadMessage, match="the keys from c"):
        collector.add_advert("c", Participant.create(collector.session, "d").advert)


def test_shares_for_other_clients_than_those_of_the_session_make_a_drop_out():
    federation = Federation(make_vectors(4))
    federation.advertise()
    adverts = federation.collector.close_adverts()
    dealing = federation.clients["site-001"].share(adverts)
    missing = dict(list(dealing.sealed.items())[1:])
    for client, bad in (
        ("site-001", replace(dealing, sealed=missing)),
        ("site-002", dealing),
        ("stranger", dealing),
    ):
        with pytest.raises(BadMessage, match=f"the shares from {client}"):
            federation.collector.add_dealing(client, bad)
    federation.collector.add_dealing("site-001", dealing)
    with pytest.raises(BadMessage, match="once"):
        federation.collector.add_dealing("site-001", dealing)


@pytest.mark.parametrize(
    "words", [np.zeros(9, "<u8"), np.zeros(10, "<u4"), np.zeros(10, "<f8"), np.zeros((10, 1), "<u8")], ids=str
)
def test_a_vector_of_another_length_or_type_makes_a_drop_out(words):
    vectors = make_vectors(4)
    federation = Federation(vectors)
    federation.until(federation.receive)
    del federation.clients["site-003"]
    with pytest.raises(BadMessage, match="the vector from site-003 has shape"):
        federation.collector.add("site-003", words)
    federation.train()
    federation.unmask()
    np.testing.assert_array_equal(
        federation.collector.open(), add_up(vectors, ["site-000", "site-001", "site-002"])
    )


def test_a_vector_comes_once_and_from_a_client_of_the_session():
    federation = Federation(make_vectors(4))
    federation.until(federation.train)
    for client in ("site-000", "stranger"):
        with pytest.raises(BadMessage, match="once, of a client that dealt shares"):
            federation.collector.add(client, np.zeros(10, "<u8"))


def flip(share):
    return bytes([share[0], share[1] ^ 1, *share[2:]])


def opened_by(federation, liars, change):
    """Let all survivors answer, the liars with an opening that `change` has altered."""
    survivors = federation.collector.close_vectors()
    for name, client in federation.clients.items():
        opening = client.unmask(survivors)
        federation.collector.add_opening(name, change(opening) if name in liars else opening)


def lie_in_a_seed(opening):
    return Opening({**opening.seeds, "site-002": flip(opening.seeds["site-002"])}, opening.keys)


def lie_in_a_key(opening):
    return Opening(opening.seeds, {name: flip(share) for name, share in opening.keys.items()})


@pytest.mark.parametrize(
    ("lie", "kind", "of"), [(lie_in_a_seed, "seed", "site-002"), (lie_in_a_key, "mask key", "site-005")]
)
def test_a_wrong_share_names_its_holder_and_is_left_out(lie, kind, of):
    vectors = make_vectors(6)
    federation = Federation(vectors)
    federation.until(federation.receive)
    federation.train(lost=["site-005"])
    opened_by(federation, ["site-001"], lie)
    np.testing.assert_array_equal(federation.collector.open(), add_up(vectors, set(vectors) - {"site-005"}))
    assert federation.collector.faults == {"site-001": f"gave a wrong share of the {kind} of {of}"}


def test_too_many_wrong_shares_abandon_the_sum_by_name():
    federation = Federation(make_vectors(6))
    federation.until(federation.train)
    opened_by(federation, ["site-001", "site-003", "site-004"], lie_in_a_seed)
    assert not federation.collector.can_open
    with pytest.raises(
        Abandoned, match=r"3 lied \(site-001 gave a wrong share of the seed of site-002; site-003"
    ):
        federation.collector.open()


def test_clients_that_do_not_answer_are_named():
    federation = Federation(make_vectors(6))
    federation.until(federation.train)
    federation.unmask(lost=["site-000", "site-004", "site-005"])
    with pytest.raises(
        Abandoned, match=r"3 did not answer \(site-000; site-004; site-005\), 0 lied \(none\)"
    ):
        federation.collector.open()


@pytest.mark.parametrize(
    "change",
    [
        lambda o: Opening({}, o.keys),
        lambda o: Opening(o.seeds, {"site-001": bytes(33)}),
        lambda o: Opening({**o.seeds, "stranger": bytes(33)}, o.keys),
    ],
    ids=["fewer", "both of one", "stranger"],
)
def test_an_opening_of_other_secrets_than_asked_for_is_not_used(change):
    federation = Federation(make_vectors(4))
    federation.until(federation.train)
    with pytest.raises(BadMessage, match="the opening from site-001 cannot be used"):
        opened_by(federation, ["site-001"], change)


def test_a_client_that_is_not_in_the_sum_gives_no_shares():
    federation = Federation(make_vectors(4))
    federation.until(federation.receive)
    federation.train(lost=["site-003"])
    survivors = federation.collector.close_vectors()
    opening = federation.clients["site-001"].unmask(survivors)
    for client in ("site-003", "stranger"):
        with pytest.raises(BadMessage, match=f"the opening from {client}"):
            federation.collector.add_opening(client, opening)
    federation.collector.add_opening("site-001", opening)
    with pytest.raises(BadMessage, match="once"):
        federation.collector.add_opening("site-001", opening)


def lying_dealer(federation, change):
    """Let site-000 deal shares of another secret than its own, with commitments that fit the shares."""
    federation.advertise()
    adverts = federation.collector.close_adverts()
    for name, client in federation.clients.items():
        if name == "site-000":
            honest = client._state
            client._state = replace(honest, **{change: bytes(31) + b"\1"})
            federation.collector.add_dealing(name, client.share(adverts))
            client._state = replace(client._state, seed=honest.seed, mask_private=honest.mask_private)
        else:
            federation.collector.add_dealing(name, client.share(adverts))
    federation.receive()


def test_a_dealer_whose_shares_of_the_key_give_another_key_is_named_when_it_drops_out():
    federation = Federation(make_vectors(4))
    lying_dealer(federation, "mask_private")
    federation.train(lost=["site-000"])
    federation.unmask()
    with pytest.raises(Abandoned, match="the shares that site-000 dealt do not give the secret"):
        federation.collector.open()


def test_a_dealer_whose_shares_of_the_seed_do_not_fit_its_commitment_is_named():
    federation = Federation(make_vectors(4))
    federation.advertise()
    adverts = federation.collector.close_adverts()
    for name, client in federation.clients.items():
        dealing = client.share(adverts)
        if name == "site-000":
            dealing = replace(dealing, seed_commitment=bytes(32))
        federation.collector.add_dealing(name, dealing)
    federation.receive()
    federation.train()
    federation.unmask()
    with pytest.raises(Abandoned, match="the shares that site-000 dealt do not give the secret"):
        federation.collector.open()


def test_shares_that_are_on_no_polynomial_name_their_dealer(monkeypatch):
    from flames_cli.secagg import shamir

    federation = Federation(make_vectors(6))
    federation.advertise()
    adverts = federation.collector.close_adverts()
    split = shamir.split
    for name, client in federation.clients.items():
        with monkeypatch.context() as patch:
            if name == "site-000":
                patch.setattr(shamir, "split", lambda s, t, n: [flip(one) for one in split(s, t, n)])
            federation.collector.add_dealing(name, client.share(adverts))
    federation.receive()
    federation.train()
    federation.unmask()
    with pytest.raises(Abandoned, match="the shares that site-000 dealt do not give the secret"):
        federation.collector.open()


def test_messages_that_come_after_their_exchange_are_not_used():
    vectors = make_vectors(6)
    federation = Federation(vectors)
    collector = federation.collector
    federation.advertise()
    adverts = collector.close_adverts()
    with pytest.raises(BadMessage, match="the keys from late"):
        collector.add_advert("late", Participant.create(federation.session, "late").advert)
    dealings = {name: client.share(adverts) for name, client in federation.clients.items()}
    late = dealings.pop("site-005")
    for name, dealing in dealings.items():
        collector.add_dealing(name, dealing)
    federation.receive()
    with pytest.raises(BadMessage, match="the shares from site-005"):
        collector.add_dealing("site-005", late)
    federation.train(lost=["site-004"])
    federation.unmask()
    with pytest.raises(BadMessage, match="the vector from site-004"):
        collector.add("site-004", vectors["site-004"])
    np.testing.assert_array_equal(collector.open(), add_up(vectors, [f"site-00{i}" for i in range(4)]))


def test_a_sum_is_not_opened_before_the_vectors_are_closed():
    federation = Federation(make_vectors(3))
    federation.until(federation.train)
    with pytest.raises(ValueError, match="the vectors are not closed"):
        federation.collector.open()


def test_a_collector_needs_memory_for_one_vector():
    import tracemalloc

    length = 1 << 18
    federation = Federation(make_vectors(8, length))
    federation.until(federation.receive)
    masked = np.ones(length, "<u8")
    tracemalloc.start()
    for name in federation.vectors:
        federation.collector.add(name, masked)
    federation.collector.close_vectors()
    for client in federation.clients.values():
        client.mask(np.zeros(1, "<u8"))
        federation.collector.add_opening(client.client, client.unmask(list(federation.vectors)))
    federation.collector.open()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * masked.nbytes


def test_the_sum_is_opened_once():
    federation = Federation(make_vectors(3))
    federation.run()
    with pytest.raises(ValueError, match="has been opened"):
        federation.collector.open()
