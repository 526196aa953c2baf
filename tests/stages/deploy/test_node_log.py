"""Flower's log of a node, in words for its owner."""

import pytest

from flames_cli.stages.deploy.node_log import LogReader

JOINED = """\
\x1b[92mINFO \x1b[0m:      Starting Flower SuperNode
INFO:     Uvicorn running on http://127.0.0.1:19601 (Press CTRL+C to quit)
\x1b[92mINFO \x1b[0m:      SuperNode ID: 13568919245258877590
"""
ROUND = """\
INFO :      [RUN 7, ROUND 3]
INFO :      Receiving: train message (ID: 5f3)
INFO :      Received successfully
INFO :
INFO :      [RUN 7, ROUND 3]
INFO :      Sending: train message (ID: 7c1)
INFO :      Sent successfully
"""


@pytest.fixture
def reader(tmp_path) -> LogReader:
    return LogReader(tmp_path / "node.log", "server:9092")


def add(reader: LogReader, text: str) -> list[str]:
    with reader.path.open("a", encoding="utf-8") as file:
        file.write(text)
    return reader.read()


def test_a_log_that_is_not_there_yet_tells_nothing(reader):
    assert reader.read() == []


def test_a_node_that_joins_is_told_with_its_number(reader):
    assert add(reader, JOINED) == ["connected to server:9092 (node 13568919245258877590)"]
    assert reader.connected
    assert reader.read() == []


def test_a_round_is_told_when_it_comes_and_when_it_is_answered(reader):
    assert add(reader, ROUND) == ["round 3: train", "round 3: answered"]


def test_a_message_of_no_round_is_told_without_one(reader):
    assert add(reader, "INFO :      Receiving: query message (ID: 5)\n") == ["query"]


def test_a_line_is_told_once_it_is_whole(reader):
    assert add(reader, "INFO :      Receiving: tr") == []
    assert add(reader, "ain message (ID: 5)\nINFO : SuperN") == ["train"]


def test_lines_of_an_earlier_node_are_skipped(reader):
    reader.path.write_text(JOINED)

    reader.skip()

    assert reader.read() == []
    assert not reader.connected


def test_a_server_that_is_away_is_told_once_and_once_when_it_is_back(reader):
    lost = "WARNING :   Connection attempt failed, retrying in 0.37 seconds\n"
    back = "INFO :      Connection successful after 8.20 seconds and 4 tries.\n"

    assert add(reader, lost * 3) == ["no answer from server:9092; trying again until there is one"]
    assert add(reader, lost) == []
    assert add(reader, back * 2) == ["server:9092 answers again"]
    assert len(add(reader, lost)) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "ERROR :     Exit Code: 305\nFailed to initialize the connection to the SuperLink.\n"
            "[code: 2004] Failed to activate SuperNode.\n",
            "does not know this site's key",
        ),
        (
            "ERROR :     SSL/TLS handshake error detected.\n"
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl)\n",
            "ca.crt does not trust: certificate verify failed: certificate has expired",
        ),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)\n", "does not speak TLS"),
        (
            "ERROR :     FLAMES rejects the app of run 7: it contains 'x.py'\n",
            "FLAMES rejects the app of run 7: it",
        ),
        (
            "ERROR :     ClientApp raised an exception\nTraceback (most recent call last):\n"
            '  File "client.py", line 1, in test\nflames_cli.fed.node.Declined: its test set is too small\n',
            "could not do it: its test set is too small",
        ),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(reader, lines, words):
    (said,) = add(reader, lines)

    assert words in said


def test_bytes_that_are_no_text_do_not_end_it(reader):
    reader.path.write_bytes(b"\xff\xfe\n" + JOINED.encode())

    assert len(reader.read()) == 1
