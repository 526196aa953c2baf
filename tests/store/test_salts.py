import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.salts import make_salt, read_salt

posix = pytest.mark.skipif(os.name != "posix", reason="only POSIX has these rights")


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "workspace" / "private" / "salt"


def put(path, text, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


@posix
def test_a_new_salt_is_its_owners_alone(place):
    make_salt(place)
    assert (mode_of(place), mode_of(place.parent)) == (0o600, 0o700)
    assert len(read_salt(place)) == 32


def test_every_site_has_another_salt(tmp_path):
    for site in "abc":
        make_salt(tmp_path / site)
    assert len({read_salt(tmp_path / site) for site in "abc"}) == 3


def test_an_existing_salt_stays(place):
    make_salt(place)
    before = place.read_bytes()
    make_salt(place)
    assert place.read_bytes() == before
    assert [path.name for path in place.parent.iterdir()] == ["salt"]


def test_processes_that_begin_simultaneously_use_one_salt(place):
    def begin(_):
        make_salt(place)
        return read_salt(place)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(8)))) == 1
    assert [path.name for path in place.parent.iterdir()] == ["salt"]


def test_a_salt_is_stored_on_a_disk_without_links(place, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    make_salt(place)
    assert len(read_salt(place)) == 32
    assert [path.name for path in place.parent.iterdir()] == ["salt"]


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "private").write_text("a file")
    with pytest.raises(FlamesError, match=r"private cannot be made: .*; check space and rights"):
        make_salt(tmp_path / "private" / "salt")


def test_a_salt_of_the_users_own_may_be_longer_and_end_in_a_line(tmp_path):
    assert read_salt(put(tmp_path / "own", "AB" * 40 + "\n")) == b"\xab" * 40


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 32 + "c", "zz" * 32, "ab " * 32, "p" + "ab" * 32])
def test_an_invalid_salt_is_rejected(text, tmp_path):
    with pytest.raises(FlamesError, match=r"own has \d+ characters, expected 64 or more hex digits; put the"):
        read_salt(put(tmp_path / "own", text))


@posix
@pytest.mark.parametrize("mode", [0o604, 0o640, 0o666])
def test_a_salt_that_others_can_read_is_rejected(mode, tmp_path):
    with pytest.raises(
        FlamesError, match=rf"can be read by others \(mode {mode:04o}\), expected .*; run chmod 600"
    ):
        read_salt(put(tmp_path / "own", "ab" * 32, mode))


def test_a_missing_salt_gives_an_error_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(FlamesError, match=r"gone cannot be read: No such file .*--salt-file.*openssl rand"):
        read_salt(tmp_path / "gone")
    with pytest.raises(FlamesError, match="cannot be read: Is a directory"):
        read_salt(tmp_path)


def test_no_error_contains_the_salt(tmp_path):
    for text, mode in (("ab" * 31, 0o600), ("ab" * 32, 0o644)):
        with pytest.raises(FlamesError) as refused:
            read_salt(put(tmp_path / "own", text, mode))
        assert "abab" not in str(refused.value)
