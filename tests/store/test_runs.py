import json
import os

import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.runs import (
    append_round,
    find_family,
    find_members,
    find_run,
    find_runs,
    list_differences,
    list_runs,
    planned_folds,
    planned_names,
    planned_seeds,
    read_config,
    read_history,
    read_member,
    read_rounds,
    run_folder,
    truncate_rounds,
    write_config,
)

RECORDS = [
    {"round": round_, "seconds": 0.1 * round_, "rejected": {"örtlich": "größer"}} for round_ in (1, 2, 3)
]


@pytest.fixture
def rounds(tmp_path):
    """Return a rounds.jsonl of three rounds."""
    for record in RECORDS:
        append_round(tmp_path / "rounds.jsonl", record)
    return tmp_path / "rounds.jsonl"


@pytest.fixture
def make(tmp_path):
    """Return make("flames", age=3): a run whose last file was written `age` seconds before the others'."""

    def make_run(name, age=0):
        run = run_folder(tmp_path, name)
        write_config(run.config, {"federate": {"strategy": name}})
        append_round(run.rounds, {"round": 1})
        for path in (run.config, run.rounds):
            os.utime(path, (1_000_000 - age, 1_000_000 - age))
        return run

    return make_run


def test_a_run_keeps_its_files_in_one_folder(tmp_path):
    run = run_folder(tmp_path, "flames")
    assert run.name == "flames"
    assert run.path == tmp_path / "runs" / "flames"
    assert {path.parent for path in (run.config, run.rounds, run.checkpoints)} == {run.path}
    assert not run.path.exists()


def test_a_configuration_comes_back_without_what_was_not_set(tmp_path):
    tables = {
        "federate": {"lr": 1e-4, "run": None, "lr_by_modality": {"US": 1e-3}, "augment": True},
        "run": {},
    }
    write_config(tmp_path / "new" / "config.toml", tables)
    del tables["federate"]["run"]
    assert read_config(tmp_path / "new" / "config.toml") == {"format": "flames-run", "version": 3, **tables}


@pytest.mark.parametrize("text", ["lr = ", None])
def test_a_configuration_that_cannot_be_read_is_rejected(text, tmp_path):
    if text:
        (tmp_path / "config.toml").write_text(text)
    with pytest.raises(FlamesError, match=r"config\.toml cannot be read .*; federate again with --fresh"):
        read_config(tmp_path / "config.toml")


@pytest.mark.parametrize("text", ["version = 1", 'format = "flames-run"\nversion = 9'])
def test_a_configuration_of_another_version_is_rejected(text, tmp_path):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(FlamesError, match=r"flames federate --fresh"):
        read_config(tmp_path / "config.toml")


def test_records_come_back_in_order(rounds):
    assert read_rounds(rounds) == RECORDS
    assert len(rounds.read_text(encoding="utf-8").splitlines()) == 3


def test_no_file_is_no_record(tmp_path):
    assert read_rounds(tmp_path / "rounds.jsonl") == []


def test_a_line_cut_short_ends_the_records(rounds):
    whole = rounds.read_bytes()
    rounds.write_bytes(whole[:-5])
    assert read_rounds(rounds) == RECORDS[:2]


@pytest.mark.parametrize("last", [0, 1, 3, 9])
def test_rounds_that_will_be_done_again_are_dropped(last, rounds):
    truncate_rounds(rounds, last)
    assert read_rounds(rounds) == RECORDS[:last]
    append_round(rounds, {"round": last + 1})
    assert read_rounds(rounds) == [*RECORDS[:last], {"round": last + 1}]


def test_dropping_nothing_leaves_the_same_bytes(rounds):
    before = rounds.read_bytes()
    truncate_rounds(rounds, 3)
    assert rounds.read_bytes() == before
    assert json.loads(before.splitlines()[0])["rejected"] == {"örtlich": "größer"}


def test_a_line_cut_short_is_dropped_before_others_follow(rounds):
    rounds.write_bytes(rounds.read_bytes()[:-5])
    truncate_rounds(rounds, 2)
    append_round(rounds, RECORDS[2])
    assert read_rounds(rounds) == RECORDS


def test_a_run_is_found_by_its_name(make, tmp_path):
    make("flames")
    run = make("fedavg", age=5)
    assert find_run(tmp_path, "fedavg") == run


def test_without_a_name_the_newest_run_is_found(make, tmp_path):
    make("zz", age=9)
    newest = make("flames", age=1)
    make("fedavg", age=5)
    assert find_run(tmp_path, None) == newest


