import pytest

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.preparation import Preparation
from flames_cli.fed.events import Noted
from flames_cli.fed.joined import JoinedClients
from tests.support.federation import make_profile, run_federation


def of_window(client, low, high):
    return make_profile(client, "CT", preparation=Preparation((IntensityRule((low, high)),)))


@pytest.fixture
def saved():
    return []


@pytest.fixture
def events():
    return []


def test_clients_are_saved_when_one_joins_and_only_then(saved, events):
    joined = JoinedClients(saved.append, events.append)
    first, second = make_profile("a"), make_profile("b")
    for known in ([first], [first], [first, second], [first, second]):
        joined.note(known)
    assert saved == [[first], [first, second]]
    assert events == []


def test_a_client_that_joins_later_with_another_window_is_noted_once(saved, events):
    joined = JoinedClients(saved.append, events.append)
    a, b, c = of_window("a", -160.0, 240.0), of_window("b", 0.0, 100.0), make_profile("c")
    for known in ([a], [a, b], [a, b, c]):
        joined.note(known)
    (noted,) = events
    assert isinstance(noted, Noted)
    assert "a: window -160 to 240; b: window 0 to 100" in noted.note


def test_a_federation_saves_its_clients_before_the_first_round_and_continues_with_a_note():
    profiles = [of_window("a", -160.0, 240.0), of_window("b", 0.0, 100.0)]
    seen = run_federation(profiles, rounds=2)
    assert seen.joined == [profiles]
    assert len([event for event in seen.events if isinstance(event, Noted)]) == 1
    assert seen.records[-1]["accepted"] == ["a", "b"]
