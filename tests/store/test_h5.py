import errno
from pathlib import Path

import h5py
import numpy as np
import pytest

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.preparation import Preparation
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.splits import SETS
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.cases import SetInfo, Spool, encode_chunk
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import (
    CLIENT_SETS,
    Selection,
    SpooledCase,
    open_checked,
    read_preprocessed_cases,
    read_shard_cases,
    read_shard_sets,
    read_shard_summary,
    write_collection,
    write_preprocessed,
    write_shard,
)
from flames_cli.store.schema import PREPROCESSED, SHARD
from tests.support.datasets import write_noise

BUSI = SetInfo("busi", "US", "breast", 6, 255)
OTU = SetInfo("otu2d", "US", "ovary", 6, 255)
RULE = IntensityRule(None, 99.0, "foreground")
BRATS = SetInfo("brats", "MRI", "brain", 6, 4095, intensities=RULE)
POLYPS = SetInfo("kvasir", "Endoscopy", "colon", 6, 255, 3, "polyps", SmallLesionRule("box", 5, 2))
MEMBERS = {
    "client_train": [("a", "a", 2), ("b", "b", 1)],
    "client_test": [("c", "c", 1)],
    "server_test": [("d", "d", 1), ("e", "d", 2)],
}


@pytest.fixture
def source(tmp_path):
    """Return a preprocessed file, and the cases in it."""
    path = tmp_path / "preprocessed" / "brats.h5"
    return path, write_noise(path, MEMBERS, BRATS)


@pytest.fixture
def shard(source, tmp_path):
    path = tmp_path / "shards" / "brats.h5"
    chosen = {"train": ("client_train", [0, 2]), "val": ("client_train", [1]), "test": ("client_test", [0])}
    sets = {name: Selection(source[0], {origin: rows}) for name, (origin, rows) in chosen.items()}
    write_shard(path, "brats", "MRI", sets)
    return path


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_preprocessed_file_reads_back_as_it_was_written(source):
    path, drawn = source
    info, sets = read_preprocessed_cases(path)
    assert info == BRATS
    assert list(sets) == list(SETS)
    assert [case for cases in sets.values() for case in cases] == [case for case, _, _ in drawn]
    assert [case.split_unit for case in sets["server_test"]] == ["d", "d", "d"]


def test_a_set_may_be_empty(tmp_path):
    write_noise(tmp_path / "busi.h5", {"client_train": [("a", "a", 1)]}, BUSI)
    _, sets = read_preprocessed_cases(tmp_path / "busi.h5")
    assert {name: len(cases) for name, cases in sets.items()} == {
        "client_train": 1,
        "client_val": 0,
        "client_test": 0,
        "server_test": 0,
    }


def test_the_same_cases_give_the_same_bytes(source, tmp_path):
    write_noise(tmp_path / "again.h5", MEMBERS, BRATS)
    assert hash_file(tmp_path / "again.h5") == hash_file(source[0])


def test_files_keep_no_time(source):
    with h5py.File(source[0]) as file:
        for name in ("image", "mask", "patient"):
            assert h5py.h5g.get_objinfo(file["client_train"][name].id).mtime == 0


def test_a_shard_contains_the_chosen_cases_in_their_order(shard, source):
    drawn = source[1]
    (train,) = read_shard_sets(shard, "train")
    assert train.info == BRATS
    assert train.cases == [drawn[0][0], drawn[2][0]]
    np.testing.assert_array_equal(train.images, [drawn[0][1], drawn[2][1]])
    np.testing.assert_array_equal(train.masks, [drawn[0][2], drawn[2][2]])
    assert train.images.dtype == np.uint16


def test_a_shards_summary_needs_no_pixels(shard):
    summary = read_shard_summary(shard)
    assert (summary.name, summary.modality, summary.organ, summary.size) == ("brats", "MRI", "brain", 6)
    assert summary.channels == 1
    assert summary.images == {"train": 2, "val": 1, "test": 1}
    assert summary.columns == ()
    assert summary.preparation == Preparation((RULE,), (), ("paper",))


def test_a_shards_summary_names_the_kept_columns(source, shard):
    with h5py.File(source[0], "r+") as file:
        texts = [b'{"age": "50", "sex": ""}', b'{"age": ""}', b"{}"]
        file["client_train"]["extra"] = np.array(texts)
    sets = {name: Selection(source[0], {"client_train": [0, 1, 2]}) for name in ("train", "val", "test")}
    write_shard(shard, "brats", "MRI", sets)
    assert read_shard_summary(shard).columns == ("age", "sex")


