import errno
import hashlib
import os
import shutil
import stat
import sys
from collections import namedtuple
from dataclasses import dataclass

import pytest

from flames_cli.errors import NotWritten
from flames_cli.store import cache as module
from flames_cli.store.cache import Cache, FileState, KnownFile, making_room, remove_cache
from flames_cli.store.files.atomic import raising_not_written

Disk = namedtuple("Disk", "total used free")


@dataclass(frozen=True)
class Thing:
    content: bytes


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "ws" / "cache" / "own")


def stored(cache):
    return sorted(path.name for path in cache.folder.iterdir())


def key(name):
    return hashlib.sha256(name.encode()).hexdigest()


def save(cache, *names):
    for name in names:
        assert cache.save(key(name), "cases", Thing(name.encode()))


def test_an_entry_is_found_by_key_and_part(cache):
    assert not cache.has(key("a"), "cases")
    assert cache.load(Thing, key("a"), "cases") is None
    save(cache, "a")
    assert cache.has(key("a"), "cases")
    assert cache.load(Thing, key("a"), "cases") == Thing(b"a")
    assert cache.load(Thing, key("a"), "figures") is None
    assert cache.load(Thing, key("b"), "cases") is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_only_the_owner_may_read_it_and_the_workspace_keeps_the_usual_rights(cache):
    os.umask(old := os.umask(0o022))
    save(cache, "a")
    cache.save_files({})
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (cache.folder, *cache.folder.parents)}
    assert (modes[cache.folder], modes[cache.folder.parent]) == (0o700, 0o700)
    assert modes[cache.folder.parents[1]] == 0o777 & ~old
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.folder.iterdir()} == {0o600}


def test_a_damaged_entry_is_none(cache):
    save(cache, "a")
    (cache.folder / f"{key('a')}.cases").write_bytes(b"FLAMESC1 and what a power cut left")
    assert cache.load(Thing, key("a"), "cases") is None


def test_a_sweep_leaves_what_this_run_used_what_others_wrote_since_and_what_is_no_entry(cache):
    save(cache, "used", "unused", "new")
    cache.save_files({})
    old, new = (f".{key(name)}.cases.0a1b2c3d.tmp" for name in ("old", "new"))
    for name in (old, new, "note.txt", "a.cases"):
        (cache.folder / name).write_bytes(b"")
    used, unused = (f"{key(name)}.cases" for name in ("used", "unused"))
    for name in (used, unused, "files", old, "note.txt", "a.cases"):
        os.utime(cache.folder / name, (1000, 1000))
    cache.sweep({key("used"), ""}, started_s=2000)  # a source that cannot be hashed has no key
    assert stored(cache) == sorted([new, "a.cases", "files", "note.txt", f"{key('new')}.cases", used])


def test_a_sweep_of_a_cache_that_does_not_exist_does_nothing(cache):
    cache.sweep({"a"}, started_s=2000)
    assert not cache.folder.exists()


def test_the_files_of_a_run_are_read_as_they_were(cache):
    assert cache.load_files() == {}
    files = {"a\udcff.png": (KnownFile(FileState("/x/a\udcff.png", 3, 4, 5, 6, 7), "0" * 64),)}
    assert cache.save_files(files)
    assert cache.load_files() == files
    (cache.folder / "files").write_bytes(b"damaged")
    assert cache.load_files() == {}


def test_nothing_is_stored_on_a_disk_that_is_nearly_full(cache, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Disk(10**9, 0, 50_000_100))
    assert not cache.save("big", "cases", Thing(bytes(200)))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Disk(10**13, 0, 2 * module.FREE_BYTES))
    assert cache.save("big", "cases", Thing(bytes(200)))


@pytest.mark.parametrize("name", ["write_all", "make_private_folder"])
def test_an_entry_that_cannot_be_written_leaves_nothing(name, cache, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, name, fail)
    assert not cache.save("a", "cases", Thing(b"a"))
    assert not cache.folder.exists() or stored(cache) == []


def test_a_file_in_place_of_the_folder_stores_nothing(cache):
    cache.folder.parents[1].mkdir()
    cache.folder.parent.write_text("of the user")
    assert not cache.save("a", "cases", Thing(b"a"))
    assert cache.load_files() == {}
    cache.sweep(set(), started_s=2000)
    assert cache.folder.parent.read_text() == "of the user"


def full_disk(times, code=errno.ENOSPC):
    """Return a function that fails so many times as on a full disk."""
    left = [code] * times

    def write():
        with raising_not_written(module.Path("x.h5")):
            if left:
                raise OSError(left.pop(), "")
        return "written"

    return write


def test_a_full_disk_gets_the_space_of_the_cache(cache):
    workspace = cache.folder.parents[1]
    save(cache, "a")
    assert making_room(workspace, full_disk(1)) == "written"
    assert stored(cache) == []
    with pytest.raises(NotWritten):
        making_room(workspace, full_disk(1))  # there is nothing to delete any more
    save(cache, "a")
    with pytest.raises(NotWritten):
        making_room(workspace, full_disk(2))


def test_another_error_leaves_the_cache(cache):
    save(cache, "a")
    with pytest.raises(NotWritten, match="Permission denied"):
        making_room(cache.folder.parents[1], full_disk(1, errno.EACCES))
    assert stored(cache) == [f"{key('a')}.cases"]


def test_a_cache_on_another_disk_is_emptied_through_its_link(cache, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cache.folder.parents[1].mkdir()
    cache.folder.parent.symlink_to(elsewhere)
    save(cache, "a")
    assert list(elsewhere.iterdir()) == [elsewhere / "own"]
    (elsewhere / "own" / "note.txt").write_text("of the user")
    assert remove_cache(cache.folder.parents[1])
    assert stored(cache) == ["note.txt"]
    shutil.rmtree(tmp_path / "ws")
    assert not remove_cache(tmp_path / "ws")
