"""The tasks are functions of the standard library, so that the processes start quickly."""

import multiprocessing
import operator
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import psutil
import pytest

from flames_cli.config import PreprocessConfig
from flames_cli.demo_data import DEMO_DATA
from flames_cli.errors import FlamesError
from flames_cli.readers import READERS
from flames_cli.readers.base import ReadOptions
from flames_cli.stages import parallel, source_cache, worker, worker_processes
from flames_cli.stages.one_pass import Reading
from flames_cli.stages.parallel import ordered_map
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.cache import Cache
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.salts import make_salt

SCRIPT = """
import operator, os, threading, time
from functools import partial
from flames_cli.stages import parallel

started, work = threading.Event(), parallel._Threads.map

def work_and_report(*arguments):
    rest = yield from work(*arguments)
    started.set()
    return rest

parallel._Threads.map = work_and_report
parallel.LOOK_S, parallel.FIRST_S, parallel.WORTH_S = 0.001, 0.0, -1.0
items = [started.wait] * 2 + [os.getpid] * 20 + [partial(time.sleep, 60)] * 9
for found in parallel.ordered_map(operator.call, items, 2):
    print(found, flush=True)
"""
"""Script of a user without a guard for `__main__`: it prints the processes that work for it, then waits."""


@pytest.fixture
def at_once(monkeypatch):
    """Processes are started for any work. Returns a function that waits until they get the rest of it."""
    started, work = threading.Event(), parallel._Threads.map

    def work_and_report(*arguments):
        rest = yield from work(*arguments)
        started.set()
        return rest

    monkeypatch.setattr(parallel._Threads, "map", work_and_report)
    monkeypatch.setattr(parallel, "LOOK_S", 0.001)
    monkeypatch.setattr(parallel, "FIRST_S", 0.0)
    monkeypatch.setattr(parallel, "WORTH_S", -1.0)
    return partial(started.wait, 60)


def children() -> list[psutil.Process]:
    """Return the worker processes that this one has started; other tests may have left other processes."""
    found = psutil.Process().children(recursive=True)
    return [one for one in found if worker.__file__ in one.cmdline()]


def wait_until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def test_much_work_is_done_by_processes_in_the_order_of_the_items(at_once):
    calls = [call for number in range(40) for call in (partial(int, number), os.getpid)]
    found = list(ordered_map(operator.call, [at_once] * 3 + calls, workers=3))[3:]
    assert found[::2] == [*range(40)]
    assert os.getpid() not in found[1::2]
    assert len(set(found[1::2])) <= 3
    assert children() == []


def test_every_process_loads_the_modules_for_itself_where_none_can_divide_itself(at_once, monkeypatch):
    monkeypatch.setattr(worker_processes, "FORKS", False)
    found = list(ordered_map(operator.call, [at_once] * 2 + [os.getpid] * 4, workers=2))
    assert os.getpid() not in found[2:]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.usefixtures("at_once")
def test_one_worker_or_few_items_need_no_process(workers):
    calls = [partial(time.sleep, 0.02)] * 7 + [os.getpid]
    assert list(ordered_map(operator.call, calls, workers))[-1] == os.getpid()


def test_little_work_needs_no_process():
    assert set(ordered_map(operator.call, [os.getpid] * 100, workers=2)) == {os.getpid()}


def test_a_function_that_is_no_part_of_a_module_stays_in_threads(at_once):
    found = list(ordered_map(lambda call: call(), [at_once] * 2 + [os.getpid] * 4, workers=2))
    assert set(found[2:]) == {os.getpid()}


@pytest.mark.parametrize("python", ["/nowhere/python", ""])
def test_threads_do_the_work_if_no_process_can_be_started(at_once, monkeypatch, python):
    monkeypatch.setattr(worker_processes.sys, "executable", python)
    found = list(ordered_map(operator.call, [at_once] * 2 + [os.getpid] * 4, workers=2))
    assert set(found[2:]) == {os.getpid()}


def test_an_error_in_a_process_is_raised_as_it_was_and_ends_the_processes(at_once):
    results = ordered_map(operator.call, [at_once] * 2 + [partial(int, "five")] + [os.getpid] * 50, workers=2)
    assert [next(results), next(results)] == [True, True]
    with pytest.raises(ValueError, match=r"invalid literal for int.* 'five'") as raised:
        next(results)
    assert any("In another process" in note for note in raised.value.__notes__)
    assert children() == []


def test_items_and_results_that_fill_the_pipes_do_not_stop_the_work(at_once):
    calls = [partial(bytes.join, b"", [bytes(2**20)])] * 30
    found = list(ordered_map(operator.call, [at_once] * 2 + calls, workers=2))
    assert [len(one) for one in found[2:]] == [2**20] * 30


