import json
import re

import numpy as np
import pytest

from flames_cli.core.aggregation import State
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store import checkpoint
from flames_cli.store.checkpoint import list_rounds, load_state, save_state


def weights(value):
    return {
        "z.weight": np.full((2, 3), value, np.float32),
        "a.num_batches_tracked": np.array(int(value)),
        "m.half": np.array([value, -value], np.float16),
    }


def state(round_):
    return State(round_, {"MRI": weights(round_), "US": weights(-round_)}, {"brats-1": weights(0.5 + round_)})


def assert_same(found, expected):
    assert found.round == expected.round
    for ours, theirs in ((found.server, expected.server), (found.personal, expected.personal)):
        assert list(ours) == list(theirs)
        for name, model in theirs.items():
            assert list(ours[name]) == list(model)
            for entry, array in model.items():
                assert ours[name][entry].dtype == array.dtype
                assert ours[name][entry].shape == array.shape
                np.testing.assert_array_equal(ours[name][entry], array)


def save(folder, *rounds, keep=99):
    for round_ in rounds:
        save_state(folder, state(round_), keep)
    return folder / f"round-{rounds[-1]:05d}"


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    assert save(tmp_path, 3) == tmp_path / "round-00003"
    assert_same(load_state(tmp_path), state(3))


def test_a_state_without_personal_models_comes_back(tmp_path):
    plain = State(1, {"all": weights(1)})
    save_state(tmp_path, plain, 1)
    assert_same(load_state(tmp_path), plain)


def test_the_newest_round_is_loaded_unless_another_is_named(tmp_path):
    save(tmp_path, 9, 10, 2)
    assert list_rounds(tmp_path) == [2, 9, 10]
    assert load_state(tmp_path).round == 10
    assert_same(load_state(tmp_path, 9), state(9))


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_only_the_newest_rounds_are_kept(keep, tmp_path):
    save(tmp_path, *range(1, 6), keep=keep)
    assert list_rounds(tmp_path) == list(range(1, 6))[-keep:]
    assert len(list(tmp_path.iterdir())) == keep


def test_the_same_state_gives_the_same_bytes(tmp_path):
    folders = [save(tmp_path / name, 1) for name in ("one", "other")]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert set(files[0]) == {
        "state.json",
        "server-MRI.safetensors",
        "server-US.safetensors",
        "client-brats-1.safetensors",
    }


def test_saving_a_round_again_replaces_it(tmp_path):
    save(tmp_path, 1)
    again = State(1, {"all": weights(7)})
    save_state(tmp_path, again, 1)
    assert_same(load_state(tmp_path), again)


def test_a_save_that_breaks_off_leaves_the_last_round_alone(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    with pytest.raises(FlamesError, match="No space left on device; check space and rights"):
        save_state(tmp_path, state(2), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["round-00001"]
    assert_same(load_state(tmp_path), state(1))


def test_what_a_killed_save_left_is_not_a_checkpoint(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".round-00002.tmp").mkdir()
    (tmp_path / ".round-00002.tmp" / "server-MRI.safetensors").write_bytes(b"half")
    (tmp_path / "notes").mkdir()
    assert list_rounds(tmp_path) == [1]
    save(tmp_path, 2)
    assert_same(load_state(tmp_path), state(2))
    assert not (tmp_path / ".round-00002.tmp").exists()


@pytest.mark.parametrize("name", ["server-MRI.safetensors", "client-brats-1.safetensors"])
def test_one_flipped_bit_is_found_by_its_checksum(name, tmp_path):
    file = save(tmp_path, 1) / name
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(
        FlamesError, match=rf"{re.escape(name)} is missing or damaged \(its checksum differs\)"
    ):
        load_state(tmp_path)


def test_a_file_that_is_gone_is_named(tmp_path):
    (save(tmp_path, 1) / "server-US.safetensors").unlink()
    with pytest.raises(FlamesError, match=r"server-US\.safetensors is missing or damaged"):
        load_state(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "flames-shard"}, "is flames-shard, expected flames-checkpoint"),
        ({"version": 99}, "has version 99 of flames-checkpoint, this release reads 1"),
        ({"sha256": {}}, "lacks entries"),
        ({"server": None}, "lacks entries"),
    ],
)
def test_an_index_that_is_not_ours_is_refused(changes, message, tmp_path):
    index = save(tmp_path, 1) / "state.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **changes}))
    with pytest.raises(FlamesError, match=message):
        load_state(tmp_path)


def test_an_index_cut_short_is_refused(tmp_path):
    index = save(tmp_path, 1) / "state.json"
    index.write_text(index.read_text()[:40])
    with pytest.raises(FlamesError, match="cannot be read as JSON"):
        load_state(tmp_path)


@pytest.mark.parametrize(("folder", "round_"), [("none", None), ("none", 3), ("some", 3)])
def test_a_checkpoint_that_is_not_there_names_its_command(folder, round_, tmp_path):
    save(tmp_path / "some", 1)
    wanted = "checkpoint of round 3" if round_ else "checkpoint"
    with pytest.raises(MissingArtifact, match=f"no {wanted} in .*; make it with `flames federate`"):
        load_state(tmp_path / folder, round_)
