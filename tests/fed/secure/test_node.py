"""Nodes that pin each other, or require secure aggregation."""

import re
from dataclasses import replace

import numpy as np
import pytest

from flames_cli.config import FederateConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.client import make_client_app
from flames_cli.fed.client_state import client_state_folder
from flames_cli.fed.engines import inline
from flames_cli.fed.federation import Federation
from flames_cli.fed.messages import TrainRequest, TrainTask, pack_task
from flames_cli.fed.node import Declined, NodeSettings
from flames_cli.fed.secure.node import check_plain, identity_of
from flames_cli.fed.server import make_server_app
from flames_cli.learn.train_options import TrainOptions
from flames_cli.stages.deploy.node import node_config
from flames_cli.stages.federate.planning import make_plan
from flames_cli.store.deployment.identity import ensure_identity, identity_text
from flames_cli.store.secure_sessions import SecureFiles
from flames_cli.store.workspace import partition_folder
from tests.support.tiny import make_tiny, tiny_options

CLIENTS = ("brats-1", "brats-2", "brats-3")
REQUEST = TrainRequest(1, 5, "a", TrainOptions(), "unet", "{}", run="0123456789abcdef")
OTHER = "ed25519:" + "07" * 32


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("three")
    make_tiny(root, brats=3)
    return root


@pytest.fixture
def nodes(workspace, tmp_path):
    """Settings of three nodes that pin each other, by client."""
    made = {}
    for name in CLIENTS:
        ensure_identity(tmp_path / f"{name}.key")
        made[name] = NodeSettings(
            (partition_folder(workspace) / "shards" / f"{name}.h5",),
            name,
            device="cpu",
            client_state=tmp_path / "state",
            private=True,
            identity=tmp_path / f"{name}.key",
        )
    identities = {name: identity_text(one.identity) for name, one in made.items()}
    return {
        name: replace(one, peers={other: key for other, key in identities.items() if other != name})
        for name, one in made.items()
    }


def run(workspace, nodes, secure=True):
    """Run one round of the real clients; return its record."""
    config = FederateConfig(**tiny_options(workspace, rounds=1, secure_aggregation=secure))
    plan = make_plan(config, {"size": 32, "channels": 1, "token": "0123456789abcdef"}, None)
    records = []
    federation = Federation(plan, lambda state, record: records.append(record))
    contexts = inline.make_contexts(
        {number: node_config(one) for number, one in enumerate(nodes.values(), 2)}
    )
    inline.run_inline(make_server_app(lambda _: federation), make_client_app(), contexts)
    return records[-1]


@pytest.mark.federated
def test_nodes_that_pin_each_other_share_a_sum_and_say_in_their_log_what_they_did(workspace, nodes, capsys):
    required = {name: replace(one, secure_only=True) for name, one in nodes.items()}
    assert run(workspace, required)["accepted"] == list(CLIENTS)
    said = re.sub("FLAMES: ", "", capsys.readouterr().err)
    assert "round 1: secure sum of MRI with 2 hospitals, pinned:\n  brats-2\n  brats-3\n" in said
    assert "  masked: the server can read only the sum with others\n" in said
    assert said.count("round 1: secure sum of MRI: opened for 3 hospitals, with this one\n") == 3
    assert "without pins" not in said


@pytest.mark.federated
def test_a_node_without_pins_says_what_a_dishonest_server_could_do(workspace, nodes, capsys):
    run(workspace, {name: replace(one, peers={}) for name, one in nodes.items()})
    said = capsys.readouterr().err
    assert said.count("with 2 hospitals, not pinned:") == 3
    assert said.count("without pins, a dishonest server could exchange the hospitals'") == 3


@pytest.mark.federated
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"brats-2": OTHER}, "the signature of brats-2 is wrong"),
        ({"brats-2": None}, "brats-2 is not pinned"),
    ],
)
def test_a_node_declines_a_sum_with_a_client_or_a_key_that_it_has_not_pinned(changes, says, workspace, nodes):
    peers = {name: key for name, key in {**nodes["brats-1"].peers, **changes}.items() if key}
    nodes["brats-1"] = replace(nodes["brats-1"], peers=peers)
    with pytest.raises(FlamesError, match="round 1 opened no secure sum") as ended:
        run(workspace, nodes)
    assert f"are not those that this site knows: {says}" in str(ended.value)


def test_a_node_that_requires_secure_aggregation_declines_plain_requests_only(nodes):
    node = nodes["brats-1"]
    check_plain(node, REQUEST, "its weights")
    with pytest.raises(Declined, match="and the server asks for its weights in the clear"):
        check_plain(replace(node, secure_only=True), REQUEST, "its weights")


def test_in_a_run_with_secure_aggregation_no_node_sends_a_report_in_the_clear(nodes):
    with pytest.raises(Declined, match="asks for a report in the clear in a run with secure aggregation"):
        check_plain(nodes["brats-1"], replace(REQUEST, secure="inverse"), "its weights")


def test_a_node_sends_nothing_in_the_clear_in_a_run_in_which_it_began_a_secure_sum(nodes):
    node = nodes["brats-1"]
    SecureFiles(client_state_folder(node, REQUEST.run, "brats-1")).save_session(b"")
    with pytest.raises(Declined, match="asks for a report in the clear in a run with secure aggregation"):
        check_plain(node, REQUEST, "its weights")


@pytest.mark.parametrize("kind", ["train", "evaluate", "evaluate.final"])
def test_a_server_that_asks_for_a_plain_answer_all_the_same_gets_none(kind, nodes):
    node = replace(nodes["brats-1"], secure_only=True)
    context = inline.make_contexts({2: node_config(node)})[2]
    task = TrainTask(REQUEST, {"w": np.zeros(3, np.float32)})
    with pytest.raises(Declined, match="its owner takes part only in runs with secure aggregation"):
        make_client_app()(pack_task(task, 2, kind), context)


def test_a_simulated_node_has_no_identity():
    assert identity_of(NodeSettings(())).sign is None