def test_few_items_are_given_to_processes_before_their_results_are_read(at_once, monkeypatch):
    monkeypatch.setattr(parallel, "BATCH_S", 0.0)  # batches of one item
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield at_once if number < 2 else partial(int, number)

    results = ordered_map(operator.call, items(), workers=2, total=100)
    for read in range(1, 101):
        next(results)
        assert len(taken) <= read + 3 * 2


def test_a_batch_that_cannot_be_unpacked_ends_the_process():
    ours, theirs = multiprocessing.Pipe()
    ours.send_bytes(b"no pickle")
    batches = queue.SimpleQueue()
    with pytest.raises(pickle.UnpicklingError):
        worker.receive(theirs, batches)
    assert batches.get(timeout=1) is None


def test_results_before_an_error_of_the_same_batch_are_not_lost():
    packed = worker.answer_to(int, ["1", "2", "three", "4"])
    results, error, trace = ForkingPickler.loads(packed)
    assert results == [1, 2]
    assert (type(error), "three" in str(error)) == (ValueError, True)
    assert "answer_to" in trace


def test_a_result_and_an_error_that_cannot_be_sent_are_an_error_in_words():
    class Odd(Exception):
        pass

    def fail(_: int) -> None:
        raise Odd("of one place")

    _, error, _ = ForkingPickler.loads(worker.answer_to(fail, [1]))
    assert repr(error) == "RuntimeError('Odd: of one place')"
    results, error, _ = ForkingPickler.loads(worker.answer_to(lambda _: fail, [1]))
    assert results == []
    assert "pickle" in str(error)


def test_a_killed_process_ends_the_work_with_one_plain_message(at_once):
    killed = partial(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(FlamesError, match=r"one of 2 processes .* --workers"):
        list(ordered_map(operator.call, [at_once] * 2 + [killed] + [os.getpid] * 50, workers=2))
    assert children() == []


def test_a_reader_that_stops_ends_the_processes_with_their_work(at_once):
    results = ordered_map(operator.call, [at_once] * 2 + [partial(time.sleep, 60)] * 9, workers=2)
    assert [next(results), next(results)] == [True, True]
    start = time.monotonic()
    results.close()
    assert children() == []
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_survives_the_one_that_started_it(how):
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root
    ) as command:
        command.stdin.write(SCRIPT.encode())
        command.stdin.close()
        printed = [command.stdout.readline().decode().strip() for _ in range(2 + 12)]
        assert all(printed), command.stderr.read().decode()
        workers = {int(line) for line in printed[2:]}
        assert command.pid not in workers
        command.send_signal(how)
        command.wait(20)
        errors = command.stderr.read().decode()
    assert errors.count("Traceback") == (how == signal.SIGINT)  # of this script, not of the processes
    assert wait_until(lambda: not any(psutil.pid_exists(worker) for worker in workers))


def test_processes_write_the_file_that_threads_write(tmp_path, at_once, monkeypatch):
    raw = DEMO_DATA["otu2d"](tmp_path / "raw", 20, 0)
    salt = tmp_path / "salt"
    make_salt(salt)
    made, sent = [], []
    work, send = parallel._Crew.work, worker_processes.WorkerProcesses._send
    monkeypatch.setattr(
        worker_processes.WorkerProcesses, "_send", lambda *of: sent.extend(of[2]) or send(*of)
    )
    for name, workers in (("one", 1), ("two", 2)):
        config = PreprocessConfig(
            workspace=tmp_path / name, raw={"otu2d": raw}, size=32, workers=workers, salt_file=salt
        )
        preprocess(config, "otu2d")
        made.append(hash_file(config.workspace / "preprocessed" / "otu2d.h5"))
        monkeypatch.setattr(parallel._Crew, "work", lambda *of: at_once() and work(*of))
    assert len(sent) == 20 - 2  # a thread each had begun with the others
    assert made[0] == made[1]


@pytest.mark.parametrize("name", READERS)
def test_the_work_of_every_reader_can_be_sent_to_a_process(name, tmp_path):
    reading = Reading(READERS[name], ReadOptions(windows={"CT": (0.0, 1.0)}), 32, "paper")
    work = source_cache._Task(reading, "figures", Cache(tmp_path), also=("cases",))
    for task in (partial(source_cache._read, work), partial(source_cache._read_anew, work)):
        sent = ForkingPickler.loads(ForkingPickler.dumps(task))
        assert (sent.func, repr(sent.args)) == (task.func, repr(task.args))
