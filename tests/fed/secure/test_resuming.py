"""Secure rounds of a run that was stopped, of clients that come and go, and sums that were opened before."""

import stat

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.participation import Participation
from flames_cli.store.checkpoint import load_state, save_state
from flames_cli.store.client_state import load_client_state_of
from flames_cli.store.files.atomic import remove_folder
from tests.fed.secure.test_drop_outs import FOUR, THREE, assert_close, dying, without
from tests.support.asserts import assert_same, assert_same_state, without_timings
from tests.support.federation import make_profile, run_federation
from tests.support.secure import KEYS, TOKEN, TRAIN, UNMASK, run_secure

ALL = [*FOUR, *THREE]


@pytest.mark.parametrize("algorithm", ["flames", "fedavg-modality"])
def test_a_stopped_run_ends_with_the_same_bits(algorithm, tmp_path):
    """The masks are others each time; the sums are integers, and do not depend on them."""
    whole = run_secure(ALL, tmp_path / "whole", algorithm, rounds=3)
    first = run_secure(ALL, tmp_path / "parts", algorithm, rounds=1)
    save_state(tmp_path / "checkpoints", first.state, keep=1)
    stored = load_state(tmp_path / "checkpoints")
    rest = run_secure(ALL, tmp_path / "parts", algorithm, rounds=3, resumed=stored)
    assert_same_state(rest.state, whole.state)
    for one, other in zip(rest.state.sums, whole.state.sums, strict=True):
        assert (one.group, one.round, one.clients) == (other.group, other.round, other.clients)
        assert one.total == other.total
    for (client, round_), weights in rest.starts.items():
        assert_same(weights, whole.starts[client, round_])
    assert without_timings(first.records + rest.records) == without_timings(whole.records)


def test_rounds_that_are_repeated_after_a_lost_checkpoint_end_with_the_same_bits(tmp_path):
    whole = run_secure(FOUR, tmp_path / "whole", rounds=4)
    first = run_secure(FOUR, tmp_path / "parts", rounds=3)
    # The newest two checkpoints are lost; the clients have opened these rounds before.
    again = run_secure(FOUR, tmp_path / "parts", rounds=4, resumed=first.saved[0][0])
    assert_same_state(again.state, whole.state)


@pytest.mark.parametrize("action", [KEYS, TRAIN])
def test_a_round_that_was_opened_without_a_client_is_repeated_without_it(action, tmp_path):
    first = run_secure(FOUR, tmp_path, rounds=2, spoil=dying(2, action, "m2"))
    again = run_secure(FOUR, tmp_path, rounds=3, resumed=first.saved[0][0])
    record = again.records[0]
    assert record["accepted"] == ["m1", "m3", "m4"]
    assert record["rejected"] == {
        "m2": "the sum of this round was opened before without it, and is made again so"
    }
    assert_same(again.saved[0][0].server["MRI"], first.state.server["MRI"])
    assert again.records[1]["accepted"] == ["m1", "m2", "m3", "m4"]


def test_clients_open_no_second_sum_of_a_round_with_others(tmp_path):
    """The first time without m2, the second time without m4: the difference would be that of two clients."""
    first = run_secure(FOUR, tmp_path, rounds=2, spoil=dying(2, TRAIN, "m2"))
    before = first.saved[0][0]

    def forget(at, client, round_, message, answer):
        # A server that hides from itself that the clients have opened the round, and lets m4 drop out.
        reply = answer()
        if at == KEYS and round_ == 2:
            reply.content["secure"]["names"] = []
        if (at, client, round_) == (TRAIN, "m4", 2):
            raise FlamesError("left out by the server")
        return reply

    with pytest.raises(FlamesError, match="round 2 opened no secure sum") as error:
        run_secure(FOUR, tmp_path, rounds=2, resumed=before, spoil=forget)
    assert "the sum of 3 clients cannot be opened" in str(error.value)


def test_a_round_that_cannot_be_opened_as_it_was_is_left_out_and_the_run_goes_on(tmp_path):
    first = run_secure(FOUR, tmp_path, rounds=2, spoil=dying(2, TRAIN, "m2"))
    # m4, which was in the sum, is lost while the server is down.
    again = run_secure(FOUR, tmp_path, rounds=3, resumed=first.saved[0][0], spoil=dying(2, KEYS, "m4"))
    left_out, last = again.records
    assert (left_out["accepted"], left_out["unchanged_groups"], left_out["groups"]) == ([], ["MRI"], {})
    assert_same(again.saved[0][0].server["MRI"], first.saved[0][0].server["MRI"])
    assert last["accepted"] == ["m1", "m2", "m3", "m4"]


def test_the_same_clients_open_no_second_sum_with_other_factors(tmp_path):
    """With three clients, FLAMES' two sums and one by images would be three equations for three models."""
    first = run_secure(THREE, tmp_path, rounds=2)
    again = run_secure(THREE, tmp_path, "fedavg-modality", rounds=2, resumed=first.saved[0][0])
    assert again.records[0]["accepted"] == []
    assert "the sum of 3 clients cannot be opened" in again.records[0]["rejected"]["u1"]
    assert_same(again.state.server["US"], first.saved[0][0].server["US"])