def test_the_images_of_a_summary_are_the_selected_ones(source, tmp_path):
    with h5py.File(source[0], "r+") as file:
        file["client_train"]["selected"][...] = [1, 0, 1]
    sets = {name: Selection(source[0], {"client_train": [0, 1, 2]}) for name in ("train", "val", "test")}
    path = tmp_path / "shard.h5"
    write_shard(path, "brats", "MRI", sets)
    assert read_shard_summary(path).images == {"train": 2, "val": 2, "test": 2}
    assert [len(one) for one in read_shard_sets(path, "test")] == [2]
    assert [len(one) for one in read_shard_sets(path, "test", complete=True)] == [3]


def test_a_shard_of_colour_images_contains_the_written_pixels(tmp_path):
    drawn = write_noise(tmp_path / "kvasir.h5", MEMBERS, POLYPS)
    chosen = {name: Selection(tmp_path / "kvasir.h5", {"client_train": [2, 0]}) for name in CLIENT_SETS}
    write_shard(tmp_path / "shard.h5", "kvasir", "Endoscopy", chosen)
    (train,) = read_shard_sets(tmp_path / "shard.h5", "train")
    assert train.info == POLYPS
    np.testing.assert_array_equal(train.images, [drawn[2][1], drawn[0][1]])
    np.testing.assert_array_equal(train.masks, [drawn[2][2], drawn[0][2]])
    assert read_shard_summary(tmp_path / "shard.h5").channels == 3


def test_a_server_shard_contains_a_set_for_each_of_its_data_sets(tmp_path):
    files = {}
    for info in (OTU, BUSI):
        files[info.dataset] = tmp_path / f"{info.dataset}.h5"
        write_noise(files[info.dataset], MEMBERS, info)
    path = tmp_path / "server-US.h5"
    selections = {f"test/{name}": Selection(file, {"server_test": range(3)}) for name, file in files.items()}
    write_shard(path, "server-US", "US", selections)
    sets = read_shard_sets(path, "test")
    assert [one.info for one in sets] == [BUSI, OTU]
    assert [len(one) for one in sets] == [3, 3]
    cases = read_shard_cases(path)
    assert list(cases) == ["test/busi", "test/otu2d"]
    assert cases["test/otu2d"] == (OTU, sets[1].cases)


def test_the_cases_of_a_shard_read_without_pixels(shard, source):
    cases = read_shard_cases(shard)
    assert {name: [case.case for case in found] for name, (_, found) in cases.items()} == {
        "train": [source[1][0][0].case, source[1][2][0].case],
        "val": [source[1][1][0].case],
        "test": [source[1][3][0].case],
    }


@pytest.mark.parametrize(("expected", "command"), [(PREPROCESSED, "preprocess"), (SHARD, "partition")])
def test_a_missing_file_names_the_command_that_makes_it(expected, command, tmp_path):
    with (
        pytest.raises(
            MissingArtifact, match=rf"gone\.h5 does not exist; make it with `flames {command}`"
        ) as missing,
        open_checked(tmp_path / "gone.h5", expected),
    ):
        pass
    assert missing.value.exit_code == 3


def test_a_file_of_another_format_is_rejected(shard, source):
    with pytest.raises(
        FlamesError, match="is flames-shard, expected flames-preprocessed; run `flames preprocess`"
    ):
        read_preprocessed_cases(shard)
    with pytest.raises(
        FlamesError, match="is flames-preprocessed, expected flames-shard; run `flames partition`"
    ):
        read_shard_cases(source[0])


def test_an_hdf5_file_of_another_program_is_rejected(tmp_path):
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(FlamesError, match="is not a FLAMES file"):
        read_preprocessed_cases(tmp_path / "a.h5")


def test_another_version_is_rejected_with_advice(shard):
    with h5py.File(shard, "r+") as file:
        file.attrs["version"] = 7
    with pytest.raises(FlamesError, match=r"has version 7 of flames-shard, .*; run `flames partition` again"):
        read_shard_summary(shard)


