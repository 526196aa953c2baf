"""Swarms in complete federations, from shards to checkpoints, evaluations and reports."""

import json

import pytest

from flames_cli.config import ExportConfig, FederateConfig, ReportConfig
from flames_cli.core.federated.topology import NEIGHBOURS, Topology
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS, get_algorithm
from flames_cli.fed.engines import OBSERVER
from flames_cli.fed.events import Noted
from flames_cli.stages.export.stage import export
from flames_cli.stages.federate.planning import choose_algorithm
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.federate.start_warnings import neighbours_see
from flames_cli.stages.federate.swarm import NEED_A_SERVER, check_swarm, is_supported, topology_of
from flames_cli.stages.report.stage import report
from flames_cli.store.checkpoint import load_state
from flames_cli.store.models import read_model
from tests.support.asserts import assert_same_state, without_timings
from tests.support.stages import evaluate_run, federate_config
from tests.support.tiny import make_tiny

CLIENTS = [(f"brats-{number}", "MRI") for number in range(1, 5)]


def state_of(result):
    return load_state(result.folder / "checkpoints")


def swarm_config(**options):
    return FederateConfig(engine="swarm", **options)


def check(clients=CLIENTS, **options):
    config = swarm_config(**options)
    check_swarm(config, choose_algorithm(config), clients)


@pytest.fixture(scope="module")
def four(tmp_path_factory, one_thread):
    """A workspace with four clients of MRI and one of US, for runs with names of their own."""
    root = tmp_path_factory.mktemp("four") / "workspace"
    make_tiny(root, brats=4)
    return root


@pytest.fixture(scope="module")
def uninterrupted(four):
    """A run of three rounds with absences, and the notes of its start."""
    notes = []

    def listen(event):
        if isinstance(event, Noted):
            notes.append(event.note)

    return federate(federate_config(four, run="whole", rounds=3, engine="swarm", absent=0.4), listen), notes


@pytest.mark.federated
def test_full_topology_without_absence_gives_the_checkpoint_of_flames(four):
    flames = federate(federate_config(four, run="flames"))
    swarm = federate(federate_config(four, run="full", engine="swarm", topology="full"))
    assert_same_state(state_of(swarm), state_of(flames))
    found, expected = (
        {path.name: path.read_bytes() for path in (one.folder / "checkpoints").rglob("*.safetensors")}
        for one in (swarm, flames)
    )
    assert found == expected
    numbers = [
        [{key: one[key] for key in ("client", "train_loss", "update_norm")} for one in record["clients"]]
        for result in (swarm, flames)
        for record in result.records
    ]
    assert numbers[:2] == numbers[2:]


@pytest.mark.federated
def test_a_swarm_that_continues_ends_like_one_that_never_stopped(four, uninterrupted):
    options = {"run": "again", "engine": "swarm", "absent": 0.4}
    federate(federate_config(four, rounds=1, **options))
    resumed = federate(federate_config(four, rounds=3, **options))
    whole, _ = uninterrupted
    assert resumed.resumed_from == 1
    assert_same_state(state_of(resumed), state_of(whole))
    assert without_timings(resumed.records) == without_timings(whole.records)
    assert any(record["offline"] for record in whole.records)


@pytest.mark.federated
@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"engine": "inline"}, "topology 'ring' → None"),
        ({"engine": "swarm", "absent": 0.2}, "absent 0.4 → 0.2"),
    ],
)
def test_a_swarm_does_not_continue_as_something_else(changes, differs, four, uninterrupted):
    with pytest.raises(FlamesError, match=f"made with other options .*{differs}"):
        federate(federate_config(four, run="whole", rounds=4, **changes))


@pytest.mark.federated
def test_a_swarm_is_evaluated_with_the_models_of_its_peers_and_that_of_an_observer(four, uninterrupted):
    evaluated = evaluate_run(four, "whole")
    assert [row.label for row in evaluated.clients] == [*(name for name, _ in CLIENTS), "busi"]
    assert {row.label for row in evaluated.server} == {"MRI", "US"}
    (run,) = evaluated.content.runs
    assert run.why.endswith(OBSERVER)


@pytest.mark.federated
def test_an_exported_model_of_a_swarm_says_whose_it_is(four, uninterrupted):
    shared = {"workspace": four, "run": "whole"}
    observed = export(ExportConfig(**shared, model="MRI", name="observed"))
    own = export(ExportConfig(**shared, model="client:brats-1", name="own"))
    assert OBSERVER in read_model(observed.folder)[0].training.why
    assert OBSERVER not in read_model(own.folder)[0].training.why


@pytest.mark.federated
def test_a_swarm_has_a_report(four, uninterrupted):
    made = report(ReportConfig(workspace=four, run="whole"))
    page = made.path.read_text(encoding="utf-8")
    assert "bytes are those that pass over all links" in page
    assert "and no peer has them" in page


@pytest.mark.federated
def test_a_swarm_says_at_the_start_who_sees_the_weights(uninterrupted):
    _, notes = uninterrupted
    (note,) = [note for note in notes if "this swarm" in note]
    assert "up to 2 of MRI" in note
    assert "the only peer of US has no neighbours, and trains alone" in note


