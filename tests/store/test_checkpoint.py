import errno
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flames_cli.core.federated.aggregation import apply_round
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.choice import Preference
from flames_cli.core.federated.final_statistics import FinalStatistics
from flames_cli.core.federated.reports import Entries, Report, State
from flames_cli.core.federated.shelf import ClientModels
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store import checkpoint
from flames_cli.store.checkpoint import (
    DamagedCheckpoint,
    list_rounds,
    load_newest_complete,
    load_state,
    save_state,
    save_statistics,
    set_aside,
)
from flames_cli.store.checkpoint_files import LastFiles
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.files.names import safe_name
from flames_cli.store.spool import Spool, StoredModel
from tests.support.asserts import assert_same_state


def weights(value):
    return {
        "z.weight": np.full((2, 3), value, np.float32),
        "a.num_batches_tracked": np.array(int(value)),
        "m.half": np.array([value, -value], np.float16),
    }


def state(round_):
    return State(round_, {"MRI": weights(round_), "US": weights(-round_)}, {"brats-1": weights(0.5 + round_)})


def save(folder, *rounds, keep=99):
    for round_ in rounds:
        save_state(folder, state(round_), keep)
    return folder / f"round-{rounds[-1]:05d}"


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    assert save(tmp_path, 3) == tmp_path / "round-00003"
    assert_same_state(load_state(tmp_path), state(3))


def test_a_state_without_personal_models_comes_back(tmp_path):
    plain = State(1, {"all": weights(1)})
    save_state(tmp_path, plain, 1)
    assert_same_state(load_state(tmp_path), plain)


def test_the_newest_round_is_loaded_unless_another_is_named(tmp_path):
    save(tmp_path, 9, 10, 2)
    assert list_rounds(tmp_path) == [2, 9, 10]
    assert load_state(tmp_path).round == 10
    assert_same_state(load_state(tmp_path, 9), state(9))


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
    assert_same_state(load_state(tmp_path), again)


