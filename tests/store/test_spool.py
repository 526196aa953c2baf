import gc
import itertools
import threading

import numpy as np
import pytest

from flames_cli.core.federated.aggregation import RoundSettings, apply_round
from flames_cli.core.federated.reports import Report, State
from flames_cli.errors import NotWritten
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.store import spool as spool_module
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.spool import Spool, StoredModel
from tests.support.asserts import assert_same, assert_same_state


def model(value, n=8):
    return {"w": np.full(n, value, np.float32), "count": np.array(3), "none": np.zeros((0, 2), np.float16)}


@pytest.fixture
def spool(tmp_path):
    """Return a spool in whose memory there is room for two models of 8 values."""
    made = Spool(tmp_path / "spool")
    yield made
    made.close()


@pytest.fixture
def room_for_two(monkeypatch):
    size = spool_module.size_of(model(0))
    monkeypatch.setattr(spool_module, "LARGEST", 2 * size)
    return size


def files(spool):
    return sorted(spool._folder.glob("*.safetensors"))


def test_models_come_back_from_the_memory_and_from_the_disk(spool):
    load = spool.keep_model(model(1))
    assert_same(load(), model(1))
    spool.wait()
    assert_same(load(), model(1))
    assert isinstance(load, StoredModel)
    assert load.sha256 == hash_file(load.path)
    assert not load()["w"].flags.writeable


def test_only_this_user_can_read_the_folder(spool):
    spool.keep_model({"w": np.zeros(2, np.float32)})
    assert spool._folder.stat().st_mode & 0o077 == 0


def test_a_model_that_is_no_longer_used_is_removed_from_the_disk(spool):
    first, second = spool.keep_model(model(1)), spool.keep_model(model(2))
    spool.wait()
    views = first()
    del first
    assert files(spool) == [second.path]
    assert_same(views, model(1))  # the views of it remain


def test_only_some_reports_are_in_the_memory(spool, room_for_two):
    loads = [spool.keep_report(model(value)) for value in range(4)]
    assert len(files(spool)) == 2
    for value, load in enumerate(loads):
        assert_same(load(), model(value))
    del load
    loads.clear()
    assert files(spool) == []
    held = [spool.keep_report(model(value)) for value in range(2)]
    assert files(spool) == []
    assert len(held) == 2


def test_models_wait_while_too_many_are_not_written(spool, room_for_two, monkeypatch):
    may_write, write, most = threading.Event(), StoredModel.write, []

    def wait_and_write(one):
        may_write.wait()
        write(one)

    monkeypatch.setattr(StoredModel, "write", wait_and_write)
    loads = [spool.keep_model(model(value)) for value in range(2)]
    third = threading.Thread(target=lambda: loads.append(spool.keep_model(model(2))))
    third.start()
    third.join(0.05)
    assert third.is_alive()
    most.append(len(loads))
    may_write.set()
    third.join()
    spool.wait()
    assert (most, len(loads)) == ([2], 3)
    assert [load()["w"][0] for load in loads] == [0, 1, 2]


def test_work_is_done_in_order_and_waiting_for_one_does_not_wait_for_the_next(spool):
    done, may_end = [], threading.Event()
    first = spool.submit(lambda: done.append(1))
    spool.submit(may_end.wait)
    spool.submit(lambda: done.append(2))
    spool.wait(first)
    assert done == [1]
    may_end.set()
    spool.wait()
    assert done == [1, 2]


@pytest.mark.parametrize("notice", ["keep_report", "keep_model", "wait", "close"])
def test_an_error_of_the_writer_is_raised_once_at_the_next_call(tmp_path, notice, monkeypatch):
    spool = Spool(tmp_path / "spool")
    arguments = [] if notice in ("wait", "close") else [model(2)]

    def full(path, weights):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module, "write_new_file", full)
    load = spool.keep_model(model(1))
    with spool._changed:
        spool._changed.wait_for(lambda: spool._error is not None, timeout=30)
    with pytest.raises(
        NotWritten, match="cannot be written: No space left on device; check space and rights"
    ):
        getattr(spool, notice)(*arguments)
    assert_same(load(), model(1))
    spool.close()


def test_a_report_that_does_not_fit_on_the_disk_is_an_error(spool, monkeypatch):
    def full(path, weights):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module, "LARGEST", 0)
    monkeypatch.setattr(spool_module, "spill", full)
    with pytest.raises(NotWritten, match="No space left on device"):
        spool.keep_report(model(1))


def test_a_closed_spool_leaves_no_folder_and_no_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "IDLE_SECONDS", 0.01)
    spool = Spool(tmp_path / "spool")
    load = spool.keep_model(model(1))
    assert callable(load)
    spool.close()
    assert list(tmp_path.iterdir()) == []
    thread = spool._thread
    if thread:
        thread.join(5)
    assert not any(one.name == "writer" and one is thread for one in threading.enumerate())


@pytest.mark.parametrize("strategy", ["flames", "flames-adaptive"])
@pytest.mark.parametrize("largest", [0, 1 << 20])
def test_rounds_with_models_on_the_disk_give_the_same_bits(strategy, largest, tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "LARGEST", largest)
    algorithm, spool = get_algorithm(strategy), Spool(tmp_path / "spool")
    states = []
    for settings in (RoundSettings(shelf=spool), RoundSettings()):
        state = State(0, {"MRI": model(0)})
        for _ in range(2):
            reports = [Report(f"c{i}", "MRI", model(1 + i / 8), 10 + i, 3) for i in range(4)]
            state = apply_round(state, reports, algorithm, settings=settings).state
        states.append(state)
    assert_same_state(*states)
    spool.wait()
    assert len(files(spool)) == 4  # the reports and the models of the first round are gone
    spool.close()


def test_models_of_a_call_that_failed_remove_no_file_of_the_next_one(tmp_path):
    """A traceback holds them, in a notebook until the next error."""
    earlier = Spool(tmp_path / "spool")
    old = earlier.keep_model(model(1))
    earlier.close()
    spool = Spool(tmp_path / "spool")
    load = spool.keep_model(model(2))
    spool.wait()
    del old
    gc.collect()
    assert_same(load(), model(2))
    spool.close()


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_NUMBERS", itertools.count())  # as in a process that has just begun
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "client-0.safetensors").write_bytes(b"half")
    spool = Spool(tmp_path / "spool")
    load = spool.keep_model(model(1))
    spool.wait()
    assert_same(load(), model(1))
    spool.close()
