import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from flames_cli.errors import FlamesError
from flames_cli.store import weights as weights_module
from flames_cli.store.weights import hash_weights, read_metadata, read_safetensors, write_safetensors


def sample_weights() -> dict[str, np.ndarray]:
    return {
        "z.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.count": np.array(7, dtype=np.int64),
        "m.empty": np.zeros((0, 3), dtype=np.float16),
        "b.wide": np.linspace(0, 1, 4),
    }


def test_weights_come_back_equal_and_in_order(tmp_path):
    weights = sample_weights()
    write_safetensors(tmp_path / "w.safetensors", weights)
    found = read_safetensors(tmp_path / "w.safetensors")
    assert list(found) == list(weights)
    for name, array in weights.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_arrays_in_any_memory_order_come_back_equal(tmp_path):
    array = np.arange(24.0).reshape(2, 3, 4)
    weights = {"t": array.T, "step": array[:, ::-1], "swapped": array.astype(">f8")}
    write_safetensors(tmp_path / "w.safetensors", weights)
    for name, found in read_safetensors(tmp_path / "w.safetensors").items():
        np.testing.assert_array_equal(found, weights[name])


def test_metadata_comes_back_and_is_empty_by_default(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", sample_weights(), {"format": "x", "größe": "1"})
    write_safetensors(tmp_path / "b.safetensors", sample_weights())
    assert read_metadata(tmp_path / "a.safetensors") == {"format": "x", "größe": "1"}
    assert read_metadata(tmp_path / "b.safetensors") == {}


def test_the_same_weights_give_the_same_bytes_in_another_process(tmp_path):
    code = (
        "import sys, numpy as np, pathlib; from flames_cli.store.weights import write_safetensors as w; "
        "w(pathlib.Path(sys.argv[1]), {c: np.ones(2) for c in 'hgfedc'}, {c: c for c in 'stuvwxyz'})"
    )
    paths = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for path in paths:
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_files_of_other_tools_are_read(tmp_path):
    save_file({"w": np.ones(2)}, tmp_path / "w.safetensors", metadata={"format": "pt"})
    assert list(read_safetensors(tmp_path / "w.safetensors")) == ["w"]
    assert read_metadata(tmp_path / "w.safetensors") == {"format": "pt"}


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "w.safetensors"
    write_safetensors(path, sample_weights())
    before = path.read_bytes()
    with pytest.raises(FlamesError, match="cannot be written"):
        write_safetensors(path, {"text": np.array(["no number"])})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("read", [read_safetensors, read_metadata])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "header", "entry"])
def test_a_damaged_file_is_rejected_in_one_line(tmp_path, read, damage):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, sample_weights())
    whole = path.read_bytes()
    damaged = {
        "empty": b"",
        "cut": whole[:-5],
        "noise": b"\xff" * 99,
        "header": whole[:9] + b"}" + whole[10:],
        "entry": whole.replace(b'\\"metadata\\"', b'\\"metadatA\\"'),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(FlamesError, match="cannot read") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_safetensors, read_metadata])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(FlamesError, match=r"no file .*absent\.safetensors"):
        read(tmp_path / "absent.safetensors")


def test_a_hash_of_weights_depends_on_names_types_shapes_and_values_and_not_on_their_order():
    one = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3)}
    same = {"b": np.array(3), "a": np.asfortranarray(one["a"])}
    others = [
        {**one, "a": one["a"].astype(np.float64)},
        {**one, "a": one["a"].reshape(3, 2)},
        {**one, "a": one["a"] + 1},
        {"c": one["a"], "b": one["b"]},
        {"a": one["a"]},
        {**one, "e": np.zeros((0, 2))},
    ]
    assert hash_weights(same) == hash_weights(one)
    assert hash_weights({**one, "a": one["a"].astype(">f4")}) == hash_weights(one)
    assert len({hash_weights(one), *map(hash_weights, others)}) == 7


def test_weights_have_the_rights_of_other_files(tmp_path):
    write_safetensors(tmp_path / "weights.safetensors", {"a": np.zeros(1, np.float32)})
    (tmp_path / "other").touch()
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


TYPES = [
    *("bool", "uint8", "int8", "uint16", "int16", "float16", "uint32", "int32", "float32"),
    *("complex64", "float64", "int64", "uint64"),
]


@pytest.mark.parametrize("names", [TYPES, TYPES[::-1], ['"quoted"\\\n\x01', "größe", "z 漢字", ""]])
def test_the_bytes_are_those_of_the_library_itself(names, tmp_path):
    weights = {name: np.ones((2, 3), name if name in TYPES else np.float32) for name in names}
    weights |= {"scalar": np.array(7, np.int64), "none": np.zeros((0, 2), np.float16)}
    sha256 = write_safetensors(tmp_path / "ours.safetensors", weights, {"größe": "1"})
    ours = (tmp_path / "ours.safetensors").read_bytes()
    header = json.dumps({"order": list(weights), "metadata": {"größe": "1"}}, sort_keys=True)
    save_file(weights, tmp_path / "theirs.safetensors", metadata={"flames": header})
    assert ours == (tmp_path / "theirs.safetensors").read_bytes()
    assert sha256 == hashlib.sha256(ours).hexdigest()


def test_a_file_longer_than_one_piece_is_written_completely(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_module, "_PIECE", 7)
    sha256 = write_safetensors(tmp_path / "w.safetensors", sample_weights())
    monkeypatch.undo()
    assert write_safetensors(tmp_path / "again.safetensors", sample_weights()) == sha256
    assert (tmp_path / "w.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
