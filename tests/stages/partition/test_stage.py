import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flames_cli.config import PartitionConfig, PreprocessConfig
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.stages.partition.stage import make_partition, make_partitions, partition, verify_partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.cases import CaseInfo, SetInfo
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.fold_sets import are_folds_of_one
from flames_cli.store.h5 import read_preprocessed_cases, read_shard_cases, read_shard_sets
from flames_cli.store.partition import Partition, read_partition
from flames_cli.store.partitions import find_run_partition
from flames_cli.store.runs import run_folder, write_config
from flames_cli.store.volumes import find_volumes
from flames_cli.store.workspace import list_partitions, partition_file, partition_folder
from tests.support.datasets import find_shared, write_noise

SIZE = 4
INFOS = {
    "brats": SetInfo("brats", "MRI", "brain", SIZE, 4095),
    "busi": SetInfo("busi", "US", "breast", SIZE, 255, patient_unit="image"),
    "otu2d": SetInfo("otu2d", "US", "ovary", SIZE, 255, patient_unit="image"),
    "lits": SetInfo("lits", "CT", "liver", SIZE, 4095),
    "sts-ct": SetInfo("sts-ct", "CT", "muscle", SIZE, 4095, collection="sts"),
    "sts-mri": SetInfo("sts-mri", "MRI", "muscle", SIZE, 4095, collection="sts"),
}
PAPER = ("brats", "busi", "otu2d")
CLIENT_SETS = {"train": "client_train", "val": "client_train", "test": "client_test"}


def run(workspace: Path, **options) -> Partition:
    return partition(PartitionConfig(workspace=workspace, **options))


def source(workspace: Path, dataset: str) -> Path:
    return workspace / "preprocessed" / f"{dataset}.h5"


def single(*patients: str, images: int = 1):
    """Return patients who are each a split unit of their own."""
    return [(patient, patient, images) for patient in patients]


def digests(workspace: Path) -> dict[str, str]:
    files = [
        partition_file(workspace),
        *(partition_folder(workspace) / "shards").iterdir(),
    ]
    return {path.name: hash_file(path) for path in files}


@pytest.fixture
def small(tmp_path):
    """Return small(busi={...}), which makes a workspace with these preprocessed data sets; by default of
    eight patients."""

    def make(**datasets) -> Path:
        for dataset, sets in datasets.items():
            sets = sets or {
                "client_train": single(*"abcde"),
                "client_test": single(*"fg"),
                "server_test": single("h"),
            }
            write_noise(source(tmp_path, dataset), sets, INFOS[dataset])
        return tmp_path

    return make


def where_cases_lie(workspace: Path, made: Partition):
    """Return (dataset, case, shard, set) of every case in the shards."""
    shards = [entry.shard for entry in (*made.clients, *made.server)]
    return [
        (info.dataset, case, shard, set_name)
        for shard in shards
        for set_name, (info, cases) in read_shard_cases(partition_folder(workspace) / shard).items()
        for case in cases
    ]


def origin_of(shard: str, set_name: str) -> str:
    return "server_test" if "/server-" in shard else CLIENT_SETS[set_name]


def check_partition(workspace: Path, made: Partition) -> None:
    """Check everything that is true of every partition."""
    files = sorted((workspace / "preprocessed").glob("*.h5"))
    lying = where_cases_lie(workspace, made)
    expected = {
        (path.stem, str(case), set_name)
        for path in files
        for set_name, cases in read_preprocessed_cases(path)[1].items()
        for case in cases
        if case.selected or set_name in ("client_test", "server_test")
    }
    found = Counter((dataset, str(case), origin_of(shard, name)) for dataset, case, shard, name in lying)
    assert found == Counter(expected), "every case once, and in a set that its own set became"
    for identity in ("patient", "split_unit"):
        places: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for dataset, case, shard, set_name in lying:
            places.setdefault((dataset, getattr(case, identity)), set()).add((shard, set_name))
        assert all(len(one) == 1 for one in places.values()), f"a {identity} in two sets"
    check_manifest(workspace, made)


def count_selected(cases: Sequence[CaseInfo]) -> int:
    return sum(case.selected for case in cases)


def count_volumes(cases: Sequence[CaseInfo]) -> tuple[int, int]:
    """Return the number of volumes, all complete, and of their slices."""
    volumes = find_volumes(("", case) for case in cases)
    assert all(volume.is_complete for volume in volumes)
    return len(volumes), sum(len(volume.indices) for volume in volumes)


