import json

import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.store import client_state as module
from flames_cli.store.checkpoint import list_rounds
from flames_cli.store.client_state import (
    STORED_ROUNDS,
    delete_client_state_from,
    load_client_state,
    save_client_state,
)
from tests.support.asserts import assert_same_tree


def kept(value):
    """Return client state of two kinds, with these values."""
    return {
        "control": {"w": np.full((2, 3), value / 3, np.float32), "count": np.array(value)},
        "style": {"z.scale": np.array([value, -value], np.float64)},
    }


def filled(folder, *rounds):
    for round_ in rounds:
        save_client_state(folder, round_, kept(round_))
    return folder


def test_there_is_no_client_state_at_first(tmp_path):
    assert load_client_state(tmp_path / "none", 1) == {}
    delete_client_state_from(tmp_path / "none", 1)
    assert not (tmp_path / "none").exists()


def test_client_state_is_loaded_bit_for_bit(tmp_path):
    assert_same_tree(load_client_state(filled(tmp_path, 1), 2), kept(1))


@pytest.mark.parametrize(("round_", "expected"), [(3, 2), (4, 2), (5, 4), (99, 4)])
def test_the_newest_state_before_the_given_round_is_loaded(round_, expected, tmp_path):
    assert_same_tree(load_client_state(filled(tmp_path, 2, 4), round_), kept(expected))


@pytest.mark.parametrize("round_", [1, 2])
def test_a_round_never_finds_what_it_left_itself_or_later(round_, tmp_path):
    assert load_client_state(filled(tmp_path, 2, 3), round_) == {}


def test_loading_changes_nothing(tmp_path):
    load_client_state(filled(tmp_path, 1, 2, 3), 2)
    assert list_rounds(tmp_path) == [1, 2, 3]


def test_a_federation_that_goes_back_deletes_later_state(tmp_path):
    delete_client_state_from(filled(tmp_path, 1, 2, 3), 2)
    assert list_rounds(tmp_path) == [1]
    save_client_state(tmp_path, 2, kept(20))
    assert_same_tree(load_client_state(tmp_path, 3), kept(20))


def test_only_the_newest_rounds_are_kept(tmp_path):
    filled(tmp_path, *range(1, 7))
    assert list_rounds(tmp_path) == [3, 4, 5, 6]
    assert len(list(tmp_path.iterdir())) == STORED_ROUNDS


def test_saving_a_round_again_replaces_it(tmp_path):
    save_client_state(filled(tmp_path, 1), 1, {"style": kept(7)["style"]})
    assert_same_tree(load_client_state(tmp_path, 2), {"style": kept(7)["style"]})


def test_the_same_state_gives_the_same_bytes(tmp_path):
    one, other = (
        {path.name: path.read_bytes() for path in (filled(tmp_path / name, 1) / "round-00001").iterdir()}
        for name in "ab"
    )
    assert one == other
    assert one.keys() == {"memory.json", "control.safetensors", "style.safetensors"}


@pytest.mark.parametrize("function", ["write_safetensors", "write_json"])
def test_a_failed_save_leaves_the_round_before_unchanged(function, tmp_path, monkeypatch):
    filled(tmp_path, 1)

    def full(path, *rest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, function, full)
    with pytest.raises(FlamesError, match="No space left on device; check space and rights"):
        save_client_state(tmp_path, 2, kept(2))
    assert [path.name for path in tmp_path.iterdir()] == ["round-00001"]
    assert_same_tree(load_client_state(tmp_path, 3), kept(1))


def test_state_that_a_killed_node_left_half_written_is_ignored(tmp_path):
    filled(tmp_path, 1)
    (tmp_path / ".round-00002.tmp").mkdir()
    (tmp_path / ".round-00002.tmp" / "control.safetensors").write_bytes(b"half")
    assert_same_tree(load_client_state(tmp_path, 3), kept(1))
    save_client_state(tmp_path, 2, kept(2))
    assert_same_tree(load_client_state(tmp_path, 3), kept(2))


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def newer(file):
    file.write_text(file.read_text().replace('"version": 1', '"version": 9'))


def without_checksums(file):
    content = json.loads(file.read_text())
    del content["sha256"]
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "spoil", "problem"),
    [
        ("style.safetensors", flip, r"style\.safetensors is missing or damaged"),
        ("control.safetensors", lambda file: file.write_bytes(file.read_bytes()[:9]), "damaged"),
        ("control.safetensors", lambda file: file.unlink(), r"control\.safetensors is missing"),
        ("memory.json", lambda file: file.write_text("{"), "cannot be read as JSON"),
        ("memory.json", lambda file: file.unlink(), "does not exist"),
        ("memory.json", without_checksums, "sha256"),
        ("memory.json", newer, "version 9"),
    ],
)
def test_damaged_state_gives_an_error_with_advice(name, spoil, problem, tmp_path):
    spoil(filled(tmp_path, 1, 2) / "round-00002" / name)
    with pytest.raises(FlamesError, match=rf"round-00002 cannot be read \(.*{problem}.*remove that folder"):
        load_client_state(tmp_path, 3)
    assert_same_tree(load_client_state(tmp_path, 2), kept(1))


def test_later_state_that_cannot_be_deleted_stops_the_round(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    folder = filled(tmp_path, 2)
    monkeypatch.setattr(module, "remove_folder", refuse)
    with pytest.raises(FlamesError, match=r"round-00002 belongs to a round.*Permission denied"):
        delete_client_state_from(folder, 2)
