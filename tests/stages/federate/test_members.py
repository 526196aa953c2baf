"""Federations of several seeds and folds: one run for each, which resumes like any other."""

import shutil
from contextlib import nullcontext

import pytest

from flames_cli.config import PartitionConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.events import Noted, RoundDone, ignore
from flames_cli.stages.federate import members
from flames_cli.stages.federate.members import federate_all, find_member_partitions
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import make_partitions
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import (
    find_family,
    find_members,
    list_runs,
    planned_names,
    read_config,
    read_rounds,
    run_folder,
)
from flames_cli.store.workspace import partition_folder
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
    true_federate = members.federate

    def stop_in_the_second_run(member, on_event, planned):
        def stop(event):
            on_event(event)
            if member.seed == 1 and isinstance(event, RoundDone):
                raise FlamesError("the disk is full")

        return true_federate(member, stop, planned)

    monkeypatch.setattr(members, "federate", stop_in_the_second_run)
    with pytest.raises(FlamesError, match=r"^run 'flames-seed-1': .*the disk is full"):
        run_all(config, notes.append)
    assert any(
        isinstance(note, Noted) and "flames-seed-1 (2 of 2) has stopped; the same command" in note.note
        for note in notes
    )
    monkeypatch.setattr(members, "federate", true_federate)
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
    with pytest.raises(FlamesError, match="'flames' is the name of 1 runs that --seeds made, expected"):
        run_all(federate_config(root, rounds=1))
    federate(federate_config(root, rounds=1, run="alone"))
    with pytest.raises(
        FlamesError, match="'alone' is the name of one run, and --seeds makes runs alone-seed-0"
    ):
        run_all(federate_config(root, rounds=1, run="alone", seeds=(0, 1)))
    federate(federate_config(root, rounds=1, run="other-seed-0"))
    with pytest.raises(FlamesError, match="run 'other-seed-0' was made without --seeds"):
        run_all(federate_config(root, rounds=1, run="other", seeds=(0, 1)))
    with pytest.raises(FlamesError, match="has 67 characters, expected at most 64"):
        run_all(federate_config(root, rounds=1, run="x" * 60, seeds=(0, 1)))
    after = {path.name for path in (root / "runs").iterdir() if not path.name.startswith(".")}
    assert after - set(before) == {"alone", "other-seed-0"}


@pytest.fixture
def divided(tiny):
    """Return divided(), which makes a workspace whose clients have three folds."""

    def make():
        root = tiny()
        make_partitions(PartitionConfig(workspace=root, split={"brats": 2}, folds=3))
        return root

    return make


def members_config(root, **options):
    return federate_config(root, **{"rounds": 1, "folds": "", **options})


def test_each_fold_is_the_run_that_its_partition_makes_alone(divided):
    root, titles = divided(), []
    results = run_all(members_config(root), titles=titles)
    assert titles == [f"flames-fold-{k} ({k} of 3)" for k in (1, 2, 3)]
    alone = federate(federate_config(root, rounds=1, partition="fold-2", run="alone"))
    assert_same_state(state_of(results[1]), state_of(alone))
    tables = [read_config(result.folder / "config.toml") for result in results]
    assert [table["federate"]["partition"] for table in tables] == ["fold-1", "fold-2", "fold-3"]
    assert [table["run"]["folds"] for table in tables] == [[1, 2, 3]] * 3
    assert all("seeds" not in table["run"] for table in tables)
    assert "folds" not in tables[0]["federate"]


def test_folds_are_not_for_real_nodes(tmp_path):
    with pytest.raises(FlamesError, match="got --folds with --engine superlink, whose nodes have their own"):
        run_all(members_config(tmp_path, engine="superlink"))