def check_manifest(workspace: Path, made: Partition) -> None:
    assert read_partition(partition_file(workspace)) == made
    for client in made.clients:
        cases = read_shard_cases(partition_folder(workspace) / client.shard)
        assert client.images == {name: count_selected(one) for name, (_, one) in cases.items()}
        assert client.test_volumes == count_volumes(cases["test"][1])
        assert client.patients == {name: sorted({c.patient for c in one}) for name, (_, one) in cases.items()}
    for server in made.server:
        cases = read_shard_cases(partition_folder(workspace) / server.shard)
        assert server.images == {name.split("/")[1]: count_selected(one) for name, (_, one) in cases.items()}
        assert server.test_volumes == {
            name.split("/")[1]: count_volumes(one) for name, (_, one) in cases.items()
        }
        assert server.patients == {
            name.split("/")[1]: sorted({c.patient for c in one}) for name, (_, one) in cases.items()
        }
    shards = {path.name for path in (partition_folder(workspace) / "shards").iterdir()}
    assert shards == {Path(entry.shard).name for entry in (*made.clients, *made.server)}


@st.composite
def datasets(draw):
    """Draw {data set: (clients, sets of random units of random patients, enough of them to be divided)}."""
    drawn = {}
    for dataset in draw(st.lists(st.sampled_from(PAPER), min_size=1, unique=True)):
        parts = draw(st.integers(1, 3))
        counts = {
            "client_train": 2 * parts + draw(st.integers(0, 4)),
            "client_test": draw(st.sampled_from([0, parts, parts + 2])),
            "server_test": draw(st.integers(0, 3)),
        }
        numbers = iter(draw(st.permutations(range(sum(counts.values())))))
        groups = {name: [f"g{next(numbers)}" for _ in range(count)] for name, count in counts.items()}
        drawn[dataset] = (parts, {name: draw(members(names)) for name, names in groups.items()})
    return drawn


def members(groups: list[str]):
    """Draw one to three patients per unit, with one to three images per patient."""
    images = st.lists(st.integers(1, 3), min_size=1, max_size=3)
    return st.tuples(*[images for _ in groups]).map(
        lambda drawn: [
            (f"{group}-p{number}", group, count)
            for group, counts in zip(groups, drawn, strict=True)
            for number, count in enumerate(counts)
        ]
    )


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(
    datasets(), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.none() | st.floats(0.01, 50), st.integers(0, 2**32)
)
def test_no_patient_and_no_split_unit_is_in_two_sets(drawn, val_fraction, skew, seed):
    with TemporaryDirectory() as folder:
        workspace = Path(folder)
        for dataset, (_, sets) in drawn.items():
            write_noise(source(workspace, dataset), sets, INFOS[dataset])
        split = {dataset: parts for dataset, (parts, _) in drawn.items()}
        made = run(workspace, split=split, val_fraction=val_fraction, skew=skew, seed=seed)
        check_partition(workspace, made)
        assert Counter(client.dataset for client in made.clients) == split
        assert all(client.images["train"] > 0 for client in made.clients)
        assert all((client.images["val"] > 0) == (val_fraction > 0) for client in made.clients)


def test_phantoms_are_divided_as_in_the_paper(workspace):
    folder = workspace()
    made = read_partition(partition_file(folder))
    check_partition(folder, made)
    names = ["brats-1", "brats-2", "brats-3", "busi", "otu2d"]
    assert [client.name for client in made.clients] == names
    assert [client.modality for client in made.clients] == ["MRI"] * 3 + ["US"] * 2
    assert [client.organ for client in made.clients] == ["brain"] * 3 + ["breast", "ovary"]
    assert made.modalities == ["MRI", "US"]
    assert [server.modality for server in made.server] == ["MRI", "US"]
    assert made.server[1].organs == {"busi": "breast", "otu2d": "ovary"}
    assert made.size == 32


@pytest.mark.parametrize("fold", ["1/3", "2/3", "3/3"])
def test_every_fold_is_tested_on_complete_volumes_and_trains_on_selected_slices(fold, workspace, tmp_path):
    shutil.copytree(workspace() / "preprocessed", tmp_path / "preprocessed")
    made = run(tmp_path, datasets=("brats",), split={"brats": 1}, fold=fold)
    sets = read_shard_cases(partition_folder(tmp_path) / made.clients[0].shard)
    tested = sets["test"][1]
    assert count_volumes(tested) == made.clients[0].test_volumes
    assert count_volumes(tested)[0] == len(made.clients[0].patients["test"]) > 0
    assert not all(case.selected for case in tested)
    for name in ("train", "val"):
        assert all(case.selected for case in sets[name][1])