@pytest.fixture
def family(make, tmp_path):
    """Return the runs with seeds 9 and 10 of a family of three; another run has a similar name."""
    make("mine-seed-3")
    for age, seed in ((5, 10), (1, 9)):
        run = make(f"mine-seed-{seed}", age)
        write_config(run.config, {"federate": {"seed": seed}, "run": {"seeds": [10, 9, 11]}})
    os.utime(tmp_path / "runs" / "mine-seed-3" / "rounds.jsonl", (1, 1))
    return [run_folder(tmp_path, f"mine-seed-{seed}") for seed in (9, 10)]


def test_a_family_has_the_runs_that_were_made_for_several_seeds(family, tmp_path):
    assert find_members(tmp_path, "mine") == family
    assert find_members(tmp_path, "mine-seed") == find_members(tmp_path, "other") == []
    assert planned_seeds(family) == [9, 10, 11]
    assert find_family(family[0]) == "mine"
    assert find_family(run_folder(tmp_path, "mine-seed-3")) == ""


def test_a_family_with_folds_is_in_the_order_of_seeds_and_folds(make, tmp_path):
    for seed in (1, 0):
        for fold in (10, 2):
            run = make(f"cv-fold-{fold}-seed-{seed}")
            write_config(run.config, {"federate": {}, "run": {"seeds": [0, 1], "folds": [2, 10, 11]}})
    names = [f"cv-fold-{fold}-seed-{seed}" for seed in (0, 1) for fold in (2, 10)]
    found = find_members(tmp_path, "cv")
    assert [run.name for run in found] == names
    assert (read_member(found[0]).fold, read_member(found[0]).seed) == (2, 0)
    assert planned_folds(found) == [2, 10, 11]
    assert set(planned_names("cv", found)) - set(names) == {"cv-fold-11-seed-0", "cv-fold-11-seed-1"}


def test_a_run_that_was_set_aside_is_no_member(family, tmp_path):
    family[0].path.rename(family[0].path.with_name("mine-seed-9-old-1"))
    assert find_members(tmp_path, "mine") == family[1:]
    assert find_family(run_folder(tmp_path, "mine-seed-9-old-1")) == ""


def test_the_name_of_a_family_finds_all_of_its_runs(family, make, tmp_path):
    assert find_runs(tmp_path, "mine") == ("mine", family)
    assert find_runs(tmp_path, "mine-seed-9") == ("mine-seed-9", family[:1])
    with pytest.raises(MissingArtifact, match="no run 'other'"):
        find_runs(tmp_path, "other")
    with pytest.raises(FlamesError, match=r"'mine' is 2 runs .* pass one of mine-seed-9, mine-seed-10"):
        find_run(tmp_path, "mine")
    run = make("mine")
    assert find_runs(tmp_path, "mine") == ("mine", [run])


def test_the_newest_run_stands_for_its_family(family, make, tmp_path):
    for run in family:
        for file in (run.config, run.rounds):
            os.utime(file, (2e9, 2e9))
    assert find_runs(tmp_path, None) == ("mine", family)
    newest = make("flames-seed-0")
    for file in (newest.config, newest.rounds):
        os.utime(file, (3e9, 3e9))
    assert find_runs(tmp_path, None) == ("flames-seed-0", [newest])


def test_a_run_that_is_not_there_lists_those_that_are_and_a_family_by_its_name(make, tmp_path):
    for name in ("flames", "fedavg-fold-2", "fedavg-fold-10", "local-seed-3"):
        make(name)
    with pytest.raises(
        MissingArtifact,
        match=r"no run 'local' in .* \(existing: fedavg, flames, local-seed-3\); make",
    ):
        find_run(tmp_path, "local")


@pytest.mark.parametrize("name", [None, "flames"])
def test_a_workspace_without_runs_names_the_command(name, tmp_path):
    with pytest.raises(MissingArtifact, match="make it with `flames federate`"):
        find_run(tmp_path, name)


def test_a_folder_without_a_configuration_is_no_run(make, tmp_path):
    make("flames", age=5)
    (tmp_path / "runs" / "notes").mkdir()
    assert find_run(tmp_path, None).name == "flames"
    with pytest.raises(MissingArtifact):
        find_run(tmp_path, "notes")


def test_a_record_contains_only_numbers_that_json_has(tmp_path):
    append_round(tmp_path / "rounds.jsonl", {"round": 1, "clients": [{"train_loss": float("nan"), "n": 2}]})
    assert "NaN" not in (tmp_path / "rounds.jsonl").read_text()
    assert read_rounds(tmp_path / "rounds.jsonl") == [{"round": 1, "clients": [{"train_loss": None, "n": 2}]}]