def test_a_save_that_breaks_off_leaves_the_last_round_alone(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    with pytest.raises(FlamesError, match="No space left on device; check space and rights"):
        save_state(tmp_path, state(2), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["round-00001"]
    assert_same_state(load_state(tmp_path), state(1))


def test_what_a_killed_save_left_is_not_a_checkpoint(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".round-00002.tmp").mkdir()
    (tmp_path / ".round-00002.tmp" / "server-MRI.safetensors").write_bytes(b"half")
    (tmp_path / "notes").mkdir()
    assert list_rounds(tmp_path) == [1]
    save(tmp_path, 2)
    assert_same_state(load_state(tmp_path), state(2))
    assert not (tmp_path / ".round-00002.tmp").exists()


def flip(file, bit=-8):
    """Flip one bit, by default of the last byte."""
    damaged = bytearray(file.read_bytes())
    damaged[bit // 8] ^= 1 << bit % 8
    file.write_bytes(damaged)


def change(**entries):
    """Return change(server=None): an index with other entries (None: without), and a checksum that fits
    it."""

    def write(file):
        content = {**json.loads(file.read_text()), **entries}
        del content["index_sha256"]
        file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return write


def cut(file):
    file.write_bytes(file.read_bytes()[:40])


def garble(file):
    file.write_bytes(b"\xff\x00 no JSON")


DAMAGE = [
    ("server-MRI.safetensors", flip, r"the checksum of server-MRI\.safetensors differs"),
    ("client-brats-1.safetensors", flip, r"the checksum of client-brats-1\.safetensors differs"),
    ("server-US.safetensors", cut, r"the checksum of server-US\.safetensors differs"),
    ("server-US.safetensors", Path.unlink, r"server-US\.safetensors is missing"),
    ("state.json", Path.unlink, r"state\.json is missing"),
    ("state.json", cut, r"state\.json cannot be read as JSON"),
    ("state.json", garble, r"state\.json cannot be read as JSON"),
    ("state.json", lambda file: file.write_text("[]"), r"state\.json is not of flames-checkpoint"),
    ("state.json", change(format="flames-shard"), r"state\.json is not of flames-checkpoint"),
    ("state.json", change(sha256={}), r"state\.json has missing entries"),
    ("state.json", change(server=None), r"state\.json has missing entries"),
    ("state.json", change(server={"MRI": 3}), r"state\.json has missing entries"),
    ("state.json", change(round=8), r"state\.json is of round 8"),
    (
        "state.json",
        change(server={"MRI": "../../x.safetensors"}),
        r"names '\.\./\.\./x\.safetensors', which is no",
    ),
    ("state.json", change(server={"MRI": "/x.safetensors"}), r"names '/x\.safetensors', which is no"),
    ("state.json", change(personal={"a": "server-MRI"}), r"names 'server-MRI', which is no"),
]


@pytest.mark.parametrize(("name", "spoil", "problem"), DAMAGE)
def test_damage_is_reported_with_advice_and_the_round_before_is_loaded(name, spoil, problem, tmp_path):
    folder = save(tmp_path, 1, 2)
    spoil(folder / name)
    with pytest.raises(
        DamagedCheckpoint, match=rf"{folder} is damaged \(.*{problem}.*`flames federate` again"
    ):
        load_state(tmp_path)
    found, damaged = load_newest_complete(tmp_path)
    assert_same_state(found, state(1))
    assert [one.round_folder for one in damaged] == [folder]
    assert list_rounds(tmp_path) == [1, 2], "whoever asked decides what becomes of it"


def test_no_bit_of_the_index_that_flips_changes_what_is_read(tmp_path):
    index = save(tmp_path, 1) / "state.json"
    whole, refused = index.read_bytes(), 0
    for bit in range(0, 8 * len(whole), 23):
        flip(index, bit)
        try:
            assert_same_state(load_state(tmp_path), state(1))  # a bit of the checksum's own name
        except FlamesError:
            refused += 1
        index.write_bytes(whole)
    assert refused > 0.95 * 8 * len(whole) / 23


def test_a_checkpoint_of_a_release_that_did_not_seal_its_index_is_read(tmp_path):
    change()(save(tmp_path, 1) / "state.json")
    assert_same_state(load_state(tmp_path), state(1))


def test_another_version_is_no_damage(tmp_path):
    change(version=99)(save(tmp_path, 1, 2) / "state.json")
    with pytest.raises(FlamesError, match="has version 99 of flames-checkpoint, this release reads 6"):
        load_newest_complete(tmp_path)


def test_a_file_that_may_not_be_read_is_no_damage_but_a_disk_that_fails_is(tmp_path, monkeypatch):
    save(tmp_path, 1, 2)

    def fail(number):
        def read(path):
            if path.parent.name == "round-00002":
                raise OSError(number, "…")
            return hash_file(path)

        monkeypatch.setattr(checkpoint, "hash_file", read)

    fail(errno.EACCES)
    with pytest.raises(FlamesError, match="cannot be read: Permission denied; check its rights"):
        load_newest_complete(tmp_path)
    fail(errno.EIO)
    assert load_newest_complete(tmp_path)[0].round == 1


def test_if_all_are_damaged_one_line_reports_it_and_nothing_is_changed(tmp_path):
    for round_ in (1, 2):
        flip(save(tmp_path, round_) / "server-MRI.safetensors")
    with pytest.raises(
        FlamesError, match=r"no checkpoint in .* is complete \(round-00002: the checksum of .*--fresh"
    ):
        load_newest_complete(tmp_path)
    assert list_rounds(tmp_path) == [1, 2]


def test_what_is_set_aside_is_met_no_more(tmp_path):
    for _ in range(2):
        aside = set_aside(save(tmp_path, 1, 2))
    assert aside == tmp_path / "round-00002.damaged"
    assert (aside / "state.json").is_file()
    assert list_rounds(tmp_path) == [1]
    save(tmp_path, 3, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-00002.damaged", "round-00003"]


def test_rounds_beyond_five_digits_are_rounds(tmp_path):
    save_state(tmp_path, State(99_999, {"all": weights(1)}), 1)
    save_state(tmp_path, State(100_000, {"all": weights(2)}), 1)
    assert list_rounds(tmp_path) == [100_000]
    assert load_state(tmp_path).round == 100_000


@pytest.mark.parametrize(("folder", "round_"), [("none", None), ("none", 3), ("some", 3)])
def test_a_checkpoint_that_is_not_there_names_its_command(folder, round_, tmp_path):
    save(tmp_path / "some", 1)
    wanted = "checkpoint of round 3" if round_ else "checkpoint"
    with pytest.raises(MissingArtifact, match=f"no {wanted} in .*; make it with `flames federate`"):
        load_state(tmp_path / folder, round_)


def remembering(round_):
    memory = {
        "MRI": {"adam_m": weights(1e-9), "adam_v": weights(round_)},
        "US": {"control": weights(-round_)},
    }
    styles = {"brats-1": weights(3), "busi-1": weights(4)}
    return replace(state(round_), optimiser_state=memory, styles=styles)


def test_optimiser_state_is_restored(tmp_path):
    save_state(tmp_path, remembering(3), 2)
    assert_same_state(load_state(tmp_path), remembering(3))


def test_a_client_without_entries_of_its_own_is_restored(tmp_path):
    bare = State(1, {"all": weights(1)}, {"one": {}}, {"all": {"momentum": {}}}, {"one": {}})
    save_state(tmp_path, bare, 1)
    assert_same_state(load_state(tmp_path), bare)


NAMES = ["PET/CT", "PET-CT", "PET%2FCT", "a+b", "a", ".", "..", "%2E.", "../../out", "T2 FLAIR", "Ödem"]
NAMES += ["a\\b", "c:d"]


def test_every_name_gives_a_different_file_in_its_folder(tmp_path):
    by_name = {name: weights(number) for number, name in enumerate(NAMES)}
    by_kind = {name: {"b+c": weights(number), "c": weights(-number)} for number, name in enumerate(NAMES)}
    odd = State(1, by_name, by_name, by_kind, by_name)
    folder = save_state(tmp_path / "here", odd, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == [folder.name]
    assert len(list(folder.iterdir())) == 5 * len(NAMES) + 1
    assert all(path.is_file() and re.fullmatch(r"[A-Za-z0-9._%+ -]+", path.name) for path in folder.iterdir())
    assert_same_state(load_state(tmp_path / "here"), odd)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_a_different_folder_inside_another(name):
    safe = Path("here") / safe_name(name)
    assert safe.parent == Path("here")
    assert safe.name not in ("", ".", "..")
    assert [other for other in NAMES if safe_name(other) == safe.name] == [name]


@pytest.mark.parametrize("name", ["memory-MRI+adam_v", "style-brats-1"])
def test_damaged_optimiser_state_is_found_by_its_checksum(name, tmp_path):
    file = save_state(tmp_path, remembering(1), 1) / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedCheckpoint, match=rf"the checksum of {re.escape(file.name)} differs"):
        load_state(tmp_path)


def test_a_round_continues_from_a_checkpoint_bit_for_bit(tmp_path):
    algorithm = Algorithm(local_update="scaffold", groups="all", blend="mean", server="adam")
    entries = Entries(frozenset({"z.weight"}), frozenset())

    def round_of(before):
        control = {"z.weight": np.full((2, 3), 1 / 3, np.float32)}
        reports = [
            Report(name, "MRI", weights(value), 7, control=control) for name, value in (("a", 1), ("b", 3))
        ]
        return apply_round(before, reports, algorithm, entries, {"all": 3}).state

    middle = round_of(State(0, {"all": weights(0)}))
    save_state(tmp_path, middle, 1)
    assert_same_state(round_of(load_state(tmp_path)), round_of(middle))


def test_releases_are_stored_and_a_checkpoint_of_an_earlier_version_has_none(tmp_path):
    save_state(tmp_path, State(3, {"all": weights(1)}, releases=4), keep=1)
    assert load_state(tmp_path).releases == 4
    index = tmp_path / "round-00003" / "state.json"
    content = json.loads(index.read_text())
    del content["releases"], content["index_sha256"]  # earlier releases wrote neither
    index.write_text(json.dumps(content))
    assert load_state(tmp_path).releases == 0


def test_the_preferences_of_clients_that_choose_come_back(tmp_path):
    chosen = replace(state(2), preferences={"brats-1": Preference(7, 2, 1.7, {"own": 0.1 / 3})})
    save_state(tmp_path, chosen, 1)
    assert load_state(tmp_path).preferences == chosen.preferences


@pytest.mark.parametrize("version", [4, 5])
def test_a_checkpoint_of_an_earlier_version_has_no_preferences(version, tmp_path):
    index = save(tmp_path, 1) / "state.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    del content["preferences"], content["index_sha256"]
    index.write_text(json.dumps({**content, "version": version}), encoding="utf-8")
    assert_same_state(load_state(tmp_path), state(1))


GOOD = {"n_examples": 3, "patients": 1, "rounds": 1.0, "gains": {}}


@pytest.mark.parametrize(
    ("name", "stored", "problem"),
    [
        ("brats-1", {"n_examples": 3}, "has missing entries"),
        ("brats-1", "own", "has missing entries"),
        ("brats-1", {**GOOD, "n_examples": 0}, "has missing entries"),
        ("brats-1", {**GOOD, "gains": {"own": 7}}, "has missing entries"),
        ("brats-1", {**GOOD, "rounds": -1}, "has missing entries"),
        ("busi", GOOD, "has no weights of client busi"),
    ],
)
def test_damaged_preferences_are_reported(name, stored, problem, tmp_path):
    change(preferences={name: stored})(save(tmp_path, 1) / "state.json")
    with pytest.raises(DamagedCheckpoint, match=problem):
        load_state(tmp_path)


def links(folder, name):
    return {path.parent.name: path.stat().st_ino for path in folder.glob(f"round-*/{name}")}


def test_files_that_did_not_change_are_links_and_others_are_not(tmp_path):
    last, first = LastFiles(), state(1)
    second = replace(first, round=2, server={**first.server, "US": weights(7)})
    for one in (first, second):
        save_state(tmp_path, one, 9, last=last)
    assert len(set(links(tmp_path, "server-MRI.safetensors").values())) == 1
    assert len(set(links(tmp_path, "client-brats-1.safetensors").values())) == 1
    assert len(set(links(tmp_path, "server-US.safetensors").values())) == 2
    for one in (first, second):
        assert_same_state(load_state(tmp_path, one.round), one)


def test_equal_values_in_other_arrays_are_written_again(tmp_path):
    last = LastFiles()
    save_state(tmp_path, state(1), 9, last=last)
    save_state(tmp_path, replace(state(1), round=2), 9, last=last)
    assert len(set(links(tmp_path, "server-MRI.safetensors").values())) == 2


@pytest.mark.parametrize("trouble", ["no links", "file gone"])
def test_without_a_link_the_file_is_written_again(trouble, tmp_path, monkeypatch):
    last, first = LastFiles(), state(1)
    folder = save_state(tmp_path, first, 9, last=last)
    if trouble == "file gone":
        (folder / "server-MRI.safetensors").unlink()
    else:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    second = replace(first, round=2)
    save_state(tmp_path, second, 9, last=last)
    assert_same_state(load_state(tmp_path, 2), second)


def no_links(self, target):
    raise OSError(errno.ENOTSUP, "Operation not supported")


def test_models_that_are_stored_already_are_linked_and_come_back(tmp_path):
    spool = Spool(tmp_path / "spool")
    stored = spool.keep_model(weights(3))
    spool.wait()
    one = replace(state(1), personal=ClientModels({"brats-1": stored}))
    folder = save_state(tmp_path / "checkpoints", one, 9)
    assert (folder / "client-brats-1.safetensors").samefile(stored.path)
    assert_same_state(load_state(tmp_path / "checkpoints"), one)
    spool.close()


def test_models_that_are_not_stored_yet_are_written(tmp_path):
    spool = Spool(tmp_path / "spool")
    one = replace(state(1), personal=ClientModels({"brats-1": StoredModel(tmp_path / "not yet", weights(3))}))
    save_state(tmp_path / "checkpoints", one, 9)
    assert_same_state(load_state(tmp_path / "checkpoints"), one)
    spool.close()


def test_statistics_change_no_linked_file(tmp_path):
    last, first = LastFiles(), state(1)
    second = replace(first, round=2)
    for one in (first, second):
        save_state(tmp_path, one, 9, last=last)
    before = {path.name: path.read_bytes() for path in (tmp_path / "round-00001").iterdir()}
    save_statistics(tmp_path, replace(second, statistics=FinalStatistics({"brats-1": weights(5)})))
    assert {path.name: path.read_bytes() for path in (tmp_path / "round-00001").iterdir()} == before


def test_clients_models_can_stay_on_the_disk(tmp_path):
    save(tmp_path, 1, 2)
    mapped = load_state(tmp_path, 1, mapped=True)
    assert_same_state(mapped, state(1))
    assert not mapped.personal["brats-1"]["z.weight"].flags.writeable
    save(tmp_path, 3, keep=1)
    assert_same_state(mapped, state(1))  # the files were deleted meanwhile


def test_if_no_more_files_can_be_opened_models_are_read(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def none_left(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(checkpoint, "map_safetensors", none_left)
    assert_same_state(load_state(tmp_path, mapped=True), state(1))


def test_a_damaged_file_is_noticed_before_it_is_mapped(tmp_path):
    flip(save(tmp_path, 1) / "client-brats-1.safetensors")
    with pytest.raises(DamagedCheckpoint, match="checksum of client-brats-1"):
        load_state(tmp_path, mapped=True)