def test_patients_are_spread_evenly_over_the_clients(small):
    workspace = small(brats={"client_train": single(*"abcdefghijk"), "client_test": single(*"lmno")})
    made = run(workspace, val_fraction=0)
    assert sorted(len(client.patients["train"]) for client in made.clients) == [3, 4, 4]
    assert sorted(len(client.patients["test"]) for client in made.clients) == [1, 1, 2]


def test_pixels_are_copied_unchanged(tmp_path):
    sets = {"client_train": single(*"abc", images=2), "client_test": single("d"), "server_test": single("e")}
    drawn = write_noise(source(tmp_path, "otu2d"), sets, INFOS["otu2d"])
    pixels = {case.case: (image, mask) for case, image, mask in drawn}
    made = run(tmp_path)
    folder = partition_folder(tmp_path)
    read = [one for name in CLIENT_SETS for one in read_shard_sets(folder / made.clients[0].shard, name)]
    read += read_shard_sets(folder / made.server[0].shard, "test")
    assert sum(len(one) for one in read) == len(drawn)
    for one in read:
        for case, image, mask in zip(one.cases, one.images, one.masks, strict=True):
            np.testing.assert_array_equal(image, pixels[case.case][0])
            np.testing.assert_array_equal(mask, pixels[case.case][1])


def test_the_same_seed_gives_the_same_bytes(small):
    workspace = small(brats={}, busi={})
    options = {"split": {"brats": 2}, "overwrite": True}
    run(workspace, **options)
    before = digests(workspace)
    run(workspace, **options)
    assert digests(workspace) == before
    run(workspace, **options, seed=1)
    assert digests(workspace) != before


@pytest.mark.parametrize("split", [{}, {"brats": 3}])
def test_a_data_set_for_tests_only_has_no_client(split, small):
    workspace = small(brats={"server_test": single(*"abcd")}, busi={})
    made = run(workspace, split=split)
    check_partition(workspace, made)
    assert [client.name for client in made.clients] == ["busi"]
    assert {server.modality: server.images for server in made.server} == {
        "MRI": {"brats": 4},
        "US": {"busi": 1},
    }


def test_data_sets_for_tests_only_make_no_federation(small):
    workspace = small(brats={"server_test": single("a")}, busi={"server_test": single("b")})
    with pytest.raises(FlamesError, match="all patients of brats, busi are in the server's test sets, exp"):
        run(workspace)


def test_a_data_sets_shards_do_not_depend_on_the_other_data_sets(small):
    workspace = small(busi={}, otu2d={})
    run(workspace, datasets=("busi",))
    alone = digests(workspace)["busi.h5"]
    run(workspace, overwrite=True)
    assert digests(workspace)["busi.h5"] == alone


def test_data_sets_may_be_chosen_by_any_of_their_names(small):
    workspace = small(brats={}, busi={}, otu2d={})
    made = run(workspace, datasets=("OTU_2d", "Task01_BrainTumour"), split={"task01_braintumour": 2})
    assert [client.name for client in made.clients] == ["otu2d", "brats-1", "brats-2"]
    assert made.modalities == ["US", "MRI"]


def test_an_existing_partition_is_kept_without_overwrite(small):
    workspace = small(busi={})
    run(workspace)
    before = digests(workspace)
    with pytest.raises(FlamesError, match=r"partition 'default' exists already in .*; pass --overwrite"):
        run(workspace, seed=1)
    assert digests(workspace) == before


def test_partitions_of_several_names_are_independent(small):
    workspace = small(busi={})
    run(workspace)
    before = digests(workspace)
    other = make_partition(PartitionConfig(workspace=workspace, name="fold-1", fold="1/3"))
    assert (other.name, other.folder) == ("fold-1", workspace / "partitions" / "fold-1")
    assert read_partition(other.folder / "partition.json") == other.partition
    assert digests(workspace) == before
    assert list_partitions(workspace) == ["default", "fold-1"]