@pytest.mark.federated
def test_neighbour_means_are_models_of_the_peers(four):
    result = federate(
        federate_config(four, run="means", rounds=1, engine="swarm", strategy="fedavg-modality")
    )
    assert sorted(state_of(result).personal) == [*(name for name, _ in CLIENTS), "busi"]
    assert len(evaluate_run(four, "means").clients) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"aggregation": "median", "strategy": "fedavg"},
            "--aggregation median with --engine swarm: it compares",
        ),
        ({"max_update_norm": 5}, "--max-update-norm 5.0 with --engine swarm: it compares"),
        (
            {"server_momentum": 0.5, "strategy": "fedavg"},
            "--server-momentum 0.5 .* only a server makes steps",
        ),
        ({"ema": 0.5}, "--ema 0.5 with --engine swarm: only a server averages"),
        ({"fraction": 0.5}, "--fraction 0.5 with --engine swarm: nobody draws the peers"),
        ({"rounds_by": "modality"}, "--rounds-by modality with --engine swarm: peers of"),
        ({"style_from": 2}, "--style-from 2 with --engine swarm: a server passes styles"),
        ({"min_clients": 2}, "--min-clients 2 with --engine swarm: no server waits"),
        ({"min_clients_by_modality": {"US": 1}}, "--min-clients US=1 with --engine swarm: no server waits"),
        ({"wait_for_clients": 5}, "--wait-for-clients 5.0 with --engine swarm: no server waits"),
        ({"round_timeout": 5}, "--round-timeout 5.0 with --engine swarm: no server waits"),
        ({"wire_dtype": "fp16"}, "--wire-dtype fp16 with --engine swarm: a report in a narrow type"),
        (
            {"dp_noise": 1.0, "dp_clip": 1.0, "strategy": "fedavg"},
            "--dp-noise 1.0 with --engine swarm: a server that all trust",
        ),
    ],
)
def test_what_needs_a_server_is_refused_with_the_reason(options, message):
    with pytest.raises(FlamesError, match=message):
        check(**options)


def test_every_option_that_needs_a_server_is_one_of_federate():
    assert NEED_A_SERVER.keys() <= FederateConfig.model_fields.keys()


def test_options_without_effect_are_accepted():
    check(max_update_norm=0, absent=0.5, topology="random", neighbours=2)


@pytest.mark.parametrize("strategy", ALGORITHMS.builtin)
def test_strategies_with_more_than_a_blend_of_weights_are_refused_by_name(strategy):
    able = {"flames", "flames-fedgs", "fedavg", "fedavg-modality", "fedgs", "fedgs-unscaled", "fedprox"}
    assert is_supported(get_algorithm(strategy)) == (strategy in able)
    options = {"strategy": strategy, **({"optimiser": "sgd"} if strategy == "scaffold" else {})}
    if strategy in able:
        check(**options)
        return
    with pytest.raises(FlamesError, match=f"got --strategy {strategy} with --engine swarm, .* flames, "):
        check(**options)


def test_a_graph_that_does_not_exist_is_refused_before_the_run():
    with pytest.raises(FlamesError, match=r"--neighbours 5 is impossible for the 4 peers of MRI, .* 2, 3 "):
        check(topology="random", neighbours=5)


@pytest.mark.parametrize("options", [{"topology": "ring"}, {"neighbours": 2}, {"absent": 0.2}])
def test_options_of_a_swarm_are_refused_with_other_engines(options):
    ((key, value),) = options.items()
    with pytest.raises(
        FlamesError, match=f"got --{key} {value} with --engine inline, .* expected --engine swarm"
    ):
        topology_of(FederateConfig(**options))


@pytest.mark.parametrize("kind", [None, "ring", "full"])
def test_the_number_of_neighbours_is_an_option_of_random_graphs(kind):
    with pytest.raises(FlamesError, match=f"--neighbours 2 with --topology {kind or 'ring'}, which decides"):
        topology_of(swarm_config(topology=kind, neighbours=2))


def test_the_default_is_a_ring_and_three_neighbours():
    assert topology_of(swarm_config(seed=4)) == Topology("ring", 4)
    assert topology_of(swarm_config(topology="random")) == Topology("random", 0, NEIGHBOURS)
    shown = FederateConfig.model_fields["neighbours"].json_schema_extra["shown"]
    assert shown == str(NEIGHBOURS)


@pytest.mark.federated
def test_a_run_stores_the_topology_that_it_used(uninterrupted):
    result, _ = uninterrupted
    text = (result.folder / "config.toml").read_text(encoding="utf-8")
    assert 'topology = "ring"' in text
    assert json.loads((result.folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()[1])["heard"]


def test_an_engine_with_a_server_says_nothing_about_neighbours(plan_of_flames):
    assert neighbours_see(plan_of_flames, (("a", "MRI", 3),)) == ""


@pytest.fixture
def plan_of_flames():
    from flames_cli.fed.plan import Plan
    from tests.support.federation import initial_weights

    return Plan(get_algorithm("flames"), 1, 0, "stub", {}, initial_weights(), 8)
