"""Strategies, optimisers and disentangled models in complete federations, from shards to checkpoints."""

from urllib.parse import unquote

import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.fed.events import ReportReceived
from flames_cli.learn.models import build_model
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.client_state import load_client_state
from flames_cli.store.partition import read_partition
from flames_cli.store.runs import read_config
from flames_cli.store.workspace import partition_file
from tests.support.asserts import assert_same_state, assert_same_tree, without_timings
from tests.support.stages import evaluate_run, federate_config

pytestmark = pytest.mark.federated

SGD = {"optimiser": "sgd", "lr": 0.1}
SDNET = {"model": "sdnet", "model_options": {"base_channels": 2, "depth": 2}, "lr": 1e-3}
NEEDS = {"scaffold": SGD}
"""Options that a strategy needs."""


def state_of(result):
    return load_state(result.folder / "checkpoints")


def memories_of(result):
    """Return {client: {kind: its state now}} of the clients that have state."""
    folders = (result.folder / "clients").glob(f"{token_of(result)}/*")
    return {unquote(folder.name): load_client_state(folder, 99999) for folder in folders}


def token_of(result):
    return read_config(result.folder / "config.toml")["run"]["token"]


CLIENTS = ["brats-1", "brats-2", "busi"]
MODELS = {
    "flames": (["MRI", "US"], CLIENTS),
    "flames-fedgs": (["MRI", "US"], CLIENTS),
    "flames-adaptive": (["MRI", "US"], CLIENTS),
    "fedbn": (["all"], CLIENTS),
    "fedavg-modality": (["MRI", "US"], []),
    "local": (CLIENTS, []),
    "centralised": (["MRI", "US"], []),
}
"""The server's models and the personal ones, where a strategy has others than one model for all."""


@pytest.mark.parametrize("strategy", ALGORITHMS)
def test_every_strategy_gives_the_same_bytes_for_the_same_seed(strategy, tiny):
    options = {"strategy": strategy, **NEEDS.get(strategy, {})}
    one, other = (federate(federate_config(tiny(), rounds=rounds, **options)) for rounds in (2, 1))
    assert_same_state(load_state(one.folder / "checkpoints", 1), state_of(other))
    assert without_timings(one.records)[:1] == without_timings(other.records)
    assert [record["round"] for record in one.records] == [1, 2]
    assert one.records[-1]["rejected"] == {}
    assert one.folder.name == one.run == strategy
    models = (sorted(state_of(other).server), sorted(state_of(other).personal))
    assert models == MODELS.get(strategy, (["all"], []))


@pytest.mark.parametrize(("norm", "statistics"), [("group", False), ("frozen", True)])
def test_a_federation_with_another_normalisation_trains_and_is_evaluated(norm, statistics, tiny):
    root = tiny()
    result = federate(federate_config(root, norm=norm, rounds=1))
    model = state_of(result).server["MRI"]
    means = {name: array for name, array in model.items() if name.endswith("running_mean")}
    assert bool(means) == statistics
    assert not any(array.any() for array in means.values())  # frozen at 0, the initial mean
    evaluated = evaluate_run(root)
    assert [row.n for row in evaluated.clients]
    with pytest.raises(FlamesError, match="made with other options"):
        federate(federate_config(root, norm="batch", rounds=2))


RESUMED = {
    "adaptive": {"strategy": "flames-adaptive"},
    "fedadam": {"strategy": "fedadam", "ema": 0.5},
    "fraction": {"strategy": "flames-adaptive", "fraction": 0.5, "ema": 0.9},
    "momentum": {"strategy": "fedgs", "server_momentum": 0.5},
    "int8": {"strategy": "flames", "wire_dtype": "int8"},
    "content": {"strategy": "flames-fedgs", "share": "content", "style_from": 2, **SDNET},
}


@pytest.fixture(scope="module")
def whole_runs(tiny):
    """The finished runs of three rounds of RESUMED, by name: for reading only."""
    return {
        name: federate(federate_config(tiny(), rounds=3, run=name, **options))
        for name, options in RESUMED.items()
    }


@pytest.mark.parametrize("name", RESUMED)
def test_client_state_survives_a_stop(name, tiny, whole_runs):
    options, whole = {**RESUMED[name], "run": name}, whole_runs[name]
    root = tiny()
    federate(federate_config(root, rounds=1, **options))
    resumed = federate(federate_config(root, rounds=3, **options))
    assert resumed.resumed_from == 1
    assert_same_state(state_of(resumed), state_of(whole))
    assert without_timings(resumed.records) == without_timings(whole.records)
    assert_same_tree(memories_of(resumed), memories_of(whole))


class PulledPlug(Exception):
    """Exception that the program does not expect."""