def test_all_folds_are_those_that_single_calls_make(small):
    workspace = small(brats={}, busi={})
    made = make_partitions(PartitionConfig(workspace=workspace, split={"brats": 1}, folds=3))
    assert [one.name for one in made] == ["fold-1", "fold-2", "fold-3"]
    for k, one in enumerate(made, start=1):
        alone = make_partition(
            PartitionConfig(workspace=workspace, split={"brats": 1}, fold=f"{k}/3", name=f"alone-{k}")
        )
        assert alone.partition == one.partition
        for path in (path for path in one.folder.rglob("*") if path.is_file()):
            assert hash_file(path) == hash_file(alone.folder / path.relative_to(one.folder))
    assert are_folds_of_one(one.partition for one in made)
    for number, client in enumerate(made[0].partition.clients):
        tested = [patient for one in made for patient in one.partition.clients[number].patients["test"]]
        everyone = {patient for own in client.patients.values() for patient in own}
        assert sorted(tested) == sorted(everyone)


def test_existing_folds_are_named_before_any_is_made(small):
    workspace = small(busi={})
    run(workspace, fold="2/3", name="fold-2")
    with pytest.raises(FlamesError, match=r"the partitions fold-2 exist already in .*; pass --overwrite to"):
        make_partitions(PartitionConfig(workspace=workspace, folds=3))
    assert list_partitions(workspace) == ["fold-2"]
    make_partitions(PartitionConfig(workspace=workspace, folds=3, overwrite=True))
    assert list_partitions(workspace) == ["fold-1", "fold-2", "fold-3"]


def test_folds_stay_together_when_a_run_was_made_on_one_of_them(small):
    workspace = small(busi={})
    make_partitions(PartitionConfig(workspace=workspace, folds=3))
    add_run(workspace, partition="fold-2")
    again = make_partitions(PartitionConfig(workspace=workspace, folds=3, seed=1, overwrite=True))
    assert [one.aside for one in again] == ["fold-1-old-1", "fold-2-old-1", "fold-3-old-1"]


def test_a_partition_without_a_run_is_replaced(small):
    workspace = small(busi={})
    run(workspace)
    made = make_partition(PartitionConfig(workspace=workspace, seed=1, overwrite=True))
    assert made.aside == ""
    assert list_partitions(workspace) == ["default"]
    assert read_partition(partition_file(workspace)).seed == 1


def add_run(workspace, name="flames", partition="default"):
    """Write the configuration of a run on a partition."""
    facts = {"partition_sha256": hash_file(partition_file(workspace, partition))}
    write_config(run_folder(workspace, name).config, {"federate": {"partition": partition}, "run": facts})


def test_a_partition_on_which_a_run_was_made_is_set_aside(small):
    workspace = small(busi={})
    first = run(workspace)
    add_run(workspace)
    made = make_partition(PartitionConfig(workspace=workspace, seed=1, overwrite=True))
    assert made.aside == "default-old-1"
    assert read_partition(partition_file(workspace, "default-old-1")) == first
    assert (partition_folder(workspace, "default-old-1") / first.clients[0].shard).is_file()
    assert find_run_partition(workspace, run_folder(workspace, "flames")) == "default-old-1"
    add_run(workspace, "second")
    again = make_partition(PartitionConfig(workspace=workspace, seed=2, overwrite=True))
    assert again.aside == "default-old-2"


def test_a_partition_that_is_made_again_with_the_same_content_keeps_its_name(small):
    workspace = small(busi={})
    made = run(workspace)
    add_run(workspace)
    (partition_folder(workspace) / made.clients[0].shard).write_bytes(b"damaged")
    assert make_partition(PartitionConfig(workspace=workspace, overwrite=True)).aside == ""
    assert list_partitions(workspace) == ["default"]
    verify_partition(partition_folder(workspace), made)


def test_shards_of_an_earlier_partition_are_removed(small):
    workspace = small(brats={}, busi={})
    run(workspace, split={"brats": 2})
    (partition_folder(workspace) / "shards" / "old-client.h5").write_bytes(b"stale")
    made = run(workspace, datasets=("brats",), split={"brats": 1}, overwrite=True)
    assert sorted(path.name for path in (partition_folder(workspace) / "shards").iterdir()) == [
        "brats.h5",
        "server-MRI.h5",
    ]
    check_manifest(workspace, made)


@pytest.mark.parametrize(("val_fraction", "held_out"), [(0.0, 0), (0.01, 1), (0.2, 1), (0.4, 2), (0.99, 4)])
def test_validation_takes_its_fraction_of_the_patients_and_leaves_one(val_fraction, held_out, small):
    made = run(small(busi={}), val_fraction=val_fraction)
    assert len(made.clients[0].patients["val"]) == held_out
    assert len(made.clients[0].patients["train"]) == 5 - held_out


