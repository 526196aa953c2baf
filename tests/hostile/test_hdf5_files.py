"""Shards of others: no link out of the file is followed, and no claim allocates."""

import os
import shutil

import h5py
import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.cases import CaseInfo, SetInfo, Spool, encode_chunk
from flames_cli.store.h5 import (
    CLIENT_SETS,
    Selection,
    SpooledCase,
    read_shard_cases,
    read_shard_sets,
    read_shard_summary,
    write_preprocessed,
    write_shard,
)
from tests.support.memory import message_with_little_memory

INFO = SetInfo("brats", "MRI", "brain", 8, 4095)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A sound shard of one case a set."""
    folder = tmp_path_factory.mktemp("shards")
    case = CaseInfo("c", "p", "p", "", 0, (1.0, 1.0), 1)
    with Spool(folder) as spool:
        image, mask = (spool.add(encode_chunk(np.ones((8, 8), kind))) for kind in (np.uint16, np.uint8))
        cases = [SpooledCase(case, image, mask)]
        sets = {"client_train": cases, "client_val": [], "client_test": [], "server_test": []}
        write_preprocessed(folder / "brats.h5", INFO, sets, spool)
    chosen = Selection(folder / "brats.h5", {"client_train": [0]})
    write_shard(folder / "shard.h5", "brats", "MRI", dict.fromkeys(CLIENT_SETS, chosen))
    return folder / "shard.h5"


def read(path):
    return read_shard_summary(path), read_shard_cases(path), read_shard_sets(path, "train")


def replace(file, name, data=None, **options):
    del file[name]
    file.create_dataset(name, data=data, **options)


def link_out(file):
    del file["train"]
    file["train"] = h5py.ExternalLink("other.h5", "/train")


def link_to_passwd(file):
    file["train"]["secret"] = h5py.ExternalLink("/etc/passwd", "/")


def link_within(file):
    del file["train"]["image"]
    file["train"]["image"] = h5py.SoftLink("/test/image")


def soft_loop(file):
    file["loop"] = h5py.SoftLink("/loop")


def hard_loop(file):
    file["test"]["again"] = file["/"]


def two_names(file):
    file["other"] = file["train"]


def deep(file):
    file.create_group("/".join("abcdefgh"))


def stored_elsewhere(file):
    size = os.stat("/etc/passwd").st_size  # noqa: PTH116 (as HDF5 is told)
    replace(file, "train/image", shape=(1, 8, 8), dtype="u2", external=[("/etc/passwd", 0, min(size, 128))])


def virtual(file):
    layout = h5py.VirtualLayout((1, 8, 8), "u2")
    layout[...] = h5py.VirtualSource("other.h5", "/train/image", (1, 8, 8))
    del file["train/image"]
    file.create_virtual_dataset("train/image", layout)


def objects(file):
    replace(file, "train/patient", data=np.array(["p"], dtype=object), dtype=h5py.string_dtype())


def references(file):
    replace(file, "train/slice", data=np.array([file.ref], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)


def compound(file):
    replace(file, "train/slice", data=np.zeros(1, [("a", "i4")]))


def huge_and_empty(file):
    replace(file, "train/image", shape=(2**40, 8, 8), dtype="u2", chunks=(1, 8, 8), compression="gzip")


def huge_slices(file):
    replace(file, "train/slice", shape=(2**40,), dtype="i4", chunks=(1,))


def huge_chunk(file):
    options = {"maxshape": (None, None, None), "chunks": (2**10, 2**10, 2**8), "compression": "gzip"}
    replace(file, "train/image", shape=(1, 8, 8), dtype="u2", **options)


def bomb(file):
    zeros = np.zeros((1, 2**13, 2**13), np.uint16)
    replace(file, "train/image", data=zeros, chunks=zeros.shape, compression="gzip")


def unknown_filter(file):
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((1,))
    how.set_filter(h5py.h5z.FILTER_FLETCHER32)
    del file["train/slice"]
    h5py.h5d.create(file["train"].id, b"slice", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((1,)), how)


def dataset_for_group(file):
    replace(file, "train", data=np.zeros(3))


def group_for_dataset(file):
    del file["train/image"]
    file.create_group("train/image")


def texts_for_numbers(file):
    replace(file, "train/slice", data=np.array([b"x"]))


def fewer_cases(file):
    replace(file, "train/slice", data=np.zeros(0, np.int32))


def other_images(file):
    replace(file, "train/image", data=np.zeros((1, 9, 9), np.uint16))


def no_utf8(file):
    replace(file, "train/patient", data=np.array([b"\xff\xfe"]))


ATTRIBUTES = {
    "size": (-1, 0, 2**62, 8.5, "8", [8, 8], np.nan, h5py.Empty("i8")),
    "channels": (2, 2**31, "x"),
    "max_value": (0, -5, "x"),
    "dataset": (5, [b"a", b"b"], h5py.Empty("S1")),
    "small": ("", "area", "area:nan", "area:1e999", ":" * 1000, 5),
}

ATTACKS = (
    *(link_out, link_to_passwd, link_within, soft_loop, hard_loop, two_names, deep),
    *(stored_elsewhere, virtual, objects, references, compound, unknown_filter),
    *(huge_and_empty, huge_slices, huge_chunk, bomb),
    *(dataset_for_group, group_for_dataset, texts_for_numbers, fewer_cases, other_images, no_utf8),
)


def refusal(path):
    with pytest.raises(FlamesError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shard_of_these_tests_is_sound(good):
    summary, cases, sets = read(good)
    assert summary.images == {"train": 1, "val": 1, "test": 1}
    assert len(cases["train"][1]) == len(sets[0]) == 1


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_what_flames_never_writes_is_refused(attack, good, tmp_path):
    path = tmp_path / "shard.h5"
    shutil.copy(good, path)
    shutil.copy(good, tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        attack(file)
    told = message_with_little_memory(lambda: read(path))
    assert told.startswith("FlamesError")
    assert "is damaged or not an HDF5 file" in refusal(path)


def test_a_link_to_another_shard_would_be_followed(good, tmp_path):
    """What the test above is against: HDF5 follows links by itself."""
    shutil.copy(good, tmp_path / "other.h5")
    shutil.copy(good, tmp_path / "shard.h5")
    with h5py.File(tmp_path / "shard.h5", "r+") as file:
        link_out(file)
    with h5py.File(tmp_path / "shard.h5") as file:
        assert file["train/image"].shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ATTRIBUTES.items() for value in values]
)
def test_attributes_of_other_kinds_are_refused(name, value, good, tmp_path):
    path = tmp_path / "shard.h5"
    shutil.copy(good, path)
    with h5py.File(path, "r+") as file:
        file["train"].attrs[name] = value
    refusal(path)


@pytest.mark.parametrize("value", [[1, 2], 3.5, "\x1b[31m" * 10_000])
def test_a_format_of_another_kind_is_refused_in_a_short_line(value, good, tmp_path):
    path = tmp_path / "shard.h5"
    shutil.copy(good, path)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = value
    assert len(refusal(path)) < 500


def test_a_pipe_is_no_shard(tmp_path):
    os.mkfifo(tmp_path / "shard.h5")
    refusal(tmp_path / "shard.h5")
