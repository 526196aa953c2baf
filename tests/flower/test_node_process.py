"""The node's side of the process that answers messages, with a stub in place of that process."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flames_cli.flower import node_process
from flames_cli.flower.node_process import NodeProcess

STUB = """
import os, pathlib, sys
for line in sys.stdin:
    with pathlib.Path(sys.argv[1]).open("a") as file:
        file.write(f"{os.getpid()}\\n")
"""
"""It writes its number for each line; its input is closed when its parent ends, and then it ends."""


@pytest.fixture
def answers(tmp_path) -> Path:
    """File with a line for each message: the number of the process that answered it."""
    (tmp_path / "answers").touch()
    return tmp_path / "answers"


@pytest.fixture
def process(answers) -> Iterator[NodeProcess]:
    made = NodeProcess("unused")
    made._command = [sys.executable, "-S", "-c", STUB, str(answers)]
    yield made
    made.end()


def wait_for_answers(answers: Path, number: int) -> list[int]:
    deadline = time.monotonic() + 20
    while len(found := answers.read_text().splitlines()) < number:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return [int(pid) for pid in found]


def test_one_process_answers_all_messages(process, answers):
    assert process.has_ended()
    for number in (1, 2, 3):
        process.wake()
        wait_for_answers(answers, number)
        process.finish(failed=False)
        process.rest()

    assert len(set(wait_for_answers(answers, 3))) == 1
    assert not process.has_ended()


@pytest.mark.parametrize("reason", ["killed", "failed", "many messages", "memory"])
def test_a_new_process_answers_the_next_message_after(reason, process, answers, monkeypatch):
    process.wake()
    (first,) = wait_for_answers(answers, 1)
    if reason == "killed":
        psutil.Process(first).kill()
        process._process.wait()
        assert process.has_ended()
    elif reason == "many messages":
        monkeypatch.setattr(node_process, "MESSAGES", 1)
    elif reason == "memory":
        monkeypatch.setattr(node_process, "MEMORY_SHARE", 1e-9)

    process.finish(failed=reason == "failed")
    process.wake()

    assert wait_for_answers(answers, 2)[1] != first
    assert not psutil.pid_exists(first)


def test_a_process_ends_after_a_long_time_without_a_message(process, answers, monkeypatch):
    process.wake()
    (first,) = wait_for_answers(answers, 1)
    process.rest()
    assert not process.has_ended()
    monkeypatch.setattr(node_process, "IDLE_SECONDS", 0.0)

    process.rest()
    process.rest()

    assert process.has_ended()
    assert not psutil.pid_exists(first)


def test_the_time_without_a_message_begins_when_the_last_one_is_answered(process, answers, monkeypatch):
    process.wake()
    wait_for_answers(answers, 1)
    process._last -= 2 * node_process.IDLE_SECONDS

    process.finish(failed=False)
    process.rest()

    assert not process.has_ended()


def test_a_process_that_ends_between_messages_is_started_again(process, answers):
    process.wake()
    wait_for_answers(answers, 1)
    process._process.kill()
    process._process.wait()

    process.rest()

    assert not process.has_ended()


def test_a_process_that_cannot_start_is_not_started_again_without_a_message(process):
    process._command = [sys.executable, "-S", "-c", "raise SystemExit(1)"]
    process.start()
    process._process.wait()

    process.rest()
    assert process.has_ended()

    process.wake()
    assert process._messages == 1


def test_a_process_that_does_not_end_is_killed(process, monkeypatch):
    stubborn = (
        "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    )
    process._command = [sys.executable, "-S", "-c", stubborn]
    monkeypatch.setattr(node_process, "END_SECONDS", 0.2)
    process.start()
    pid = process._process.pid

    process.end()

    assert not psutil.pid_exists(pid)