def test_a_client_without_a_patient_to_validate_on_is_rejected(small):
    workspace = small(busi={"client_train": single("a"), "client_test": single("b")})
    with pytest.raises(FlamesError, match=r"client busi has 1 image .* to train on .*pass --val-fraction 0"):
        run(workspace)
    assert run(workspace, val_fraction=0).clients[0].images == {"train": 1, "val": 0, "test": 1}


def test_a_data_set_without_server_images_has_no_server_shard(small):
    workspace = small(busi={"client_train": single(*"abc"), "client_test": single("d")}, otu2d={})
    made = run(workspace)
    assert [list(server.images) for server in made.server] == [["otu2d"]]


@pytest.mark.parametrize(
    ("split", "found"),
    [
        ({"brats": 2}, "--split names 'brats', which is not among the data sets busi"),
        ({"lung": 2}, "--split names 'lung', which is not among the data sets busi"),
        ({"busi": "site"}, "busi names no site for 7 of its 7 images, so it cannot be divided by site"),
        ({"busi": 6}, r"busi has 5 images .* in client_train, too few for 6 clients; pass --split busi=5"),
        ({"busi": 3}, r"busi has 2 images .* in client_test, too few for 3 clients; pass --split busi=2"),
    ],
)
def test_a_split_that_cannot_be_is_rejected_and_nothing_changes(split, found, small):
    workspace = small(busi={})
    with pytest.raises(FlamesError, match=found):
        run(workspace, split=split)
    assert not partition_file(workspace).exists()
    assert not (partition_folder(workspace) / "shards").exists()
    run(workspace)
    before = digests(workspace)
    with pytest.raises(FlamesError, match=found):
        run(workspace, split=split, overwrite=True)
    assert digests(workspace) == before


def test_data_sets_of_differing_size_are_rejected_with_their_sizes(small):
    workspace = small(busi={})
    larger = SetInfo("otu2d", "US", "ovary", 8, 255)
    write_noise(source(workspace, "otu2d"), {"client_train": single(*"abc")}, larger)
    with pytest.raises(
        FlamesError, match=r"differ in image size \(busi 4, otu2d 8\); preprocess them with one --size"
    ):
        run(workspace)


@pytest.mark.parametrize(
    ("sets", "found"),
    [
        ({"client_train": single(*"abc"), "client_test": single("c")}, "patient busi/c is in .* and in "),
        ({"client_train": single(*"abc"), "server_test": single("c")}, "patient busi/c is in .* and in "),
        ({"client_test": single("c"), "server_test": single("c")}, "patient busi/c is in .* and in "),
        (
            {"client_train": [("x", "g", 1)], "client_test": [("y", "g", 1)]},
            "split unit busi/g is in .* and in ",
        ),
        (
            {"client_test": [("x", "g", 1)], "server_test": [("y", "g", 1)]},
            "split unit busi/g is in .* and in ",
        ),
    ],
)
def test_a_doctored_file_with_a_patient_or_split_unit_in_two_sets_is_rejected(sets, found, small):
    sound = {"client_train": single("m", "n"), "client_test": single("o"), "server_test": single("p")}
    workspace = small(busi={name: [*sound[name], *sets.get(name, [])] for name in sound})
    with pytest.raises(FlamesError, match=found):
        run(workspace, split={"busi": 1}, val_fraction=0.49)
    assert not partition_file(workspace).exists()


def test_a_patient_of_two_split_units_is_not_divided_between_clients(small):
    two = {"client_train": [("c", "one", 1), ("c", "two", 1)], "client_test": single("d", "e")}
    with pytest.raises(
        FlamesError, match=r"patient busi/c is in shards/busi-1\.h5:train and in shards/busi-2\.h5:train"
    ):
        run(small(busi=two), split={"busi": 2}, val_fraction=0)


def test_a_rejected_overwrite_leaves_the_partition_as_it_was(small):
    workspace = small(busi={})
    run(workspace)
    before = digests(workspace)
    small(busi={"client_train": single(*"abc"), "client_test": single("c")})
    with pytest.raises(FlamesError, match="patient busi/c"):
        run(workspace, overwrite=True)
    assert digests(workspace) == before
    left = {path.name for path in partition_folder(workspace).parent.iterdir()}
    assert left == {".default.lock", "default"}


