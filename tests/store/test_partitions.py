import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.partition import Partition, open_partition, write_partition
from flames_cli.store.partitions import find_run_partition, name_now, runs_on
from flames_cli.store.runs import read_config, run_folder, write_config
from flames_cli.store.workspace import list_partitions, partition_file


def add_partition(workspace, name="default", seed=0):
    write_partition(partition_file(workspace, name), Partition(seed, 32, [], []))
    return open_partition(workspace, name)


def add_run(workspace, sha256, name="flames", partition="default"):
    tables = {"federate": {"partition": partition}, "run": {"partition_sha256": sha256}}
    write_config(run_folder(workspace, name).config, tables)
    return run_folder(workspace, name)


def test_a_partition_is_found_by_name(tmp_path):
    made = add_partition(tmp_path, "fold-1", seed=3)
    assert (made.name, made.content.seed) == ("fold-1", 3)
    assert made.folder == tmp_path / "partitions" / "fold-1"


def test_what_a_killed_process_left_is_no_partition(tmp_path):
    add_partition(tmp_path, "b")
    add_partition(tmp_path, "a")
    add_partition(tmp_path, ".c.tmp")
    (tmp_path / "partitions" / "empty").mkdir()
    assert list_partitions(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "command"), [("default", "`flames partition`"), ("x", "`flames partition --name x`")]
)
def test_a_missing_partition_names_the_command(name, command, tmp_path):
    with pytest.raises(MissingArtifact, match=f"no partition '{name}' in .*; make it with {command}"):
        open_partition(tmp_path, name)


def test_a_missing_partition_names_the_existing_ones(tmp_path):
    add_partition(tmp_path, "fold-1")
    with pytest.raises(MissingArtifact, match=r"'default' in .*partitions \(existing: fold-1\); make"):
        open_partition(tmp_path, "default")


def test_a_workspace_of_an_earlier_release_is_left_and_the_commands_are_named(tmp_path):
    (tmp_path / "partition.json").write_text("{}")
    with pytest.raises(
        MissingArtifact, match=r"earlier release.*; run `flames partition` and then `flames federate` again"
    ):
        open_partition(tmp_path, "default")
    with pytest.raises(MissingArtifact, match="earlier release"):
        find_run_partition(tmp_path, add_run(tmp_path, "0"))
    assert (tmp_path / "partition.json").read_text() == "{}"


def test_a_run_finds_its_partition_under_a_new_name(tmp_path):
    made = add_partition(tmp_path)
    run = add_run(tmp_path, made.sha256)
    assert find_run_partition(tmp_path, run) == "default"
    made.folder.rename(made.folder.with_name("default-old-1"))
    assert find_run_partition(tmp_path, run) == "default-old-1"
    add_partition(tmp_path, seed=1)
    assert find_run_partition(tmp_path, run) == "default-old-1"


def test_of_equal_partitions_a_run_finds_the_one_of_its_name(tmp_path):
    made = add_partition(tmp_path, "b")
    add_partition(tmp_path, "a")
    assert find_run_partition(tmp_path, add_run(tmp_path, made.sha256, partition="b")) == "b"


def test_a_run_whose_partition_is_gone_says_so_by_names(tmp_path):
    add_partition(tmp_path, seed=1)
    run = add_run(tmp_path, "0" * 64)
    with pytest.raises(FlamesError) as caught:
        find_run_partition(tmp_path, run)
    expected = "run 'flames' was made on partition 'default' as it was before, which is not among"
    assert expected in str(caught.value)
    assert "0000" not in str(caught.value)
    assert name_now(tmp_path, read_config(run.config)) is None


def test_a_run_of_an_earlier_release_was_made_on_the_default_partition(tmp_path):
    made, run = add_partition(tmp_path), run_folder(tmp_path, "old")
    write_config(run.config, {"federate": {}, "run": {"partition_sha256": made.sha256}})
    assert find_run_partition(tmp_path, run) == "default"


def test_a_run_at_real_nodes_without_a_partition_here_has_no_test_sets(tmp_path):
    add_partition(tmp_path)
    with pytest.raises(FlamesError, match="was made without a partition on this machine, expected one"):
        find_run_partition(tmp_path, add_run(tmp_path, None))


def test_a_run_that_cannot_be_read_may_need_any_partition(tmp_path):
    made = add_partition(tmp_path)
    add_run(tmp_path, "0", "other")
    assert runs_on(tmp_path, made.sha256) == []
    add_run(tmp_path, made.sha256)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.toml").write_text("[")
    assert runs_on(tmp_path, made.sha256) == ["broken", "flames"]
