"""The same run on each of Flower's engines: the real engines, as processes on this machine."""

import os

import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.engines import ray as ray_engine
from flames_cli.fed.events import FederationStarted, ReportReceived, RoundDone
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import list_rounds, load_state
from tests.support.asserts import assert_same_state, without_timings
from tests.support.stages import federate_config


@pytest.fixture
def one_cpu(monkeypatch):
    """Limit a client's threads to those of this process: sums over more threads round differently."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def final(result):
    return load_state(result.folder / "checkpoints")


def stored(result):
    """Return the rounds that have a checkpoint, which depend on the clients' validation."""
    return list_rounds(result.folder / "checkpoints")


@pytest.mark.federated
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("strategy", ["flames", "fedavg-modality"])
def test_ray_by_modality_gives_what_inline_gives_in_step(strategy, tiny, one_cpu):
    pytest.importorskip("ray")
    root = tiny()
    inline = federate(federate_config(root, run="inline", strategy=strategy))
    rayed = federate(federate_config(root, run="ray", engine="ray", strategy=strategy, rounds_by="modality"))
    assert_same_state(final(rayed), final(inline))
    assert (rayed.final, rayed.chosen) == (inline.final, inline.chosen)
    assert without_timings(rayed.records) == without_timings(inline.records)


@pytest.mark.federated
@pytest.mark.slow
@pytest.mark.long
def test_ray_gives_what_inline_gives(tiny, one_cpu):
    pytest.importorskip("ray")
    root, events = tiny(), []
    options = {"strategy": "flames-adaptive", "fraction": 0.5, "ema": 0.5, "lr": 0.05, "wire_dtype": "int8"}
    inline = federate(federate_config(root, run="inline", **options))
    rayed = federate(federate_config(root, run="ray", engine="ray", **options), events.append)
    assert_same_state(final(rayed), final(inline))
    assert (rayed.final, rayed.chosen) == (inline.final, inline.chosen)
    assert without_timings(rayed.records) == without_timings(inline.records)
    started = [event for event in events if isinstance(event, FederationStarted)]
    assert [name for name, _, _ in started[0].clients] == ["brats-1", "brats-2", "busi"]
    assert [event.record for event in events if isinstance(event, RoundDone)] == rayed.records
    assert sum(isinstance(event, ReportReceived) for event in events) == 4, "one of two, and the only one"
    more = federate(federate_config(root, run="ray", rounds=3, **options))
    assert more.resumed_from == 2, "a run goes on by another engine"
    inline = federate(federate_config(root, run="inline", rounds=3, **options))
    assert_same_state(final(more), final(inline))
    assert (more.final, more.chosen) == (inline.final, inline.chosen)
    assert stored(more) == stored(inline)
    files = {path.name for path in rayed.folder.iterdir()}
    assert files - {"clients"} == {
        "config.toml",
        "rounds.jsonl",
        "clients.json",
        "final-models.json",
        "checkpoints",
        "engine.log",
        "log.txt",
        "rounds.png",
    }
    assert flower_processes() == []


def flower_processes():
    """Return the processes that this process has started, and their children."""
    import psutil

    children = psutil.Process(os.getpid()).children(recursive=True)
    return [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE]


def test_without_ray_the_error_names_the_package_to_install(tiny, monkeypatch):
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    root = tiny()
    with pytest.raises(FlamesError, match=r"pip install -e '\.\[ray\]' .*, or use --engine inline"):
        federate(federate_config(root, engine="ray"))
    assert not (root / "runs").exists()


def test_superlink_without_a_deployment_names_the_command_that_makes_one(tiny, tmp_path):
    with pytest.raises(MissingArtifact, match="flames deploy init"):
        federate(federate_config(tiny(), engine="superlink", deployment=tmp_path / "gone"))


def test_data_at_real_nodes_cannot_be_pooled(tiny):
    with pytest.raises(FlamesError, match="strategy centralised pools the clients' data, which real nodes"):
        federate(federate_config(tiny(), engine="superlink", strategy="centralised"))


@pytest.mark.parametrize(
    "options", [{"strategy": "scaffold", "optimiser": "sgd"}, {"model": "sdnet", "share": "content"}]
)
def test_a_run_with_client_state_stays_with_its_engine(options, tiny, monkeypatch):
    from flames_cli.stages.federate import stage as stage

    root = tiny()
    small = {"model_options": {"base_channels": 2, "depth": 2}} if "model" in options else {}
    federate(federate_config(root, rounds=1, **options, **small))
    monkeypatch.setattr(stage, "check_engine", lambda config, pooled: None)
    with pytest.raises(
        FlamesError, match="is stored by --engine inline, so the run cannot continue with --engine superlink"
    ):
        federate(federate_config(root, rounds=2, engine="superlink", **options, **small))


def test_more_cpus_than_there_are_do_not_cost_the_run_that_fresh_replaces(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    with pytest.raises(FlamesError, match="--cpus-per-client is 999, expected at most"):
        federate(federate_config(root, run="flames", engine="ray", cpus_per_client=999, fresh=True))
    assert (root / "runs" / "flames" / "rounds.jsonl").is_file()