def test_one_name_in_two_data_sets_of_unnamed_patients_is_two_patients(small):
    workspace = small(
        busi={"client_train": single(*"abc"), "client_test": single("d")},
        otu2d={"client_train": single(*"bcd"), "client_test": single("a")},
    )
    check_partition(workspace, run(workspace))


@pytest.mark.parametrize("other", ["client_train", "client_test"])
def test_named_patients_whom_two_data_sets_share_are_rejected_whatever_their_sets(other, small):
    workspace = small(
        brats={"client_train": single(*"abc"), "client_test": single("d")},
        lits={"client_train": single("e", "f"), "client_test": [], **{other: single("b", "d", "g")}},
        busi={"client_train": single(*"abc")},
    )
    one_each = {"split": {"brats": 1, "lits": 1}, "val_fraction": 0}
    with pytest.raises(FlamesError) as error:
        run(workspace, **one_each)
    assert "brats and lits were split one by one and share 2 patients (b, d), expected none" in str(
        error.value
    )
    assert "--different-people" in str(error.value)
    assert not partition_file(workspace).exists()
    assert not (partition_folder(workspace) / "shards").exists()
    made = run(workspace, different_people=True, **one_each)
    assert made.options["different_people"] is True
    check_partition(workspace, made)
    assert run(workspace, datasets=("lits", "busi"), overwrite=True, split={"lits": 1}, val_fraction=0)


def test_data_sets_of_one_collection_share_their_patients(small):
    sets = {"client_train": single(*"abc"), "client_test": single("d")}
    assert run(small(**{"sts-ct": sets, "sts-mri": sets}))


