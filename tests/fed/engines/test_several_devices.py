"""Threads that stand for devices: a run on several is the run on one."""

import threading
import time

import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from flames_cli.errors import FlamesError, NotWritten
from flames_cli.fed.engines.inline import make_contexts
from flames_cli.fed.engines.several_devices import DevicesGrid, OneAtATime, run_on_devices
from flames_cli.fed.events import Noted
from flames_cli.fed.participation import Participation
from tests.support import federation
from tests.support.asserts import assert_same_state
from tests.support.federation import drift, make_profile, run_federation

pytestmark = pytest.mark.usefixtures("identity")

PROFILES = [make_profile(f"client-{n}", "MRI" if n % 2 else "US", n_train=n + 5) for n in range(6)]
SECONDS = {"client-0": 0.03, "client-3": 0.02}
"""Time that some clients train longer than the others."""


def slowly(request, weights, profile):
    time.sleep(SECONDS.get(request.client, 0.001))
    return drift(request, weights, profile)


@pytest.fixture
def on_devices(monkeypatch):
    """Make federations of stubs run on two devices; list the device of each thread."""
    used = []

    def run(server, app, contexts):
        run_on_devices(server, lambda _: app, contexts, print, 2, used.append)

    monkeypatch.setattr(federation, "run_inline", run)
    return used


@pytest.mark.parametrize("algorithm", ["fedavg", "flames"])
def test_a_run_on_two_devices_is_the_run_on_one(algorithm, monkeypatch, request):
    participation = Participation(expected_nodes=6, all_must_join=True, in_flight=4)
    options = {"algorithm": algorithm, "rounds": 3, "participation": participation}
    expected = run_federation(PROFILES, **options)
    used = request.getfixturevalue("on_devices")
    found = run_federation(PROFILES, train=slowly, **options)
    assert_same_state(found.state, expected.state)
    assert sorted(used) == [0, 1]
    assert [who.client for who in found.joined[-1]] == [who.client for who in expected.joined[-1]]


def numbers_app(train):
    """Return a ClientApp that answers with the number that it is sent, after `train` of that number."""
    app = ClientApp()

    @app.train()
    def answer(message, context):
        number = message.content.config_records["c"]["number"]
        train(number)
        return Message(RecordDict({"c": ConfigRecord({"number": number})}), reply_to=message)

    return app


def ask(number):
    return Message(RecordDict({"c": ConfigRecord({"number": number})}), 2, MessageType.TRAIN)


def grid_of(train, n_devices=2):
    return DevicesGrid(numbers_app(train), make_contexts({2: {}}), n_devices, lambda _: None)


def test_clients_train_on_both_devices_at_the_same_time():
    together = threading.Barrier(2, timeout=20)
    with grid_of(lambda _: together.wait()) as grid:
        replies = grid.send_and_receive([ask(number) for number in range(4)])
    assert not any(reply.has_error() for reply in replies)


def test_a_pull_after_a_push_does_not_wait_and_the_next_one_does():
    free = threading.Event()
    with grid_of(lambda _: free.wait(20)) as grid:
        numbers = grid.push_messages([ask(1)])
        assert grid.pull_messages(numbers) == []
        free.set()
        (reply,) = grid.pull_messages(numbers)
    assert reply.metadata.reply_to_message_id == numbers[0]


def test_a_client_that_fails_becomes_an_error_reply():
    def fail(number):
        if number == 13:
            raise FlamesError("no shard here")

    with grid_of(fail) as grid:
        replies = grid.send_and_receive([ask(13), ask(1)])
    assert sorted(reply.error.reason for reply in replies if reply.has_error()) == ["no shard here"]


def test_a_full_disk_ends_the_run():
    def fail(_):
        raise NotWritten("the disk is full")

    with pytest.raises(NotWritten), grid_of(fail) as grid:
        grid.send_and_receive([ask(1)])


def test_an_interrupted_run_ends_the_trainings():
    """The second client would train for ever."""
    ended, training, server = threading.Event(), threading.Event(), ServerApp()

    @server.main()
    def main(grid, context):
        grid.push_messages([ask(1)])
        assert training.wait(20)
        raise KeyboardInterrupt

    def make_client(on_event):
        def train(_):
            training.set()
            try:
                while True:
                    on_event(Noted("a step"))
                    time.sleep(0.001)
            finally:
                ended.set()

        return numbers_app(train)

    with pytest.raises(KeyboardInterrupt):
        run_on_devices(server, make_client, make_contexts({2: {}}), lambda _: None, 2, lambda _: None)
    assert ended.wait(20)


def test_events_of_several_threads_come_one_at_a_time():
    inside, seen = [], []

    def listen(event):
        inside.append(event)
        time.sleep(0.0005)
        seen.append(len(inside))
        inside.clear()

    listener = OneAtATime(listen)
    threads = [threading.Thread(target=lambda: [listener(Noted("x")) for _ in range(10)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 30
