"""The files of a client for secure aggregation."""

from flames_cli.store.secure_sessions import SecureFiles


def test_a_client_has_taken_part_as_soon_as_its_files_are_locked_for_a_session(tmp_path):
    files = SecureFiles(tmp_path / "a")
    assert not files.took_part
    with files.locked():
        files.save_session(b"1")
    assert files.took_part
    assert files.load_session() == b"1"