def table(workspace: Path, dataset: str, **patients: str) -> None:
    """Write the private table of a data set: {pseudonym: id}."""
    lines = ["pseudonym,name,patient", *(f"{one},{one},{patient}" for one, patient in patients.items())]
    (workspace / "private").mkdir(exist_ok=True)
    (workspace / "private" / f"{dataset}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_two_spellings_of_an_id_in_two_data_sets_are_found_where_the_sites_tables_exist(small):
    workspace = small(brats={"client_train": single(*"abc")}, lits={"client_train": single(*"xyz")})
    options = {"split": {"brats": 1, "lits": 1}, "overwrite": True}
    run(workspace, **options)
    table(workspace, "brats", a="007", b="Zqxsmith 1", c="9")
    table(workspace, "lits", x="7", y="zqxsmith-01", z="10")
    with pytest.raises(FlamesError, match=r"share 2 patients \(a = x, b = y\)") as error:
        run(workspace, **options)
    assert "smith" not in str(error.value).lower()
    (workspace / "private" / "lits.csv").unlink()
    run(workspace, **options)
    (workspace / "private" / "lits.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    with pytest.raises(FlamesError, match=r"lits\.csv of pseudonyms and patients cannot be read"):
        run(workspace, **options)


@pytest.mark.parametrize(("options", "named"), [({}, "NAME"), ({"datasets": ("busi",)}, "busi")])
def test_without_a_preprocessed_file_the_command_is_named(options, named, tmp_path):
    with pytest.raises(MissingArtifact, match=f"`flames preprocess --dataset {named}`") as missing:
        run(tmp_path, **options)
    assert missing.value.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_preprocessed_data_set_is_rejected(small):
    workspace = small(busi={})
    source(workspace, "otu2d").write_bytes(b"no HDF5 file")
    with pytest.raises(FlamesError, match=r"otu2d\.h5 is damaged or not an HDF5 file; .*`flames preprocess`"):
        run(workspace)


def test_progress_counts_the_clients(small):
    steps: list[tuple[str, int, int]] = []
    config = PartitionConfig(workspace=small(brats={}, busi={}), split={"brats": 2})
    partition(config, lambda *step: steps.append(step))
    assert steps == [("partition", done, 3) for done in (1, 2, 3)]


def test_the_manifest_can_be_read_by_people(small):
    workspace = small(busi={})
    run(workspace, seed=7)
    content = json.loads(partition_file(workspace).read_text())
    assert (content["seed"], content["size"]) == (7, SIZE)
    assert sum(content["clients"][0]["images"].values()) == 7
    assert content["server"][0]["patients"] == {"busi": ["h"]}


def centres(**sets):
    """Return cases of three sites: two of each in every set, except as given."""
    made = {
        own: [
            (f"{own}-{site}-{n}", f"{own}-{site}-{n}", 1, site) for site in ("C1", "C2", "C6") for n in "ab"
        ]
        for own in ("client_train", "client_test", "server_test")
    }
    return {**made, **sets}


def test_a_held_out_site_is_a_test_set_of_the_servers_alone(small):
    workspace = small(lits=centres())
    made = run(workspace, hold_out_site={"LiTS": ("C6",)})
    assert [(client.name, client.site) for client in made.clients] == [("lits-c1", "C1"), ("lits-c2", "C2")]
    (server,) = made.server
    assert server.images == {"lits": 4, "lits@C6": 6}
    assert server.sites == {"lits@C6": "C6"}
    lying = where_cases_lie(workspace, made)
    assert len(lying) == 18
    assert {(case.site == "C6", name == "test/lits@C6") for _, case, _, name in lying} == {
        (True, True),
        (False, False),
    }
    assert read_partition(partition_file(workspace)) == made


def test_the_partition_records_its_options(small):
    near = [("x", "both", 2, "C1"), ("y", "both", 1, "C6"), *single("z"), ("v", "v", 1, "C2")]
    workspace = small(lits=centres(client_test=near), busi={})
    options = {"split": {"lits": 1}, "fold": "2/2", "skew": 2.0, "hold_out_site": {"lits": ["C6"]}}
    made = run(workspace, **options)
    assert made.options == {
        **options,
        "split": {"busi": 1, "lits": 1},
        "val_fraction": 0.1,
        "different_people": False,
    }
    assert made.left_out == {"lits": 2}
    assert made.channels == 1
    assert read_partition(partition_file(workspace)) == made


def test_a_data_set_all_of_whose_sites_are_held_out_has_no_client(small):
    workspace = small(lits=centres(), busi={})
    made = run(workspace, hold_out_site={"lits": ("C1", "C2", "C6")})
    assert [client.name for client in made.clients] == ["busi"]
    assert set(made.server[1].sites) == set(made.server[1].images)
    with pytest.raises(FlamesError, match="no client is left; hold out fewer sites"):
        run(workspace, datasets=("lits",), hold_out_site={"lits": ("C1", "C2", "C6")}, overwrite=True)


def test_folds_test_every_patient_once_and_leave_the_servers_alone(small):
    workspace = small(lits=centres(), busi={})
    tested: Counter[str] = Counter()
    servers = set()
    for k in (1, 2, 3):
        made = run(workspace, fold=f"{k}/3", overwrite=True)
        tested.update(
            f"{client.dataset}/{name}" for client in made.clients for name in client.patients["test"]
        )
        servers.add(json.dumps([server.patients for server in made.server]))
    expected = {
        f"{path.stem}/{case.patient}"
        for path in (workspace / "preprocessed").glob("*.h5")
        for set_name, cases in read_preprocessed_cases(path)[1].items()
        for case in cases
        if set_name != "server_test"
    }
    assert tested == Counter(expected)
    assert len(servers) == 1


def test_a_fold_without_a_patient_to_test_is_rejected(small):
    workspace = small(busi={})
    assert run(workspace, fold="7/9").clients[0].images["test"] == 1
    with pytest.raises(FlamesError, match="fold 8/9 has no patient to test, since no client has enough"):
        run(workspace, fold="8/9", overwrite=True)


def test_patients_of_a_collection_have_one_role_in_all_its_data_sets(small):
    sets = {"client_train": single(*"abcdef"), "client_test": single(*"gh"), "server_test": single("i")}
    workspace = small(**{"sts-ct": sets, "sts-mri": {**sets, "client_train": single(*"bcdefx")}})
    made = run(workspace, split={"sts": 2})
    assert [client.name for client in made.clients] == ["sts-ct-1", "sts-ct-2", "sts-mri-1", "sts-mri-2"]
    shared = set(made.clients[0].patients["train"]) & set(made.clients[2].patients["train"])
    assert shared, "two modalities train on the same people"


def test_a_patient_trained_on_in_one_modality_and_tested_in_another_is_found(small):
    ct = {"client_train": single(*"abc"), "client_test": single("d")}
    mri = {"client_train": single("d", "e", "f"), "client_test": single("g")}
    workspace = small(**{"sts-ct": ct, "sts-mri": mri})
    with pytest.raises(
        FlamesError, match=r"patient sts/d is in shards/sts-ct\.h5:test and in shards/sts-mri\.h5:(train|val)"
    ):
        run(workspace)
    assert not partition_file(workspace).exists()
    small(**{"sts-mri": {**mri, "server_test": [("z", "d", 1)], "client_train": single("e", "f")}})
    with pytest.raises(FlamesError, match=r"split unit sts/d is in .*sts-ct\.h5:test and in .*server-MRI"):
        run(workspace)


def test_verification_reads_the_shards_not_the_plan(small):
    workspace = small(busi={}, otu2d={})
    made = run(workspace)
    verify_partition(partition_folder(workspace), made)
    shutil.copy(
        partition_folder(workspace) / "shards" / "busi.h5",
        partition_folder(workspace) / "shards" / "otu2d.h5",
    )
    with pytest.raises(FlamesError, match=r"patient busi/\w is in shards/busi\.h5:\w+ and in shards/otu2d"):
        verify_partition(partition_folder(workspace), made)


def test_a_data_set_that_no_reader_knows_is_taken_by_its_file_s_name(small):
    workspace = small(**{"sts-ct": {}, "busi": {}})
    assert [client.name for client in run(workspace, datasets=("STS-CT",)).clients] == ["sts-ct"]
    known = (
        "data set 'lung' is not known; preprocessed are busi, sts-ct, and `flames preprocess` reads .*otu2d"
    )
    with pytest.raises(FlamesError, match=known):
        run(workspace, datasets=("lung",), overwrite=True)


def test_data_sets_of_differing_channels_are_rejected(small):
    workspace = small(busi={})
    colour = SetInfo("otu2d", "US", "ovary", SIZE, 255, 3)
    write_noise(source(workspace, "otu2d"), {"client_train": single(*"abc")}, colour)
    with pytest.raises(
        FlamesError, match=r"differ in channels \(busi 1, otu2d 3\); preprocess them with the same --channels"
    ):
        run(workspace)


def test_shards_that_would_overwrite_each_other_are_rejected(small):
    workspace = small(brats={})
    twin = SetInfo("BRATS-1", "CT", "brain", SIZE, 4095)
    write_noise(source(workspace, "BRATS-1"), {"client_train": single(*"xyz")}, twin)
    with pytest.raises(
        FlamesError, match=r"two shards would be called shards/.*; preprocess one with another"
    ):
        run(workspace, split={"brats": 2})


EXPECTED = {
    "brats-1": ["00 02 03", "05", "t2"],
    "brats-2": ["04 06 11", "09", "t0 t4"],
    "brats-3": ["01 07 08", "10", "t1 t3"],
}
"""Patients to train, validate and test on by client, as version 0.1.0 drew them."""


def test_the_same_seed_draws_what_it_always_drew(small):
    sets = {
        "client_train": [(f"{n:02d}", f"{n:02d}", 1 + n * 7 % 4) for n in range(12)],
        "client_test": [(f"t{n}", f"t{n}", 1 + n % 3) for n in range(5)],
    }
    made = run(small(brats=sets), seed=3, val_fraction=0.3)
    drawn = {client.name: [" ".join(own) for own in client.patients.values()] for client in made.clients}
    assert drawn == EXPECTED


@pytest.mark.slow
def test_the_real_data_are_divided_without_a_patient_in_two_sets(real_preprocessed, tmp_path):
    shutil.copytree(real_preprocessed, tmp_path / "preprocessed")
    made = run(tmp_path)
    check_partition(tmp_path, made)
    assert len(made.clients) == 5


@pytest.mark.slow
def test_real_livers_are_divided_by_centre_and_one_held_out(tmp_path):
    raw = {"lits-slices": find_shared("data/lits-slices")}
    preprocess(PreprocessConfig(workspace=tmp_path, raw=raw, size=32), "lits-slices")
    made = run(tmp_path)
    check_partition(tmp_path, made)
    assert [(client.name, client.site) for client in made.clients] == [
        ("lits-slices-c1", "C1"),
        ("lits-slices-c2", "C2"),
    ]
    images = len(where_cases_lie(tmp_path, made))
    held_out = run(tmp_path, hold_out_site={"lits_slices": ("C2",)}, overwrite=True)
    assert [client.name for client in held_out.clients] == ["lits-slices-c1"]
    lying = where_cases_lie(tmp_path, held_out)
    assert {case.site for _, case, _, set_name in lying if set_name == "test/lits-slices@C2"} == {"C2"}
    assert {case.site for _, case, _, set_name in lying if "@" not in set_name} == {"C1"}
    assert len(lying) == images