def test_clients_go_back_with_the_server(tiny, whole_runs):
    """tests/survival tests this with SCAFFOLD's client state; here the state is a style."""
    options = {**RESUMED["content"], "run": "content", "rounds": 3}
    whole = whole_runs["content"]

    def pull_plug(event):
        if isinstance(event, ReportReceived) and event.round == 3:
            raise PulledPlug

    root = tiny()
    with pytest.raises(PulledPlug):
        federate(federate_config(root, **options), pull_plug)
    resumed = federate(federate_config(root, **options))
    assert resumed.resumed_from == 2
    assert_same_state(state_of(resumed), state_of(whole))
    assert without_timings(resumed.records) == without_timings(whole.records)
    assert_same_tree(memories_of(resumed), memories_of(whole))


def test_a_run_keeps_its_token_and_a_fresh_one_has_another_and_no_client_state(tiny):
    root, options = tiny(), {"strategy": "scaffold", **SGD}
    first = token_of(federate(federate_config(root, rounds=1, **options)))
    assert token_of(federate(federate_config(root, rounds=2, **options))) == first
    fresh = federate(federate_config(root, rounds=1, fresh=True, **options))
    assert token_of(fresh) != first
    assert [path.name for path in (fresh.folder / "clients").iterdir()] == [token_of(fresh)]


def test_a_run_without_a_token_gets_one_when_it_is_resumed(tiny):
    root = tiny()
    file = federate(federate_config(root, rounds=1)).folder / "config.toml"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith("token")), encoding="utf-8")
    resumed = federate(federate_config(root, rounds=2))
    assert resumed.resumed_from == 1
    assert len(bytes.fromhex(token_of(resumed))) == 8


@pytest.mark.parametrize(
    ("wire", "name", "options"),
    [
        ("fp16", "fedgs", {"strategy": "fedgs"}),
        ("bf16", "scaffold", {"strategy": "scaffold"}),
        ("int8", "prox", {"strategy": "fedprox"}),
        ("fp16", "lending", {"strategy": "flames", "style_from": 2, "share": "content", **SDNET}),
    ],
)
def test_half_the_bytes_end_near_where_all_of_them_do(wire, name, options, tiny, workspace):
    root = workspace() if name == "lending" else tiny()  # a style is lent within a modality
    full, half = (
        # Adam would make steps of full size from gradients that are zero except for rounding.
        federate(federate_config(root, run=f"{name}-{dtype}", wire_dtype=dtype, **{**options, **SGD}))
        for dtype in ("fp32", wire)
    )
    for one, other in zip(full.records, half.records, strict=True):
        assert other["rejected"] == {}
        assert other["bytes_down"] < one["bytes_down"]
        assert other["bytes_up"] < one["bytes_up"]
    for group, model in state_of(full).server.items():
        for entry, array in model.items():
            if not np.issubdtype(array.dtype, np.floating):
                continue
            found = state_of(half).server[group][entry]
            assert found.dtype == array.dtype
            np.testing.assert_allclose(found, array, atol={"fp16": 0.02, "bf16": 0.04, "int8": 0.04}[wire])


MANY_STEPS = {"strategy": "fedavg", "batch_size": 2, "rounds": 1}
"""Clients with several steps, in different numbers: else FedProx and FedNova are equal to FedAvg."""


@pytest.fixture(scope="module")
def plain(tiny):
    """A finished run of MANY_STEPS."""
    return federate(federate_config(tiny(), **MANY_STEPS))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "adamw"},
        {"optimiser": "sgd"},
        {"weight_decay": 0.1},
        {"strategy": "fedprox", "proximal_mu": 10.0},
        {"strategy": "fedadam"},
        {"strategy": "fednova"},
        {"strategy": "fedgs"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_option_of_training_and_of_the_server_counts(changes, plain, tiny):
    assert len({client["n_steps"] for client in plain.records[0]["clients"]}) > 1
    changed = state_of(federate(federate_config(tiny(), **{**MANY_STEPS, **changes})))
    assert any(
        not np.array_equal(array, changed.server["all"][name])
        for name, array in state_of(plain).server["all"].items()
    )


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"strategy": "fedadam"}, {"server_lr": 0.1}),
        ({"strategy": "fedgs"}, {"precise_norm": False}),
        ({"strategy": "local", "local_epochs": 4}, {"keep_epoch": "best"}),
        ({"strategy": "fedavg"}, {"aggregation": "median"}),
    ],
    ids=["server_lr", "precise_norm", "keep_epoch", "median"],
)
def test_an_option_of_some_strategies_counts(options, changes, tiny, workspace):
    make = workspace if "precise_norm" in changes else tiny  # lesions of noise are all of one kind
    one, other = (
        state_of(federate(federate_config(make(), **{**MANY_STEPS, **options, **more})))
        for more in ({}, changes)
    )
    assert any(
        not np.array_equal(array, other.server[group][name])
        for group, model in one.server.items()
        for name, array in model.items()
    )


