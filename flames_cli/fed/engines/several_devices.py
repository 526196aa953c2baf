"""Inline clients on several devices: one thread for each device, which takes one client after another.

Threads suffice, since a thread that waits for a GPU or launches its work leaves Python to the others. Each
client's randomness has its own seed, and the server takes replies in the order of its messages, so that the
run is the one of a single device.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event as Flag
from threading import RLock
from types import TracebackType
from typing import Self

from flwr.app import Context, Message, MessageType
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from flames_cli.fed.engines.inline import InlineGrid, run_on
from flames_cli.fed.events import Event, OnEvent

IN_THREADS = (MessageType.TRAIN, MessageType.EVALUATE)
"""Types of messages that clients answer by computing; the others are answered by the server's thread."""


class Stopped(BaseException):
    """A run ended while its client was training. No handler of a client's errors catches it."""


class OneAtATime:
    """Listener that passes on the events of several threads one at a time, and none after `stop`."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._lock = RLock()
        self._stopped = Flag()

    def __call__(self, event: Event) -> None:
        """Pass `event` on; raise Stopped, which ends the caller's training, after `stop`."""
        if self._stopped.is_set():
            raise Stopped
        with self._lock:
            self._on_event(event)

    def stop(self) -> None:
        """End all trainings at their next step."""
        self._stopped.set()


class DevicesGrid(InlineGrid):
    """Grid whose messages are answered by one thread for each device.

    Use it as a context manager: its threads end with the block.
    """

    def __init__(
        self,
        app: ClientApp,
        contexts: Mapping[int, Context],
        n_devices: int,
        use_device: Callable[[int], None],
    ) -> None:
        """Prepare the threads.

        Args:
            app: the ClientApp of all nodes.
            contexts: context of each node.
            n_devices: number of devices, at least 1.
            use_device: called in a new thread with the number of its device.
        """
        super().__init__(app, contexts)
        numbers: SimpleQueue[int] = SimpleQueue()
        for number in range(n_devices):
            numbers.put(number)
        self._pool = ThreadPoolExecutor(n_devices, initializer=lambda: use_device(numbers.get()))
        self._running: dict[str, Future[Message]] = {}
        self._pushed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Give messages to the threads, and return their numbers."""
        numbers = super().push_messages(messages)
        for number in numbers:
            if self._waiting[number].metadata.message_type.partition(".")[0] in IN_THREADS:
                self._running[number] = self._pool.submit(self._run_client, self._waiting.pop(number))
        self._pushed = True
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies to `message_ids` that are there.

        Directly after a push it does not wait, so that every device gets a client; else it waits for one.
        """
        wanted = list(message_ids)
        running = {self._running[number]: number for number in wanted if number in self._running}
        found = super().pull_messages(wanted)
        if not found and running:
            wait(running, timeout=0 if self._pushed else None, return_when=FIRST_COMPLETED)
        self._pushed = False
        done = [(future, number) for future, number in running.items() if future.done()]
        return found + [self._running.pop(number).result() for _, number in done]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Run the client of every message, and return all replies; `timeout` has no effect."""
        numbers, replies = self.push_messages(messages), list[Message]()
        while len(replies) < len(numbers):
            replies += self.pull_messages(numbers)
        return replies


def run_on_devices(
    server: ServerApp,
    make_client: Callable[[OnEvent], ClientApp],
    contexts: Mapping[int, Context],
    on_event: OnEvent,
    n_devices: int,
    use_device: Callable[[int], None],
) -> None:
    """Run `server` as `run_inline` does, with the clients on `n_devices` devices.

    Args:
        server: the ServerApp.
        make_client: returns the ClientApp that passes its events to the given function.
        contexts: context of each node.
        on_event: called with the clients' events, one at a time.
        n_devices: number of devices.
        use_device: called in a new thread with the number of its device.

    Raises:
        FlamesError: the server's error; its cause is the last exception of a client, which --debug shows.
    """
    listener = OneAtATime(on_event)
    with DevicesGrid(make_client(listener), contexts, n_devices, use_device) as grid:
        try:
            run_on(grid, server)
        except BaseException:
            listener.stop()
            raise
