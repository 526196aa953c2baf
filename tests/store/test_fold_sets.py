from dataclasses import replace

import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.fold_sets import are_folds_of_one, choose_fold_set, find_sibling
from flames_cli.store.partition import ClientEntry, Partition, open_partition, write_partition
from flames_cli.store.workspace import partition_file, partition_folder

PATIENTS = ["a", "b", "c"]


def fold(k, n=3, patients=PATIENTS, **options):
    tested = patients[k - 1 : k]
    sets = {"train": [one for one in patients if one not in tested], "val": [], "test": tested}
    images = {name: len(one) for name, one in sets.items()}
    client = ClientEntry("busi", "busi", "US", "breast", "shards/busi.h5", images, sets, sha256=f"{k}")
    return Partition(0, 32, [client], [], options={"split": {"busi": 1}, "fold": f"{k}/{n}", **options})


def add(workspace, name, partition):
    write_partition(partition_file(workspace, name), partition)


def add_set(workspace, prefix="", n=3, **options):
    for k in range(1, n + 1):
        add(workspace, f"{prefix}fold-{k}", fold(k, n, **options))


def test_the_only_set_needs_no_name(tmp_path):
    add_set(tmp_path)
    add(tmp_path, "default", fold(1))
    expected = {1: "fold-1", 2: "fold-2", 3: "fold-3"}
    assert choose_fold_set(tmp_path, "") == choose_fold_set(tmp_path, "default") == expected


def test_of_several_sets_one_is_named(tmp_path):
    add_set(tmp_path)
    add_set(tmp_path, "cv-", 2)
    assert choose_fold_set(tmp_path, "cv") == {1: "cv-fold-1", 2: "cv-fold-2"}
    with pytest.raises(FlamesError, match=r"several sets of folds \(cv, default\), and --folds names none"):
        choose_fold_set(tmp_path, "")
    with pytest.raises(MissingArtifact, match=r"no set of folds 'x' .*\(existing: cv, default\).* --name x"):
        choose_fold_set(tmp_path, "x")


def test_without_a_set_the_command_is_named(tmp_path):
    add(tmp_path, "default", fold(1))
    with pytest.raises(
        MissingArtifact, match=r"no set of folds in .*make it with `flames partition --folds 5`"
    ):
        choose_fold_set(tmp_path, "")


def test_a_missing_fold_is_named(tmp_path):
    add_set(tmp_path)
    partition_file(tmp_path, "fold-2").unlink()
    with pytest.raises(
        FlamesError, match="of 3 folds the partitions fold-2 are missing; make all folds again"
    ):
        choose_fold_set(tmp_path, "")


@pytest.mark.parametrize(
    "other",
    [
        fold(2, seed_of_split=1),
        fold(2, n=4),
        replace(fold(2), seed=1),
        replace(fold(2), size=48),
        fold(2, patients=["a", "b", "d"]),
    ],
)
def test_folds_of_different_data_or_options_are_rejected(other, tmp_path):
    add_set(tmp_path)
    add(tmp_path, "fold-4", fold(4, 4, [*PATIENTS, "d"]))
    add(tmp_path, "fold-2", other)
    assert not are_folds_of_one([fold(1), other])
    with pytest.raises(FlamesError, match="were made of different data or with different options, expected"):
        choose_fold_set(tmp_path, "")


@pytest.mark.parametrize(
    ("wrong", "what"),
    [(fold(3), "fold 3/3"), (replace(fold(2), options={"fold": None}), "no fold")],
)
def test_a_partition_with_the_name_of_another_fold_is_rejected(wrong, what, tmp_path):
    add_set(tmp_path)
    add(tmp_path, "fold-2", wrong)
    with pytest.raises(FlamesError, match=f"partition 'fold-2' is {what}, expected fold 2"):
        choose_fold_set(tmp_path, "")


def test_a_fold_of_the_same_cross_validation_is_found_by_its_content(tmp_path):
    add_set(tmp_path)
    add_set(tmp_path, "other-", seed_of_split=1)
    folder = partition_folder(tmp_path, "fold-2")
    folder.rename(folder.with_name("fold-2-old-1"))
    partition_folder(tmp_path, "damaged").mkdir()
    partition_file(tmp_path, "damaged").write_text("{")
    first = open_partition(tmp_path, "fold-1").content
    assert find_sibling(tmp_path, first, 2) == "fold-2-old-1"
    assert find_sibling(tmp_path, first, 4) is None
