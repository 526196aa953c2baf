"""The options that secure aggregation excludes, and the clients that it needs."""

import math

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.plugins import use_files
from flames_cli.stages.federate.planning import choose_algorithm, make_plan
from flames_cli.stages.federate.resuming import check_same_options, options_as_run
from flames_cli.stages.federate.secure_options import check_clients, fewest_clients, takes_sums
from flames_cli.store.runs import RunFolder, write_config
from tests.support.plugins import make_site
from tests.support.stages import federate_config

__all__ = ["make_site"]

FACTS = {"size": 16, "channels": 1}
SIX = [*((f"m{n}", "MRI") for n in range(3)), *((f"u{n}", "US") for n in range(3))]


def secure(tmp_path, **options):
    return federate_config(tmp_path, secure_aggregation=True, **options)


def test_the_strategies_of_sums_are_those_that_the_documentation_lists():
    assert [name for name in ALGORITHMS.builtin if takes_sums(ALGORITHMS[name])] == [
        *("flames", "flames-adaptive", "fedavg", "fedavg-modality", "fedgs", "fedgs-unscaled"),
        *("flames-fedgs", "fedprox", "fedadam"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"strategy": "fedbn"},
            "strategy fedbn stores each client's own BatchNorm at the server, and",
        ),
        ({"strategy": "fednova"}, "fednova divides each client's update by its own number of steps, and"),
        ({"strategy": "scaffold", "optimiser": "sgd"}, "scaffold needs each client's control variate, and"),
        ({"strategy": "local"}, "local has one client for each model, so that there is nothing to sum, and"),
        ({"strategy": "centralised"}, "centralised has one client for each model, with the images of all, "),
        ({"strategy": "fedavg", "aggregation": "median"}, "--aggregation median compares the weights of sin"),
        ({"max_update_norm": 5.0}, "--max-update-norm 5 measures the update of each client, which --secure"),
        ({"wire_dtype": "int8"}, "--wire-dtype int8 scales each client's report by its own largest value"),
        ({"style_from": 2}, "--style-from sends the weights of single clients' decoders, which --secure-agg"),
        ({"min_clients": 2}, "got --min-clients 2 with --secure-aggregation, whose sums need 3 clients or m"),
        ({"min_clients_by_modality": {"US": 0}}, "got --min-clients US=0 with --secure-aggregation, whose"),
    ],
)
def test_an_option_that_needs_single_reports_is_refused_with_the_reason(tmp_path, options, message):
    choose_algorithm(federate_config(tmp_path, **options))
    with pytest.raises(FlamesError, match=message):
        choose_algorithm(secure(tmp_path, **options))


def test_a_strategy_of_a_plug_in_is_refused(site, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from flames_cli.core.federated.algorithm import Algorithm\n"
        "STRATEGIES = {'mine': Algorithm('plain', 'modality', 'mean')}\n"
    )
    use_files([tmp_path / "mine.py"])
    with pytest.raises(FlamesError, match="strategy mine is of a plug-in, whose server may need"):
        choose_algorithm(secure(tmp_path, strategy="mine"))


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "fedavg-modality", "server_momentum": 0.9, "ema": 0.5},
        {"strategy": "fedadam"},
        {"wire_dtype": "fp16", "max_update_norm": 0.0, "min_clients": 4},
        {"model": "sdnet", "share": "content", "model_options": {"depth": 2, "base_channels": 2}},
    ],
)
def test_options_that_need_only_sums_are_planned(tmp_path, options):
    plan = make_plan(secure(tmp_path, **options), FACTS, None)
    assert plan.secure
    assert not make_plan(federate_config(tmp_path, **options), FACTS, None).secure


def test_real_nodes_are_not_measured_by_their_updates(tmp_path):
    plans = [
        make_plan(federate_config(tmp_path, engine="superlink", secure_aggregation=hidden), FACTS, None)
        for hidden in (False, True)
    ]
    assert [plan.max_update_norm for plan in plans] == [10.0, math.inf]


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({}, 3),
        ({"min_clients": 5}, 5),
        ({"strategy": "fedavg"}, 1),
        ({"secure_aggregation": False}, 1),
        ({"secure_aggregation": False, "min_clients": 2}, 2),
    ],
)
def test_a_round_needs_three_clients_of_each_modality_that_has_a_model(tmp_path, options, number):
    config = federate_config(tmp_path, **{"secure_aggregation": True, **options})
    assert fewest_clients(config, choose_algorithm(config)) == number


def check(config, clients):
    check_clients(config, choose_algorithm(config), clients)


def test_clients_of_one_model_have_the_same_training_by_whatever_name(tmp_path):
    message = "the clients of model MRI have 2 different trainings"
    with pytest.raises(FlamesError, match=message):
        check(secure(tmp_path, lr_by_modality={"m1": 1e-5}), SIX)
    with pytest.raises(FlamesError, match="model all have 2 different trainings"):
        check(secure(tmp_path, strategy="fedavg", local_epochs_by_modality={"US": 7}), SIX)
    check(secure(tmp_path, lr_by_modality={"US": 1e-5, **dict.fromkeys(("m0", "m1", "m2"), 0.5)}), SIX)


def test_a_model_of_two_clients_is_refused_by_name(tmp_path):
    message = r"model US has 2 clients \(u0, u1\), and --secure-aggregation needs 3 or more, since"
    with pytest.raises(FlamesError, match=message):
        check(secure(tmp_path), SIX[:-1])
    with pytest.raises(FlamesError, match=r"model all has 1 client \(m0\)"):
        check(secure(tmp_path, strategy="fedavg"), SIX[:1])
    check(secure(tmp_path), SIX)
    check(secure(tmp_path, strategy="fedavg"), SIX[2:-1])
    check(federate_config(tmp_path), SIX[:1])


def test_a_fraction_that_draws_fewer_than_three_clients_is_refused(tmp_path):
    check(secure(tmp_path, fraction=0.1), SIX)  # three of each modality are drawn
    with pytest.raises(FlamesError, match=r"--fraction 0.3 draws 2 clients of 6, and"):
        check(secure(tmp_path, strategy="fedavg", fraction=0.3), SIX)
    check(secure(tmp_path, strategy="fedavg", fraction=0.5), SIX)


def test_a_run_cannot_change_secure_aggregation_and_an_older_run_was_made_without_it(tmp_path):
    plain = federate_config(tmp_path)
    run = RunFolder(tmp_path / "runs" / "flames")
    run.path.mkdir(parents=True)
    old = {key: value for key, value in options_as_run(plain).items() if key != "secure_aggregation"}
    write_config(run.config, {"federate": old, "run": FACTS})
    check_same_options(run, plain, FACTS)
    with pytest.raises(FlamesError, match="secure_aggregation False → True"):
        check_same_options(run, secure(tmp_path), FACTS)