@pytest.mark.parametrize("content", [b"", b"no HDF5 file at all", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_a_file_that_is_not_hdf5_is_rejected_with_the_command(content, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(
        FlamesError, match=r"a\.h5 is damaged or not an HDF5 file; make it again with `flames preprocess`"
    ):
        read_preprocessed_cases(path)


def test_a_file_cut_short_anywhere_is_rejected(source):
    path = source[0]
    sound = path.read_bytes()
    for length in range(0, len(sound), len(sound) // 40):
        path.write_bytes(sound[:length])
        with pytest.raises(FlamesError, match="is damaged"):
            read_preprocessed_cases(path)


@pytest.mark.parametrize("missing", ["client_test", "client_train/patient", "client_train/image"])
def test_a_shard_cannot_be_made_from_a_file_with_a_missing_part(missing, source, tmp_path):
    with h5py.File(source[0], "r+") as file:
        del file[missing]
    chosen = {name: Selection(source[0], {name: [0]}) for name in ("client_train", "client_test")}
    with pytest.raises(FlamesError, match=r"brats\.h5 is damaged"):
        write_shard(tmp_path / "shards" / "a.h5", "a", "MRI", chosen)
    assert files_in(tmp_path) == ["brats.h5"]


def test_damaged_pixels_are_seen_when_they_are_read(shard, source):
    sound, chunk = shard.read_bytes(), encode_chunk(source[1][2][1])
    assert sound.count(chunk) == 1
    middle = sound.index(chunk) + len(chunk) // 2
    shard.write_bytes(sound[:middle] + bytes([sound[middle] ^ 0xFF]) + sound[middle + 1 :])
    with pytest.raises(FlamesError, match="is damaged"):
        read_shard_sets(shard, "train")


def test_damaged_names_are_seen(shard):
    shard.write_bytes(shard.read_bytes().replace(b"client_train/b/0", b"client_train/\xff/0"))
    with pytest.raises(FlamesError, match="is damaged"):
        read_shard_cases(shard)


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(source, tmp_path):
    path, drawn = source
    before = hash_file(path)
    with Spool() as spool:
        chunk = spool.add(encode_chunk(drawn[0][1]))
        sound, broken = SpooledCase(drawn[0][0], chunk, chunk), SpooledCase(drawn[1][0], chunk, 99)
        with pytest.raises(IndexError):
            write_preprocessed(path, BRATS, {name: [sound, broken] for name in SETS}, spool)
    assert hash_file(path) == before
    assert files_in(tmp_path) == ["brats.h5"]


def test_a_shard_of_a_missing_source_leaves_nothing(tmp_path):
    with pytest.raises(MissingArtifact, match="flames preprocess"):
        write_shard(
            tmp_path / "a.h5", "a", "US", {"train": Selection(tmp_path / "gone.h5", {"client_train": [0]})}
        )
    assert files_in(tmp_path) == []


def test_a_hash_is_of_the_files_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_of_data_sets_that_were_split_together_all_are_written_or_none(tmp_path):
    kept = tmp_path / "ct.h5"
    kept.write_bytes(b"an older one")
    with Spool() as spool:
        sets = {name: [] for name in SETS}
        files = {kept: (BUSI, sets), tmp_path / "us.h5": (OTU, {"client_train": []})}
        with pytest.raises(KeyError):
            write_collection(files, spool)
    assert files_in(tmp_path) == ["ct.h5"]
    assert kept.read_bytes() == b"an older one"


def test_a_disk_that_fills_up_as_a_file_is_closed_is_reported_in_one_line(monkeypatch, tmp_path):
    def fail(*_):
        raise RuntimeError(f"Can't decrement id ref count (unable to extend, errno = {errno.ENOSPC}, x)")

    monkeypatch.setattr(h5py.File, "__exit__", fail)
    with Spool() as spool, pytest.raises(FlamesError, match=r"us.h5 cannot be written: No space left"):
        write_preprocessed(tmp_path / "us.h5", OTU, {name: [] for name in SETS}, spool)
    assert files_in(tmp_path) == []


def test_a_data_set_may_be_called_image(tmp_path):
    drawn = write_noise(tmp_path / "image.h5", MEMBERS, SetInfo("image", "US", "breast", 6, 255))
    write_shard(
        tmp_path / "s.h5",
        "server",
        "US",
        {"test/image": Selection(tmp_path / "image.h5", {"server_test": [0]})},
    )
    assert [case for _, cases in read_shard_cases(tmp_path / "s.h5").values() for case in cases] == [
        drawn[4][0]
    ]
    assert [one.cases for one in read_shard_sets(tmp_path / "s.h5", "test")] == [[drawn[4][0]]]
