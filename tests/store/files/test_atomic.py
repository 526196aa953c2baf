import csv
import errno
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import (
    remove_folder,
    remove_leftovers,
    replacing,
    replacing_folder,
    write_csv,
    write_json,
    write_private,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path, error: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error


def test_a_file_appears_under_its_name_only_when_whole(tmp_path):
    path = tmp_path / "a.bin"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == tmp_path
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_an_older_file_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt(), FlamesError("a mistake")])
def test_a_failure_inside_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        write_half(path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_before_anything_is_written_is_the_one_that_shows(tmp_path):
    with pytest.raises(ValueError, match="a bug"), replacing(tmp_path / "a.txt"):
        raise ValueError("a bug")
    assert names(tmp_path) == []


def test_a_full_disk_is_an_error_of_one_line(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(FlamesError, match=r"a\.txt cannot be written: No space left.*check space"):
        write_half(path, OSError(28, "No space left on device"))
    assert names(tmp_path) == []


def test_the_reason_is_the_systems_not_a_dump_of_hdf5(tmp_path):
    error = OSError(28, "Can't close file (file write failed: buf = 0x55df, total write size = 2048)")
    with pytest.raises(FlamesError, match=r"cannot be written: No space left on device; check"):
        write_half(tmp_path / "a.h5", error)


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "text")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "a").write_text("a file, no folder")
    with pytest.raises(FlamesError, match="cannot be written"):
        write_text(tmp_path / "a" / "b.txt", "text")
    assert names(tmp_path) == ["a"]


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    with replacing(tmp_path / "a.txt") as one, replacing(tmp_path / "a.txt") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a.txt").read_text() == "one"
    assert names(tmp_path) == ["a.txt"]


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "240×240\n")
    assert (tmp_path / "a.txt").read_bytes() == "240×240\n".encode()


def test_json_keeps_its_order_and_its_letters(tmp_path):
    content = {"z": 1, "a": [0.1, "240×240"], "m": {"y": None, "b": True}}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert text.index('"z"') < text.index('"a"') < text.index('"y"') < text.index('"b"')
    assert "×" in text
    assert text.endswith("}\n")


def test_a_csv_keeps_floats_and_commas(tmp_path):
    rows = [["benign (1), left", 0.1 + 0.2, 3], ['a "b"', float("nan"), -1]]
    write_csv(tmp_path / "a.csv", ["case", "value", "n"], rows)
    read = list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))
    assert read[0] == ["case", "value", "n"]
    assert [row[0] for row in read[1:]] == ["benign (1), left", 'a "b"']
    assert float(read[1][1]) == 0.1 + 0.2
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


def test_a_private_file_is_its_owner_s_alone_from_the_start(tmp_path, monkeypatch):
    modes = []
    real = os.fdopen
    monkeypatch.setattr(
        "os.fdopen", lambda file, how: modes.append(os.fstat(file).st_mode) or real(file, how)
    )
    path, before = tmp_path / "key", os.umask(0)
    try:
        write_private(path, b"secret")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(mode) for mode in (*modes, path.stat().st_mode)] == [0o600, 0o600]
    assert path.read_bytes() == b"secret"
    assert names(tmp_path) == ["key"]


def test_a_file_and_its_folder_are_on_the_disk_before_anybody_counts_on_them(tmp_path, monkeypatch):
    told, sync, move = [], os.fsync, Path.replace

    def note(descriptor):
        told.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", lambda *paths: told.append("moved") or move(*paths))
    write_text(tmp_path / "a.txt", "text")
    assert told == ["file", "moved", "folder"]


def test_a_disk_that_cannot_sync_a_folder_is_no_error(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "a.txt", "text")
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_another_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run"
    for name in ("one", "two"):
        with replacing_folder(path) as temporary:
            (temporary / name).touch()
    with pytest.raises(FlamesError, match="File exists"), replacing_folder(path) as temporary:
        temporary.mkdir()
    assert names(path) == ["two"]
    assert names(tmp_path) == ["run"]


def test_a_folder_is_replaced_before_the_old_one_is_deleted(tmp_path, monkeypatch):
    target = tmp_path / "round"
    target.mkdir()
    (target / "old").touch()
    there = []
    delete = shutil.rmtree

    def look(path, **how):
        there.append(target.is_dir())
        delete(path, **how)

    monkeypatch.setattr(shutil, "rmtree", look)
    with replacing_folder(target) as folder:
        (folder / "new").touch()
    assert there
    assert all(there)
    assert [path.name for path in tmp_path.rglob("*")] == ["round", "new"]


def test_a_folder_is_gone_at_once_even_if_its_files_cannot_be_deleted(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda path, ignore_errors: None)
        remove_folder(tmp_path / "run")
    (left,) = names(tmp_path)
    assert left.startswith(".run~")
    (tmp_path / ".other.tmp").touch()
    remove_leftovers(tmp_path, "run~*")
    assert names(tmp_path) == [".other.tmp"]
    remove_folder(tmp_path / "never")