def test_all_folds_of_one_seed_come_before_the_next_seed(divided):
    root, titles = divided(), []
    results = run_all(members_config(root, seeds=(5, 3), run="mine"), titles=titles)
    names = [f"mine-fold-{k}-seed-{seed}" for seed in (5, 3) for k in (1, 2, 3)]
    assert [result.run for result in results] == names
    assert planned_names("mine", find_members(root, "mine")) == [
        f"mine-fold-{k}-seed-{seed}" for seed in (3, 5) for k in (1, 2, 3)
    ]
    facts = read_config(results[0].folder / "config.toml")["run"]
    assert (facts["seeds"], facts["folds"]) == ([5, 3], [1, 2, 3])
    again = run_all(members_config(root, seeds=(5, 3), run="mine"))
    assert [result.resumed_from for result in again] == [1] * 6


def test_a_family_of_folds_is_not_mixed_with_one_of_seeds_or_of_other_folds(divided):
    root = divided()
    run_all(members_config(root))
    with pytest.raises(FlamesError, match="run 'flames-fold-1' was made with --folds, got --seeds; pass"):
        run_all(federate_config(root, rounds=1, seeds=(0, 1)))
    with pytest.raises(FlamesError, match="was made with --folds, got --folds and --seeds; pass the same"):
        run_all(members_config(root, seeds=(0, 1)))
    make_partitions(PartitionConfig(workspace=root, split={"brats": 2}, folds=2, name="cv"))
    with pytest.raises(
        FlamesError, match="was made for the folds 1, 2, 3, got the folds 1, 2; pass the same"
    ):
        run_all(members_config(root, folds="cv"))
    make_partitions(PartitionConfig(workspace=root, split={"brats": 2}, folds=3, name="other", seed=1))
    with pytest.raises(FlamesError, match=r"other options \(partition 'fold-1' → 'other-fold-1'\)"):
        run_all(members_config(root, folds="other"))


def test_a_family_continues_on_the_folds_on_which_it_began(divided):
    root = divided()
    family = run_all(members_config(root, rounds=1))
    again = PartitionConfig(workspace=root, split={"brats": 2}, folds=3, seed=1, overwrite=True)
    shutil.rmtree(family[2].folder)
    assert [made.aside for made in make_partitions(again)] == [f"fold-{k}-old-1" for k in (1, 2, 3)]
    with pytest.raises(FlamesError, match=r"\(partition 'fold-1' as it was before, which is called"):
        run_all(members_config(root, rounds=2))
    partitions = find_member_partitions(root, find_members(root, "flames"))
    assert partitions == {k: f"fold-{k}-old-1" for k in (1, 2, 3)}
    list(federate_all(members_config(root, rounds=2), lambda _: nullcontext(ignore), partitions))
    assert [len(read_rounds(run.rounds)) for run in find_members(root, "flames")] == [2, 2, 2]
    shutil.rmtree(partition_folder(root, "fold-3-old-1"))
    shutil.rmtree(family[2].folder)
    with pytest.raises(
        FlamesError, match="fold 3 of the cross-validation of partition 'fold-1-old-1' does not"
    ):
        find_member_partitions(root, find_members(root, "flames"))


def test_fresh_renames_all_runs_of_the_family_before_the_first_round(divided):
    root, notes = divided(), []
    run_all(members_config(root, rounds=1))
    with pytest.raises(FlamesError, match="needs"):
        run_all(members_config(root, rounds=1, fresh=True, model_options={"base_channels": 2, "depth": 7}))
    assert sorted(path.name for path in list_runs(root)) == [f"flames-fold-{k}" for k in (1, 2, 3)]

    def stop(event):
        notes.append(event)
        if isinstance(event, RoundDone):
            raise FlamesError("the disk is full")

    with pytest.raises(FlamesError, match="the disk is full"):
        run_all(members_config(root, rounds=1, fresh=True, lr=0.02), stop)
    said = [event.note for event in notes if isinstance(event, Noted)]
    assert "the earlier run 'flames-fold-1' is called 'flames-fold-1-old-1' now" in said[0]
    results = run_all(members_config(root, rounds=1, lr=0.02))
    assert [result.run for result in results] == [f"flames-fold-{k}" for k in (1, 2, 3)]
    old = [f"flames-fold-{k}-old-1" for k in (1, 2, 3)]
    assert [path.name for path in list_runs(root) if "-old-" in path.name] == old
    assert len(find_members(root, "flames")) == 3
    assert find_family(run_folder(root, old[0])) == ""