def test_a_reason_with_another_end_of_line_costs_no_round(tmp_path):
    path = tmp_path / "rounds.jsonl"
    records = [{"round": number, "rejected": {"a": "x\u2028y\x85z"}} for number in (1, 2, 3)]
    for record in records:
        append_round(path, record)
    assert read_rounds(path) == records
    truncate_rounds(path, 2)
    assert read_rounds(path) == records[:2]


@pytest.mark.parametrize("garbage", [b"{", b"\xff\xfe", b"3", b"{}", b'{"round": "2"}'])
def test_a_damaged_line_is_skipped_reported_and_kept_in_a_copy(garbage, rounds, tmp_path):
    lines = rounds.read_bytes().split(b"\n")
    lines[1] = garbage
    rounds.write_bytes(b"\n".join(lines))
    history = read_history(rounds)
    assert (history.records, history.garbled) == ([RECORDS[0], RECORDS[2]], [2])
    damaged, lost = truncate_rounds(rounds, 3)
    assert "is damaged in line 2; the file is kept as rounds.jsonl.damaged" in damaged
    assert "has no line of round 2" in lost
    assert (tmp_path / "rounds.jsonl.damaged").read_bytes() == b"\n".join(lines)
    assert read_history(rounds).garbled == []
    assert len(truncate_rounds(rounds, 3)) == 1, "the file is whole now, the round still missing"


def test_a_last_line_without_its_end_counts_if_it_is_complete(rounds):
    rounds.write_bytes(rounds.read_bytes()[:-1])
    assert read_rounds(rounds) == RECORDS
    assert truncate_rounds(rounds, 3) == []
    append_round(rounds, {"round": 4})
    assert read_rounds(rounds) == [*RECORDS, {"round": 4}]


def test_a_missing_history_is_reported(tmp_path):
    (note,) = truncate_rounds(tmp_path / "rounds.jsonl", 2)
    assert note.endswith("has no line of round 1, 2; the models have all rounds")


def test_what_a_killed_process_left_of_a_run_is_none(make, tmp_path):
    run = make("flames", age=5)
    for left in (".flames.tmp", ".flames~0a1b2c3d.tmp"):
        (tmp_path / "runs" / left).mkdir()
        (tmp_path / "runs" / left / "config.toml").touch()
    assert list_runs(tmp_path) == [run.path]
    assert find_run(tmp_path, None) == run


VERSION_2_LINE = {
    "round": 1,
    "seconds": 2.5,
    "clients": [
        {"client": "a", "modality": "MRI", "seconds": 1.0, "n_examples": 9, "train_loss": 0.5},
        {"client": "b", "modality": "US", "seconds": 1.5, "train_loss": 0.25, "refused": "it lies"},
    ],
    "accepted": ["a"],
    "kept_models": ["US"],
    "refused": {"b": "it lies"},
}
"""A line of a run whose config.toml has version 2 of flames-run."""


def test_lines_of_version_2_are_read_with_the_names_of_version_3(tmp_path):
    path = tmp_path / "rounds.jsonl"
    append_round(path, VERSION_2_LINE)
    (record,) = read_rounds(path)
    assert record == {
        "round": 1,
        "seconds": 2.5,
        "clients": [
            VERSION_2_LINE["clients"][0],
            {"client": "b", "modality": "US", "seconds": 1.5, "rejection_reason": "it lies"},
        ],
        "accepted": ["a"],
        "unchanged_groups": ["US"],
        "rejected": {"b": "it lies"},
    }


def test_a_resumed_run_of_version_2_writes_its_lines_again_in_version_3(tmp_path):
    path = tmp_path / "rounds.jsonl"
    append_round(path, VERSION_2_LINE)
    append_round(path, {**VERSION_2_LINE, "round": 2})
    assert truncate_rounds(path, 1) == []
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == read_rounds(path)
    assert "refused" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("version", "is_read"), [(1, False), (2, True), (3, True), (4, False)])
def test_a_configuration_of_version_2_is_still_read(version, is_read, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f'format = "flames-run"\nversion = {version}\n[federate]\nlr = 0.5\n', encoding="utf-8")
    if is_read:
        assert read_config(path)["federate"] == {"lr": 0.5}
    else:
        with pytest.raises(FlamesError, match=f"has version {version} of flames-run, this release reads 3"):
            read_config(path)


def test_differences_are_listed_in_the_order_of_the_keys():
    was, now = {"lr": 1e-4, "seed": 0, "rounds": 5}, {"lr": 1e-3, "rounds": 9, "size": 96}
    assert list_differences(was, now, ["size", "seed", "lr"]) == [
        "size None → 96",
        "seed 0 → None",
        "lr 0.0001 → 0.001",
    ]
    assert list_differences(was, was, was) == []
