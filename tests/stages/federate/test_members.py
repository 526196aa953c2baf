"""Federations of several seeds: one run for each, which resumes like any other."""

from contextlib import nullcontext

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.events import Noted, RoundDone, ignore
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import find_members, read_config
from tests.support.asserts import assert_same_state
from tests.support.stages import federate_config

pytestmark = pytest.mark.federated


def run_all(config, on_event=ignore, titles=None):
    """Return the results of all runs; their titles are added to `titles`."""

    def watch(title):
        if titles is not None:
            titles.append(title)
        return nullcontext(on_event)

    return list(federate_all(config, watch))


def state_of(result):
    return load_state(result.folder / "checkpoints")


def test_each_seed_is_the_run_that_this_seed_makes_alone(tiny):
    root, titles = tiny(), []
    config = federate_config(root, rounds=1, seeds=(4, 1))
    first, second = run_all(config, titles=titles)
    assert titles == ["flames-seed-4 (1 of 2)", "flames-seed-1 (2 of 2)"]
    assert [run.path for run in find_members(root, "flames")] == [second.folder, first.folder]
    alone = federate(federate_config(root, rounds=1, seed=1, run="alone"))
    assert_same_state(state_of(second), state_of(alone))
    tables = [read_config(result.folder / "config.toml") for result in (first, second)]
    assert tables[0]["run"]["partition_sha256"] == tables[1]["run"]["partition_sha256"]
    assert tables[0]["run"]["seeds"] == [4, 1]
    assert "seeds" not in tables[0]["federate"]


def test_a_stopped_family_names_its_run_and_continues_with_the_same_command(tiny, monkeypatch):
    root, notes, rounds = tiny(), [], []
    config = federate_config(root, rounds=1, seeds=(0, 1))
    true_federate = seeds.federate

    def stop_in_the_second_run(member, on_event):
        def stop(event):
            on_event(event)
            if member.seed == 1 and isinstance(event, RoundDone):
                raise FlamesError("the disk is full")

        return true_federate(member, stop)

    monkeypatch.setattr(seeds, "federate", stop_in_the_second_run)
    with pytest.raises(FlamesError, match=r"^run 'flames-seed-1': .*the disk is full"):
        run_all(config, notes.append)
    assert any(
        isinstance(note, Noted) and "flames-seed-1 (2 of 2) has stopped; the same command" in note.note
        for note in notes
    )
    monkeypatch.setattr(seeds, "federate", true_federate)
    first, second = run_all(config, rounds.append)
    assert (first.resumed_from, len(second.records)) == (1, 1)
    alone = true_federate(federate_config(root, rounds=1, seed=1, run="alone"))
    assert_same_state(state_of(second), state_of(alone))


def test_runs_that_cannot_be_of_one_family_are_rejected_before_a_round(tiny):
    root = tiny()
    run_all(federate_config(root, rounds=1, seeds=(1,)))
    before = sorted(path.name for path in (root / "runs").iterdir())
    with pytest.raises(FlamesError, match=r"'flames-seed-1' was made with other options \(lr 0.01 → 0.02"):
        run_all(federate_config(root, rounds=1, seeds=(0, 1), lr=0.02))
    with pytest.raises(FlamesError, match="'flames' is the name of 1 runs with different seeds"):
        run_all(federate_config(root, rounds=1))
    federate(federate_config(root, rounds=1, run="alone"))
    with pytest.raises(FlamesError, match="'alone' is the name of a run with one seed"):
        run_all(federate_config(root, rounds=1, run="alone", seeds=(0, 1)))
    federate(federate_config(root, rounds=1, run="other-seed-0"))
    with pytest.raises(FlamesError, match="run 'other-seed-0' was made without --seeds"):
        run_all(federate_config(root, rounds=1, run="other", seeds=(0, 1)))
    with pytest.raises(FlamesError, match="has 67 characters, expected at most 64"):
        run_all(federate_config(root, rounds=1, run="x" * 60, seeds=(0, 1)))
    after = {path.name for path in (root / "runs").iterdir() if not path.name.startswith(".")}
    assert after - set(before) == {"alone", "other-seed-0"}
