import json
from dataclasses import replace

import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store import schema
from flames_cli.store.partition import (
    ClientEntry,
    Partition,
    ServerEntry,
    checked_shard,
    read_partition,
    write_partition,
)
from flames_cli.store.workspace import partition_folder

CLIENT = ClientEntry(
    name="busi",
    dataset="busi",
    modality="US",
    organ="breast",
    shard="shards/busi.h5",
    images={"train": 2, "val": 1, "test": 1},
    patients={"train": ["benign (1)", "benign (2)"], "val": ["benign (3)"], "test": ["malignant (1)"]},
)
SERVER = ServerEntry("US", "shards/server-US.h5", {"busi": "breast"}, {"busi": 1}, {"busi": ["benign (9)"]})
PARTITION = Partition(seed=3, size=64, clients=[CLIENT], server=[SERVER])


@pytest.fixture
def path(tmp_path):
    write_partition(tmp_path / "partition.json", PARTITION)
    return tmp_path / "partition.json"


def change(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_a_partition_reads_back_as_it_was_written(path):
    assert read_partition(path) == PARTITION


def test_the_file_begins_with_its_format(path):
    content = json.loads(path.read_text())
    assert list(content)[:2] == ["format", "version"]
    assert (content["format"], content["version"]) == ("flames-partition", 3)


def test_modalities_are_in_the_order_of_their_first_client():
    clients = [replace(CLIENT, modality=modality) for modality in ("US", "MRI", "US", "CT", "MRI")]
    assert replace(PARTITION, clients=clients).modalities == ["US", "MRI", "CT"]


def test_a_missing_partition_names_its_command(tmp_path):
    with pytest.raises(
        MissingArtifact, match=r"partition\.json does not exist; make it with `flames partition`"
    ):
        read_partition(tmp_path / "partition.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format": NaN', b"not json"])
def test_invalid_json_is_rejected_with_the_command(content, path):
    path.write_bytes(content)
    with pytest.raises(FlamesError, match="cannot be read as JSON; make it again with `flames partition`"):
        read_partition(path)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"flames-partition"'])
def test_json_that_is_not_an_object_is_rejected(content, path):
    path.write_text(content)
    with pytest.raises(FlamesError, match="contains no JSON object"):
        schema.read_json(path, schema.PARTITION)


def test_another_format_or_version_is_rejected(path):
    change(path, version=1)
    with pytest.raises(FlamesError, match="has version 1 of flames-partition"):
        read_partition(path)
    change(path, format="flames-evaluation")
    with pytest.raises(FlamesError, match="is flames-evaluation, expected flames-partition"):
        read_partition(path)


@pytest.mark.parametrize("entry", ["seed", "size", "clients", "server"])
def test_a_partition_with_a_missing_entry_is_rejected(entry, path):
    content = json.loads(path.read_text())
    del content[entry]
    path.write_text(json.dumps(content))
    with pytest.raises(
        FlamesError, match=f"has missing entries.*{entry}.*make it again with `flames partition`"
    ):
        read_partition(path)


@pytest.mark.parametrize("clients", [[{"name": "busi"}], [{"stranger": 1}], ["busi"], 3, None])
def test_clients_in_another_form_are_rejected(clients, path):
    change(path, clients=clients)
    with pytest.raises(FlamesError, match="make it again with `flames partition`"):
        read_partition(path)


def test_a_changed_shard_is_rejected(workspace):
    folder = partition_folder(workspace())
    entry = read_partition(folder / "partition.json").clients[0]
    shard = folder / entry.shard
    assert checked_shard(folder, entry) == shard
    shard.write_bytes(shard.read_bytes() + b"\0")
    with pytest.raises(FlamesError, match=r"has changed since `flames partition` wrote it.*--overwrite"):
        checked_shard(folder, entry)


def test_a_missing_shard_names_the_command(workspace):
    folder = partition_folder(workspace())
    entry = read_partition(folder / "partition.json").server[0]
    (folder / entry.shard).unlink()
    with pytest.raises(MissingArtifact, match="flames partition"):
        checked_shard(folder, entry)