def test_server_momentum_counts_from_the_second_round_on(tiny):
    first, second = (
        [
            state_of(
                federate(federate_config(root, strategy="fedavg", rounds=rounds, server_momentum=momentum))
            )
            for root, momentum in ((tiny(), 0.0), (tiny(), 0.5))
        ]
        for rounds in (1, 2)
    )
    for (plain, moved), differs in ((first, False), (second, True)):
        pairs = [(array, moved.server["all"][name]) for name, array in plain.server["all"].items()]
        assert any(not np.array_equal(one, other) for one, other in pairs) == differs


def test_style_never_reaches_the_server(tiny):
    root = tiny()
    result = federate(federate_config(root, strategy="fedavg", share="content", run="content", **SDNET))
    whole = federate(federate_config(root, strategy="fedavg", run="whole", **SDNET))
    model = build_model("sdnet", seed=0, base_channels=2, depth=2)
    server, other = state_of(result).server["all"], state_of(whole).server["all"]
    start = federate(
        federate_config(root, strategy="fedavg", share="content", run="start", rounds=1, **SDNET)
    )
    for name in model.style_entries():
        np.testing.assert_array_equal(server[name], state_of(start).server["all"][name])
    assert any(not np.array_equal(server[name], other[name]) for name in model.style_entries())
    clients = {entry.name for entry in read_partition(partition_file(root)).clients}
    assert memories_of(result).keys() == clients
    assert all(memory["style"].keys() == model.style_entries() for memory in memories_of(result).values())
    assert memories_of(whole) == {}
    for one, both in zip(result.records, whole.records, strict=True):
        assert one["bytes_up"] < both["bytes_up"]
        assert one["bytes_down"] < both["bytes_down"]


def test_scaffold_corrects_only_what_is_shared(tiny):
    result = federate(federate_config(tiny(), strategy="scaffold", share="content", **{**SDNET, **SGD}))
    style = build_model("sdnet", seed=0, base_channels=2, depth=2).style_entries()
    assert result.records[-1]["rejected"] == {}
    assert not style & state_of(result).optimiser_state["all"]["control"].keys()
    assert all(not style & memory["control"].keys() for memory in memories_of(result).values())


def test_renderers_are_lent_only_when_asked_for(workspace):
    root = workspace()
    lent = federate(federate_config(root, run="lent", share="content", style_from=2, **SDNET))
    kept = federate(federate_config(root, run="kept", share="content", **SDNET))
    clients = {entry.name for entry in read_partition(partition_file(root)).clients}
    assert state_of(lent).styles.keys() == clients
    assert state_of(kept).styles == {}
    assert lent.records[1]["bytes_down"] > kept.records[1]["bytes_down"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "scaffold"}, "defined for plain SGD, got optimiser adam; pass --optimiser sgd"),
        ({"strategy": "flames", "server_momentum": 0.9}, "flames has no server momentum"),
        ({"strategy": "fedadam", "server_momentum": 0.9}, "with a server that steps by Adam"),
        ({"share": "content"}, "cannot share its content only.*sd-utnet or sdnet"),
        ({"style_from": 3}, "cannot lend its style.*sd-utnet or sdnet"),
        ({"style_from": 3, "strategy": "local", **SDNET}, "exchanges no styles between clients"),
        ({"strategy": "local", "server_momentum": 0.5}, "local has no server momentum"),
        ({"strategy": "centralised", "server_momentum": 0.5}, "centralised has no server momentum"),
        ({"strategy": "local", "fraction": 0.5}, "--fraction 0.5 draws clients, and in strategy local"),
        ({"strategy": "centralised", "fraction": 0.5}, "would only train fewer rounds; leave --fraction out"),
        ({"strategy": "flames", "aggregation": "median"}, "replaces a plain mean"),
        ({"strategy": "scaffold", **SGD, "aggregation": "krum"}, "replaces a plain mean"),
        ({"strategy": "local", "aggregation": "krum"}, "replaces a plain mean"),
        (
            {"strategy": "fedavg", "bad_clients": 1},
            "--bad-clients 1 is an option of --aggregation trimmed-mean or krum",
        ),
        ({"strategy": "fedavg", "aggregation": "median", "dp_noise": 1.0, "dp_clip": 1.0}, "blurs a mean"),
    ],
    ids=[
        "scaffold",
        "flames momentum",
        "fedadam momentum",
        "content",
        "style",
        "alone",
        "local",
        "centralised",
        "fraction of local",
        "fraction of centralised",
        "median of flames",
        "krum of scaffold",
        "krum of one",
        "bad clients of a mean",
        "private median",
    ],
)
def test_options_that_do_not_go_together_are_rejected_before_anything_is_written(options, message, tiny):
    root = tiny()
    with pytest.raises(FlamesError, match=message):
        federate(federate_config(root, **options))
    assert not (root / "runs").exists()
