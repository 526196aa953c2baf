import numpy as np
import pytest

from flames_cli.core.federated.modalities import merge_states, part_of
from flames_cli.core.federated.reports import LastReport, State
from tests.support.asserts import assert_same_state


def make_state(group, clients, round_=2, releases=0):
    def weights(value):
        return {"w": np.full(2, value, np.float32)}

    return State(
        round=round_,
        server={group: weights(1)},
        personal={client: weights(number) for number, client in enumerate(clients)},
        optimiser_state={group: {"ema": weights(3)}},
        styles={client: weights(9) for client in clients},
        clients={client: LastReport(group, round_) for client in clients},
        releases=releases,
    )


MRI, US = make_state("MRI", ["b", "d"]), make_state("US", ["a", "c"], releases=4)


def test_a_state_of_all_modalities_has_groups_by_their_first_client_and_clients_by_group():
    merged = merge_states([MRI, US])
    assert list(merged.server) == ["US", "MRI"]
    assert list(merged.personal) == ["a", "c", "b", "d"]
    assert list(merged.clients) == list(merged.styles) == ["a", "b", "c", "d"]
    assert merged.releases == 4
    assert_same_state(merged, merge_states([US, MRI]))


def test_the_part_of_a_modality_is_what_it_was_before():
    merged = merge_states([MRI, US])
    for state in (MRI, US):
        part = part_of(merged, set(state.clients))
        assert_same_state(part, state)
        assert part.clients == state.clients


def test_states_of_different_rounds_are_not_merged():
    with pytest.raises(ValueError, match=r"got states after the rounds \[2, 3\]"):
        merge_states([MRI, make_state("US", ["a"], 3)])
