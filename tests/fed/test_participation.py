"""Drawing of the clients of a round."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.fed.participation import ALL_AT_ONCE, Participation, draw_clients
from tests.support.federation import make_profile

MODALITIES = st.lists(st.sampled_from(["CT", "MRI", "US"]), min_size=1, max_size=12)
FRACTIONS = st.floats(0.01, 1.0)


def clients_of(modalities):
    return [(node, make_profile(f"c{node:02}", name)) for node, name in enumerate(modalities, 2)]


def draw(clients, fraction, round_=1, seed=0, participation=ALL_AT_ONCE):
    return draw_clients(clients, participation, fraction, seed, round_)


def names_of(clients):
    return {profile.client for _, profile in clients}


@given(MODALITIES, FRACTIONS, st.integers(0, 4))
def test_every_modality_has_its_part_but_never_fewer_than_one_or_than_needed(modalities, fraction, need):
    clients = clients_of(modalities)
    drawn = draw(clients, fraction, participation=Participation(min_clients=need))
    assert drawn == [one for one in clients if one in drawn]
    counts = Counter(profile.modality for _, profile in drawn)
    for modality, present in Counter(modalities).items():
        assert counts[modality] >= min(present, max(1, need))
        assert counts[modality] <= max(1, need, fraction * present + 0.5)
        assert counts[modality] >= min(present, fraction * present - 0.5)


@given(MODALITIES)
def test_the_fraction_1_asks_everyone(modalities):
    assert draw(clients_of(modalities), 1.0) == clients_of(modalities)


def test_a_modality_may_need_more_clients_than_the_others():
    need = Participation(min_clients_by_modality={"US": 3})
    drawn = draw(clients_of(["US"] * 4 + ["MRI"] * 4), 0.25, participation=need)
    assert Counter(profile.modality for _, profile in drawn) == {"US": 3, "MRI": 1}


@pytest.mark.parametrize(("fraction", "size"), [(0.1, 3), (0.5, 15), (0.55, 17), (0.54, 16)])
def test_the_number_is_rounded_to_the_nearest_and_halves_are_rounded_up(fraction, size):
    assert len(draw(clients_of(["MRI"] * 30), fraction)) == size


@given(MODALITIES, FRACTIONS, st.integers(1, 50))
def test_numbers_of_nodes_and_their_order_change_nothing(modalities, fraction, round_):
    clients = clients_of(modalities)
    others = [(1000 - node, profile) for node, profile in reversed(clients)]
    assert names_of(draw(clients, fraction, round_)) == names_of(draw(others, fraction, round_))


@given(MODALITIES, FRACTIONS, st.data())
def test_a_client_that_is_absent_changes_the_place_of_one_other_at_most(modalities, fraction, data):
    clients = clients_of(modalities)
    absent = data.draw(st.sampled_from(clients))
    before = names_of(draw(clients, fraction)) - names_of([absent])
    after = names_of(draw([one for one in clients if one is not absent], fraction))
    assert len(before ^ after) <= 1


def test_rounds_and_seeds_draw_anew_and_everyone_has_a_turn():
    clients = clients_of(["MRI"] * 6)
    rounds = [names_of(draw(clients, 0.34, round_)) for round_ in range(1, 31)]
    counts = Counter(name for drawn in rounds for name in drawn)
    assert set(counts) == names_of(clients)
    assert rounds != [names_of(draw(clients, 0.34, round_, seed=1)) for round_ in range(1, 31)]


def test_another_modality_does_not_change_the_draw():
    mri = clients_of(["MRI"] * 6)
    us = [(node + 100, replace(make_profile(f"u{node}"), modality="US")) for node in range(5)]
    assert [one for one in draw([*mri, *us], 0.5) if one[1].modality == "MRI"] == draw(mri, 0.5)
