import os
from contextlib import nullcontext

import pytest

from flames_cli.fed.events import ignore
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.runs.listing import RunGroup, group_entries, list_entries, read_entry
from flames_cli.store.files.locks import locked, rounds_of
from tests.support.runs import write_run
from tests.support.stages import federate_config


def test_a_run_has_its_options_rounds_validation_time_and_size(tmp_path):
    run = write_run(tmp_path, "mine", rounds=3, asked=5, dice=(0.1, 0.5, 0.4), seconds=2.5)
    entry = read_entry(run)
    assert (entry.name, entry.strategy, entry.model, entry.seed) == ("mine", "flames", "unet", 0)
    assert (entry.rounds_done, entry.rounds_asked, entry.seconds) == (3, 5, 7.5)
    assert (entry.best, entry.best_round, entry.last) == (0.5, 2, 0.4)
    assert (entry.partition, entry.device, entry.patients) == ("default", "cpu", 4)
    assert entry.size_bytes == sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    assert (entry.running, entry.damage, entry.family) == (False, "", "")


def test_a_private_run_has_no_best_round(tmp_path):
    private = {"strategy": "fedavg-modality", "dp_noise": 1.0, "dp_clip": 1.0}
    entry = read_entry(write_run(tmp_path, "mine", rounds=3, dice=(0.1, 0.5, 0.4), **private))
    assert (entry.best, entry.best_round, entry.last) == (None, None, 0.4)


def test_runs_are_sorted_newest_first(tmp_path):
    for index, name in enumerate(("b", "a", "c")):
        run = write_run(tmp_path, name, rounds=1)
        for path in (run.rounds, run.config):
            os.utime(path, (1000 + index, 1000 + index))
    assert [entry.name for entry in list_entries(tmp_path)] == ["c", "a", "b"]


def test_a_run_that_was_never_begun_is_not_damaged(tmp_path):
    entry = read_entry(write_run(tmp_path, "mine", rounds=0))
    assert (entry.rounds_done, entry.last, entry.damage) == (0, None, "")


def damage_config(run):
    run.config.write_text("[federate", encoding="utf-8")


def damage_option(run):
    run.config.write_text(run.config.read_text().replace('"flames"', "7", 1), encoding="utf-8")


def damage_format(run):
    run.config.write_text(run.config.read_text().replace("flames-run", "flames-other"), encoding="utf-8")


def damage_line(run):
    run.rounds.write_text("{}\n" + run.rounds.read_text(), encoding="utf-8")


def damage_checkpoints(run):
    for folder in run.checkpoints.iterdir():
        folder.rmdir()


def damage_final(run):
    run.final_models.write_text("[]", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_config, "cannot be read"),
        (damage_option, "strategy"),
        (damage_format, "expected flames-run"),
        (damage_line, "rounds.jsonl is damaged in line 1"),
        (damage_checkpoints, "there is no checkpoint"),
        (damage_final, "contains no JSON object"),
        (lambda run: run.config.unlink(), "no config.toml"),
    ],
)
def test_a_damaged_run_is_listed_with_what_is_wrong(damage, says, tmp_path):
    write_run(tmp_path, "sound", rounds=2)
    run = write_run(tmp_path, "broken", rounds=2)
    damage(run)
    found = {entry.name: entry for entry in list_entries(tmp_path)}
    assert says in found["broken"].damage
    assert found["broken"].size_bytes > 0
    assert found["sound"].damage == ""


def test_hidden_and_empty_folders_and_files_are_no_runs(tmp_path):
    (tmp_path / "runs" / ".mine.lock").mkdir(parents=True)
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "note.txt").write_text("mine")
    assert list_entries(tmp_path) == []
    assert list_entries(tmp_path / "gone") == []


def test_a_run_that_a_process_works_on_is_shown_as_running(tmp_path):
    run = write_run(tmp_path, "mine", rounds=1)
    for folder in (run.path, rounds_of(run.path)):
        with locked(folder):
            assert read_entry(run).running
        assert not read_entry(run).running


def test_a_family_is_one_group_with_the_rounds_of_runs_that_do_not_exist_yet(tmp_path):
    for seed, dice in ((0, (0.1, 0.4)), (1, (0.1, 0.6))):
        write_run(tmp_path, f"mine-seed-{seed}", rounds=2, asked=2, dice=dice, seeds=[0, 1, 2], seed=seed)
    write_run(tmp_path, "other", rounds=1)
    groups = {group.name: group for group in group_entries(list_entries(tmp_path))}
    assert set(groups) == {"mine", "other"}
    family = groups["mine"]
    assert [one.name for one in family.members] == ["mine-seed-0", "mine-seed-1"]
    assert family.rounds_asked == 6
    assert family.last == pytest.approx(0.5)
    assert RunGroup("mine-seed-0", family.members[:1]).rounds_asked == 2


@pytest.mark.federated
def test_the_figures_are_those_of_a_real_run(tiny):
    root = tiny()
    made = federate(federate_config(root, rounds=2))
    several = federate_config(root, rounds=1, seeds=(3, 4), run="several")
    list(federate_all(several, lambda _: nullcontext(ignore)))
    alone, *others = sorted(list_entries(root), key=lambda entry: entry.name)
    assert (alone.rounds_done, alone.rounds_asked) == (2, 2)
    assert alone.last == made.validation.total.last
    assert alone.seconds == pytest.approx(sum(record["seconds"] for record in made.records))
    assert [one.family for one in others] == ["several", "several"]
    assert {one.planned for one in others} == {2}
