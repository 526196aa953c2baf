"""Reader of the lines that are added to a log."""

from flames_cli.stages.deploy.new_lines import NewLines


def test_complete_lines_are_read_once_and_an_unfinished_one_next_time(tmp_path):
    log = tmp_path / "log"
    lines = NewLines(log)
    assert lines.read() == b""
    log.write_bytes(b"one\ntwo\nth")
    assert lines.read() == b"one\ntwo\n"
    with log.open("ab") as file:
        file.write(b"ree\n")
    assert lines.read() == b"three\n"
    assert lines.read() == b""


def test_lines_of_the_past_can_be_skipped(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"old\n")
    lines = NewLines(log)
    lines.skip()
    with log.open("ab") as file:
        file.write(b"new\n")
    assert lines.read() == b"new\n"