def test_a_client_opens_a_sum_once_and_then_deletes_its_session_with_the_secrets(tmp_path):
    """The server asks twice in one session: for all, and then for three of the four."""
    reasons = []

    def ask_again(at, client, round_, message, answer):
        reply = answer()
        if at == UNMASK:
            others = [one.client for one in FOUR if one.client != ("m1" if client == "m4" else "m4")]
            message.content["secure"]["names"] = others
            with pytest.raises(FlamesError) as error:
                answer()
            reasons.append(str(error.value))
        return reply

    found = run_secure(FOUR, tmp_path, rounds=1, spoil=ask_again)
    assert found.records[0]["accepted"] == ["m1", "m2", "m3", "m4"]
    assert len(reasons) == 4
    assert all("it knows no such session of secure aggregation" in reason for reason in reasons)
    assert [path.name for path in tmp_path.glob("*/*/secure/*")] == ["opened.json"] * 4


def test_a_client_that_joins_late_begins_with_the_model_of_its_group(tmp_path):
    early = run_secure(FOUR, tmp_path, rounds=2)
    profiles = [*FOUR, make_profile("m5", n_train=3), *THREE]
    late = run_secure(profiles, tmp_path, rounds=4, resumed=early.state)
    assert_same(late.starts["m5", 3], early.state.server["MRI"])
    assert late.records[0]["groups"].keys() == {"MRI", "US"}
    plain = run_federation(
        profiles, rounds=4, resumed=run_federation(FOUR, rounds=2).state, initial=late.starts["u1", 3]
    )
    for client in ("m1", "m5", "u2"):
        assert_close(late.starts[client, 4], plain.received(4)[client])


def test_a_client_that_missed_rounds_makes_its_model_from_the_sum_that_it_was_in(tmp_path):
    def absent(at, client, round_, message, answer):
        if client == "m2" and 2 <= round_ <= 6:
            raise FlamesError("on holiday")
        return answer()

    def train(request, weights, who):
        if who.client == "m2" and 2 <= request.round <= 6:
            raise FlamesError("on holiday")
        return plain_train(request, weights, who)

    plain_train = without()
    found = run_secure(FOUR, tmp_path, rounds=7, spoil=absent)
    plain = run_federation(FOUR, rounds=7, train=train)
    assert_close(found.starts["m2", 7], plain.received(7)["m2"])
    assert [one.round for one in found.saved[5][0].sums] == [1, 6]
    assert [one.round for one in found.state.sums] == [7]


def test_a_fraction_of_the_clients_takes_part_in_each_round(tmp_path):
    profiles = [*FOUR, make_profile("m5", n_train=7), make_profile("m6", n_train=9)]
    options = {"rounds": 4, "fraction": 0.5, "participation": Participation(min_clients=3)}
    found, plain = run_secure(profiles, tmp_path, **options), run_federation(profiles, **options)
    assert [one["accepted"] for one in found.records] == [one["accepted"] for one in plain.records]
    assert {len(one["accepted"]) for one in found.records} == {3}
    assert_close(found.state.server["MRI"], plain.state.server["MRI"])
    needed = {last.round for last in found.state.clients.values() if last.round}
    assert {one.round for one in found.state.sums} == needed


def test_a_client_without_its_report_cannot_read_the_sum_and_says_so(tmp_path):
    first = run_secure(FOUR, tmp_path, rounds=1)
    remove_folder(tmp_path / TOKEN / "m3")
    rest = run_secure(FOUR, tmp_path, rounds=2, resumed=first.state)
    assert rest.records[0]["accepted"] == ["m1", "m2", "m4"]
    assert "the report of round 1 is not in" in rest.records[0]["rejected"]["m3"]


def test_a_client_declines_the_sum_of_another_session(tmp_path):
    """Read with the key of its own session, it would be noise, from which the client would train."""
    other = run_secure(FOUR, tmp_path / "other", rounds=1)
    run_secure(FOUR, tmp_path / "parts", rounds=1)
    with pytest.raises(FlamesError, match="the report of round 1 is not in"):
        run_secure(FOUR, tmp_path / "parts", rounds=2, resumed=other.state)


def test_what_a_client_stores_is_readable_by_its_owner_only(tmp_path):
    run_secure(FOUR, tmp_path, rounds=1)
    stored = load_client_state_of(tmp_path / TOKEN / "m1", 1)
    assert sorted(stored) == ["own", "own_factor"]
    for path in (tmp_path / TOKEN / "m1").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600) or path.name in (
            "memory.json",
            ".secure.lock",
        )


def test_a_damaged_list_of_opened_sums_ends_the_client_s_part(tmp_path):
    first = run_secure(FOUR, tmp_path, rounds=1)
    (tmp_path / TOKEN / "m3" / "secure" / "opened.json").write_text("{")
    rest = run_secure(FOUR, tmp_path, rounds=2, resumed=first.state)
    assert (
        "a second sum of the same round with other clients would reveal" in rest.records[0]["rejected"]["m3"]
    )
