from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.reports import Entries, State
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.messages import ARRAYS, pack_task, unpack_task
from flames_cli.fed.packing import Packer
from flames_cli.fed.plan import Plan, with_model_groups
from tests.support.federation import make_profile

pytestmark = pytest.mark.usefixtures("identity")

WEIGHTS = {"conv.weight": np.linspace(-1, 1, 6, dtype=np.float32), "count": np.array(3)}


@pytest.fixture
def clients():
    return [make_profile("m1"), make_profile("m2"), make_profile("u1", "US")]


def plan(strategy, **changes):
    return replace(Plan(get_algorithm(strategy), 5, 0, "stub", {}, WEIGHTS, 8), **changes)


def pack_all(made, state, clients):
    packer = Packer(made, state.server, clients)
    return [
        packer.pack(made.task(state, 1, client, clients), client, node)
        for node, client in enumerate(clients, 2)
    ]


@pytest.mark.parametrize(
    "changes", [{}, {"entries": Entries(frozenset(), frozenset(), frozenset({"count"}))}]
)
def test_clients_of_one_group_are_sent_one_record(clients, changes):
    made = plan("fedavg-modality", **changes)
    first, second, other = pack_all(made, with_model_groups(None, made, clients), clients)
    assert first.content[ARRAYS] is second.content[ARRAYS]
    assert first.content[ARRAYS] is not other.content[ARRAYS]
    assert [message.metadata.dst_node_id for message in (first, second, other)] == [2, 3, 4]


@pytest.mark.parametrize("wire", ["fp32", "bf16"])
def test_a_shared_message_is_the_same_as_a_single_one(clients, wire):
    made = plan("fedavg", wire_dtype=wire)
    state = with_model_groups(None, made, clients)
    for client, message in zip(clients, pack_all(made, state, clients), strict=True):
        alone = pack_task(made.task(state, 1, client, clients), 2)
        assert message.content == alone.content
        assert unpack_task(message).request.client == client.client


def test_a_personalised_model_is_sent_to_its_client_only(clients):
    made = plan("flames")
    own = {"conv.weight": np.full(6, 7, np.float32), "count": np.array(9)}
    state = State(1, {"MRI": WEIGHTS, "US": WEIGHTS}, {"m1": own})
    first, second, _ = pack_all(made, state, clients)
    np.testing.assert_array_equal(unpack_task(first).weights["conv.weight"], own["conv.weight"])
    np.testing.assert_array_equal(unpack_task(second).weights["conv.weight"], WEIGHTS["conv.weight"])
