"""Secure aggregation between real nodes, over TLS on this machine's loopback, and the death of its processes.

The nodes pin each other's identities and require secure aggregation. Everything that the server receives is
recorded.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from flwr.common.serde import message_to_proto

from flames_cli.config import FederateConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import OWN
from flames_cli.fed.engines import inline
from flames_cli.fed.events import ClientAsked, Event, NodeRejected, Noted, RoundDone, Waiting
from flames_cli.fed.messages import ARRAYS
from flames_cli.fed.secure.messages import WORDS, unpack_masked
from flames_cli.flower.processes import free_port
from flames_cli.stages.deploy.identity import site_identity
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import list_rounds, load_state
from flames_cli.store.client_state import load_client_state_of
from flames_cli.store.deployment.folders import Site, write_site
from flames_cli.store.models import read_model
from tests.support.asserts import assert_same, assert_same_state, without_timings
from tests.support.cluster import SECONDS, Cluster, start_cluster
from tests.support.packed import entries_in
from tests.support.recorded import (
    FRACTION,
    Recorder,
    find_numbers,
    find_weights,
    read_replies,
    read_requests,
    unevenness,
)
from tests.support.tiny import make_tiny, tiny_options

pytestmark = [pytest.mark.federated, pytest.mark.long]

SITES = tuple(f"brats-{number}" for number in (1, 2, 3, 4))


def make_secure_cluster(
    root: Path, sites: tuple[str, ...], taps: dict[str, dict[str, str]]
) -> Iterator[Cluster]:
    """Start nodes that pin each other and require secure aggregation, with a server that records."""
    workspace = root / "workspace"
    make_tiny(workspace, brats=len(sites))
    deployment = init_deployment(root / "deployment", "localhost", free_port(), list(sites), 30)
    folders = {name: deployment.site(name) for name in sites}
    identities = {name: site_identity(site) for name, site in folders.items()}
    for name, site in folders.items():
        others = {other: identity for other, identity in identities.items() if other != name}
        write_site(Site(site.path, name, site.superlink, (), others, secure_only=True))
    (root / "record").mkdir()
    yield from start_cluster(
        workspace, root, deployment, sites, {"server": {"RECORD": str(root / "record")}, **taps}
    )


def killed_at(what: str, root: Path, name: str) -> dict[str, str]:
    counts = root / "counts" / name
    counts.mkdir(parents=True)
    return {"KILL": what, "COUNTS": str(counts)}


def run_options(cluster: Cluster, run: str, **options) -> FederateConfig:
    """Return the options of a run; with SGD, small differences stay small, and not with Adam."""
    return FederateConfig(**tiny_options(cluster.workspace, run=run, optimiser="sgd", **options))


def between_nodes(
    cluster: Cluster, run: str, secure: bool = True, wait: float = SECONDS, **options
) -> FederateConfig:
    return run_options(
        cluster,
        run,
        secure_aggregation=secure,
        engine="superlink",
        deployment=cluster.deployment.path,
        wait_for_clients=wait,
        min_clients_by_modality={"MRI": len(cluster.deployment.sites)},
        **options,
    )


def in_this_process(cluster: Cluster, run: str, **options):
    return federate(run_options(cluster, run, clients=list(cluster.deployment.sites), **options))


def own_reports(site: Site) -> list[dict[str, np.ndarray]]:
    """Return the client's own reports that are on its disk."""
    return [
        load_client_state_of(folder, round_)[OWN]
        for folder in site.client_state.glob("*/*")
        for round_ in list_rounds(folder)
    ]


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Iterator[Cluster]:
    """Three nodes, of which brats-2 is killed in round 2, after its training and before its reply."""
    root = tmp_path_factory.mktemp("three")
    yield from make_secure_cluster(
        root, SITES[:3], {"brats-2": killed_at("node train after 2", root, "brats-2")}
    )


