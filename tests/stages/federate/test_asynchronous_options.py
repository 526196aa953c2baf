"""The options that rounds without waiting exclude, and the buffer and the clock that they give."""

import pytest

from flames_cli.core.federated.buffering import Buffering
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.fed.virtual_clock import VirtualClock
from flames_cli.stages.federate.asynchronous_options import check_slow, clock_of, goes_on_without_waiting
from flames_cli.stages.federate.planning import choose_algorithm
from flames_cli.stages.federate.resuming import check_same_options, options_as_run
from flames_cli.store.runs import RunFolder, write_config
from tests.support.stages import federate_config

FACTS = {"size": 16, "channels": 1}


def asynchronous(tmp_path, **options):
    return federate_config(tmp_path, asynchronous=True, **options)


def test_the_strategies_are_those_that_the_documentation_lists():
    able = [name for name in ALGORITHMS.builtin if goes_on_without_waiting(ALGORITHMS[name])]
    assert able == ["flames", "fedavg-modality", "flames-fedgs"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "flames-adaptive"}, "flames-adaptive compares how often and in which rounds clients"),
        ({"strategy": "fedavg"}, "strategy fedavg trains one model over several modalities, so it cannot be"),
        ({"strategy": "fedbn"}, "fedbn lets every client have its own BatchNorm, which has no stale version"),
        (
            {"strategy": "fednova"},
            "fednova divides updates by their number of steps, which does not fit diff",
        ),
        (
            {"strategy": "scaffold", "optimiser": "sgd"},
            "scaffold corrects gradients by the mean of the contr",
        ),
        (
            {"strategy": "local"},
            "strategy local has one client for each model, which waits for nobody, so it",
        ),
        (
            {"strategy": "centralised"},
            "strategy centralised has one client for each model, which waits for n",
        ),
        (
            {"strategy": "fedavg-modality", "aggregation": "median"},
            "--aggregation median does not go with --asynchronous: it compares reports on the same model",
        ),
        (
            {"strategy": "fedavg-modality", "dp_noise": 1.0, "dp_clip": 1.0},
            "--dp-noise does not go with --asynchronous: its account is of rounds in which each client",
        ),
        (
            {"secure_aggregation": True},
            "--secure-aggregation does not go with --asynchronous: a stale report",
        ),
        ({"style_from": 2}, "--style-from does not go with --asynchronous: styles are exchanged between"),
        ({"share": "content"}, "--share content does not go with --asynchronous: a client stores its style"),
        ({"wire_dtype": "int8"}, "--wire-dtype int8 does not go with --asynchronous: a client stores what"),
        ({"fraction": 0.5}, "--fraction 0.5 does not go with --asynchronous: no round draws its clients"),
        (
            {"round_timeout": 60},
            "--round-timeout 60 does not go with --asynchronous: nobody waits for a slow",
        ),
    ],
)
def test_an_option_that_needs_rounds_in_step_is_refused_with_the_reason(tmp_path, options, message):
    choose_algorithm(federate_config(tmp_path, **options))
    with pytest.raises(FlamesError, match=message):
        choose_algorithm(asynchronous(tmp_path, **options))


def test_real_nodes_have_their_own_speed(tmp_path):
    config = asynchronous(tmp_path, engine="superlink", slow={"brats-1": 10.0})
    with pytest.raises(
        FlamesError, match="--slow does not go with --asynchronous: real nodes have their own"
    ):
        choose_algorithm(config)


@pytest.mark.parametrize(
    ("name", "value"), [("buffer", 3), ("staleness", 0.0), ("slow", {"a": 2.0}), ("jitter", 0.0)]
)
def test_an_option_of_rounds_without_waiting_is_refused_alone(tmp_path, name, value):
    choose_algorithm(asynchronous(tmp_path, **{name: value}))
    with pytest.raises(FlamesError, match=f"--{name} is an option of rounds without waiting"):
        choose_algorithm(federate_config(tmp_path, **{name: value}))


def test_a_slow_client_must_be_in_the_partition(tmp_path):
    config = asynchronous(tmp_path, slow={"brats-9": 10.0})
    with pytest.raises(FlamesError, match="--slow names 'brats-9', expected a client, one of brats-1, busi"):
        check_slow(config, ["brats-1", "busi"])
    check_slow(config, ["brats-9"])


def test_options_give_the_buffer_and_the_clock(tmp_path):
    config = asynchronous(tmp_path, buffer=3, staleness=1.0, slow={"a": 4.0}, jitter=0.2, seed=7)
    assert choose_algorithm(config).buffering == Buffering(3, 1.0)
    assert clock_of(config) == VirtualClock(7, {"a": 4.0}, 0.2)
    assert clock_of(asynchronous(tmp_path, engine="superlink")) is None
    plain = federate_config(tmp_path)
    assert choose_algorithm(plain).buffering is None
    assert clock_of(plain) is None


def test_a_run_cannot_become_asynchronous_and_an_older_run_was_in_step(tmp_path):
    plain, run = federate_config(tmp_path), RunFolder(tmp_path / "runs" / "flames")
    ours = {"asynchronous", "buffer", "staleness", "slow", "jitter"}
    old = {key: value for key, value in options_as_run(plain).items() if key not in ours}
    run.path.mkdir(parents=True)
    write_config(run.config, {"federate": old, "run": FACTS})
    check_same_options(run, plain, FACTS)
    with pytest.raises(FlamesError, match="asynchronous False → True"):
        check_same_options(run, asynchronous(tmp_path), FACTS)
