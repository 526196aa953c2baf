"""Summaries of Flower's log of a node."""

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
FLAMES: round 3 of 8 (run trial): training on 122 images
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


def test_a_log_that_does_not_exist_yet_has_no_lines(reader):
    assert reader.read() == []


def test_a_node_that_joins_is_shown_with_its_number(reader):
    assert add(reader, JOINED) == ["connected to server:9092 (node 13568919245258877590)"]
    assert reader.connected
    assert reader.read() == []


def test_the_sentences_of_a_round_are_shown(reader):
    assert add(reader, ROUND) == ["round 3 of 8 (run trial): training on 122 images"]


def test_the_servers_question_about_the_site_is_explained(reader):
    (line,) = add(reader, "INFO :      Receiving: query message (ID: 5)\n")
    assert line == "the server asked for this site's name, modality, numbers of images and allowed plug-ins"


def test_a_line_is_shown_once_it_is_complete(reader):
    assert add(reader, "FLAMES: round 3 of") == []
    assert add(reader, " 8\nINFO : SuperN") == ["round 3 of 8"]


def test_a_line_of_another_program_with_the_same_words_is_not_shown(reader):
    assert add(reader, "INFO :      FLAMES: round 3\n") == []


def test_lines_of_an_earlier_node_are_skipped(reader):
    reader.path.write_text(JOINED)

    reader.skip()

    assert reader.read() == []
    assert not reader.connected


def test_a_lost_server_is_shown_once_and_once_more_when_it_is_back(reader):
    lost = "WARNING :   Connection attempt failed, retrying in 0.37 seconds\n"
    back = "INFO :      Connection successful after 8.20 seconds and 4 tries.\n"

    assert add(reader, lost * 3) == ["server:9092 does not answer; trying again until it does"]
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
            "cannot be verified with this site's ca.crt: certificate verify failed: certificate has expired",
        ),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)\n", "does not use TLS"),
        (
            "ERROR :     FLAMES rejects the app of run 7: it contains 'x.py'\n",
            "FLAMES rejects the app of run 7: it",
        ),
        (
            "ERROR :     ClientApp raised an exception\nTraceback (most recent call last):\n"
            '  File "client.py", line 1, in test\nflames_cli.fed.node.Declined: its test set is too small\n',
            "the task failed: its test set is too small",
        ),
    ],
)
def test_an_error_is_shown_in_one_line(reader, lines, words):
    (line,) = add(reader, lines)

    assert words in line


def test_bytes_that_are_not_text_are_no_error(reader):
    reader.path.write_bytes(b"\xff\xfe\n" + JOINED.encode())

    assert len(reader.read()) == 1


def test_a_node_that_ends_without_a_word_before_it_connects_is_explained_by_the_server(tmp_path):
    reader = LogReader(tmp_path / "node.log", "server:9092", lambda: "the clocks differ")
    add(reader, "INFO :      SuperNode terminated gracefully.\n")
    assert reader.explain_end() == "the clocks differ"
    assert add(reader, "[code: 2004] Failed to activate SuperNode.\n") == ["the clocks differ"]
    assert reader.explain_end() == ""


def test_a_node_that_was_connected_needs_no_explanation(tmp_path):
    reader = LogReader(tmp_path / "node.log", "server:9092", lambda: "the clocks differ")
    add(reader, JOINED)
    assert reader.explain_end() == ""
