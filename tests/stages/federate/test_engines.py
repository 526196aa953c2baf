"""The same run on each of Flower's engines: the real ones, as processes on this machine."""

import os

import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.engines import ray as ray_engine
from flames_cli.fed.events import FederationStarted, ReportReceived, RoundDone
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from tests.support.asserts import assert_same_state, without_timings
from tests.support.stages import federate_config


@pytest.fixture
def one_cpu(monkeypatch):
    """Threads of a client, as in this process: sums over more threads round otherwise."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def final(result):
    return load_state(result.folder / "checkpoints")


@pytest.mark.federated
@pytest.mark.slow
def test_ray_with_five_clients_gives_what_inline_gives(workspace, one_cpu):
    pytest.importorskip("ray")
    root, events = workspace(), []
    inline = federate(federate_config(root, run="inline"))
    rayed = federate(federate_config(root, run="ray", engine="ray"), events.append)
    assert_same_state(final(rayed), final(inline))
    assert without_timings(rayed.records) == without_timings(inline.records)
    started = [event for event in events if isinstance(event, FederationStarted)]
    assert [name for name, _, _ in started[0].clients] == ["brats-1", "brats-2", "brats-3", "busi", "otu2d"]
    assert [event.record for event in events if isinstance(event, RoundDone)] == rayed.records
    assert sum(isinstance(event, ReportReceived) for event in events) == 10
    more = federate(federate_config(root, run="ray", rounds=3))
    assert more.resumed_from == 2, "a run goes on by another engine"
    assert_same_state(final(more), final(federate(federate_config(root, run="inline", rounds=3))))
    files = {path.name for path in rayed.folder.iterdir()}
    assert files == {"config.toml", "rounds.jsonl", "checkpoints", "engine.log"}
    assert flower_processes() == []


def flower_processes():
    """Those that this process has started, and theirs."""
    import psutil

    children = psutil.Process(os.getpid()).children(recursive=True)
    return [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE]


def test_ray_where_it_is_not_installed_says_what_to_install(workspace, monkeypatch):
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    root = workspace()
    with pytest.raises(FlamesError, match=r"pip install 'flames-cli\[ray\]', or use --engine inline"):
        federate(federate_config(root, engine="ray"))
    assert not (root / "runs").exists()


def test_superlink_without_a_deployment_names_the_command_that_makes_one(workspace, tmp_path):
    with pytest.raises(MissingArtifact, match="flames deploy init"):
        federate(federate_config(workspace(), engine="superlink", deployment=tmp_path / "gone"))


def test_data_at_real_nodes_cannot_be_pooled(workspace):
    with pytest.raises(FlamesError, match="strategy centralised pools the clients' data, which real nodes"):
        federate(federate_config(workspace(), engine="superlink", strategy="centralised"))


@pytest.mark.parametrize(
    "options", [{"strategy": "scaffold", "optimiser": "sgd"}, {"model": "sdnet", "share": "content"}]
)
def test_a_run_whose_clients_keep_something_stays_where_they_keep_it(options, workspace, monkeypatch):
    from flames_cli.stages.federate import stage as stage

    root = workspace()
    small = {"model_options": {"base_channels": 2, "depth": 2}} if "model" in options else {}
    federate(federate_config(root, rounds=1, **options, **small))
    monkeypatch.setattr(stage, "check_engine", lambda config, pooled: None)
    with pytest.raises(
        FlamesError, match="lies where --engine inline left it, so it cannot go on with --engine superlink"
    ):
        federate(federate_config(root, rounds=2, engine="superlink", **options, **small))


def test_more_cpus_than_there_are_do_not_cost_the_run_that_fresh_replaces(finished_runs):
    with pytest.raises(FlamesError, match="--cpus-per-client is 999, expected at most"):
        federate(federate_config(finished_runs, run="flames", engine="ray", cpus_per_client=999, fresh=True))
    assert (finished_runs / "runs" / "flames" / "rounds.jsonl").is_file()