def test_three_nodes_train_of_which_one_is_killed_and_the_server_sees_only_sums(three, monkeypatch):
    config = between_nodes(three, "secure", rounds=2)
    with pytest.raises(FlamesError, match=r"^round 2 opened no secure sum \(.*brats-2: "):
        federate(config)
    result = federate(config)
    assert [record["accepted"] for record in result.records] == [list(SITES[:3])] * 2
    assert [record["rejected"] for record in result.records] == [{}] * 2

    monkeypatch.setattr(inline, "InlineGrid", Recorder)
    plain = in_this_process(three, "plain", rounds=2)
    state = load_state(plain.folder / "checkpoints", result.chosen.round)
    wire = read_requests(three.root / "record")
    for name in SITES[:3]:
        site = three.deployment.site(name)
        _, weights = read_model(site.models / "secure")
        assert_same(weights, state.final_model_for(name, "MRI", "MRI"), atol=1e-6)
        for report in own_reports(site):
            assert find_weights(wire, report) == []
        assert find_weights(wire, weights) == []
    losses = [one["train_loss"] for record in plain.records for one in record["clients"]]
    assert find_numbers(wire, losses) == []
    # The same search finds both where a server receives them.
    reports = [
        entries_in(reply.content[ARRAYS]) for reply in Recorder.kept if reply.metadata.message_type == "train"
    ]
    seen = b"".join(message_to_proto(reply).SerializeToString() for reply in Recorder.kept)
    assert len(reports) == 6
    assert all(find_weights(seen, report) for report in reports)
    assert find_numbers(seen, losses) == losses
    floats = [array.reshape(-1) for array in reports[0].values() if array.dtype == np.float32]
    assert unevenness(np.rint(np.concatenate(floats) * 2.0**FRACTION).astype(np.int64)) > 100

    replies = read_replies(three.root / "record")
    vectors = [unpack_masked(reply) for reply in replies if WORDS in reply.content]
    # One of round 2 was lost; the pass after the last round has small vectors.
    sizes = Counter(one.words.size for one in vectors)
    assert sorted(sizes.values()) == [3, 3 + 2 + 3]
    assert all(abs(unevenness(one.words)) < 8 for one in vectors)
    # The masks between clients cancel in the sum; the own masks of all clients are left.
    sessions = {one.session for one in vectors}
    for session in sessions:
        total = sum(one.words for one in vectors if one.session == session)
        assert abs(unevenness(total)) < 8
    for first, second in combinations((one.words for one in vectors), 2):
        if first.size == second.size:
            assert abs(unevenness(first + second)) < 8
            assert abs(unevenness(first - second)) < 8


def test_a_node_that_requires_secure_aggregation_declines_a_plain_run(three):
    events: list[Event] = []
    with pytest.raises(FlamesError, match="no client joined the federation"):
        federate(
            between_nodes(three, "plain-between-nodes", secure=False, wait=15.0, rounds=1), events.append
        )
    reasons = [event.reason for event in events if isinstance(event, NodeRejected)]
    assert len(reasons) == 3
    assert all("its owner takes part only in runs with secure aggregation" in reason for reason in reasons)


def test_a_server_that_is_killed_continues_and_a_node_that_lies_in_its_shares_is_named(three):
    three.taps["brats-1"] = {"LIE": "1"}
    three.start_node("brats-1")
    events: list[Event] = []
    turns = {
        (ClientAsked, 1): lambda: three.superlink().kill(),
        (RoundDone, 1): lambda: three.server_app().kill(),
    }

    def watch(event: Event) -> None:
        events.append(event)
        round_ = event.record["round"] if isinstance(event, RoundDone) else getattr(event, "round", 0)
        turns.pop((type(event), round_), lambda: None)()

    real = federate(between_nodes(three, "again", rounds=2), watch)
    assert turns == {}
    assert sum(isinstance(event, Waiting) and "was lost" in event.missing for event in events) == 2
    notes = [event.note for event in events if isinstance(event, Noted) and "share" in event.note]
    assert notes
    assert all(note.startswith("client brats-1 ") for note in notes)
    same = in_this_process(three, "inline", secure_aggregation=True, rounds=2)
    assert_same_state(*(load_state(result.folder / "checkpoints") for result in (real, same)))
    for record in (*real.records, *same.records):
        del record["bytes_down"], record["bytes_up"]  # real nodes sign their keys
    assert without_timings(real.records) == without_timings(same.records)


KILLS = {"brats-1": "process query.keys before 1", "brats-2": "process query.shares before 2"}
KILLS |= {"brats-3": "process train after 3", "brats-4": "process query.unmask before 4"}


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> Iterator[Cluster]:
    """Four nodes; the process that answers is killed at each in another round, in another exchange."""
    root = tmp_path_factory.mktemp("four")
    yield from make_secure_cluster(
        root, SITES, {name: killed_at(what, root, name) for name, what in KILLS.items()}
    )


def test_a_round_goes_on_without_one_of_four_nodes_that_is_killed_in_any_exchange(four):
    result = federate(between_nodes(four, "kills", rounds=4))
    lost = [set(record["rejected"]) for record in result.records]
    # A vector that has arrived is in the sum, even if its node cannot help to open it.
    assert lost == [{"brats-1"}, {"brats-2"}, {"brats-3"}, set()]
    for record, left_out in zip(result.records, lost, strict=True):
        assert record["accepted"] == [name for name in SITES if name not in left_out]
    assert all((four.root / "counts" / name / "count").stat().st_size >= 4 for name in SITES)
