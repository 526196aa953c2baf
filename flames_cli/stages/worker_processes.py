"""Processes that apply one task to items. They load neither torch nor Flower, and end with the one that
started them.

On Linux, one process loads the modules of the task and then divides itself (a fork server). Elsewhere a fork
is not safe or does not exist, so that every process loads them for itself.
"""

import os
import signal
import subprocess
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Pipe, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from flames_cli.errors import FlamesError
from flames_cli.stages import worker

FORKS = sys.platform == "linux"
"""True where a process without threads can safely divide itself."""

KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)}
"""Variables by which glibc keeps freed memory for the next image: else it returns the memory of each image to
the system, which clears it again for the next one."""

MOST_BATCHES = 3
"""Number of batches for each process that are in work, or whose results wait for those of an earlier one."""

_MAIN = threading.Lock()


class CannotStart(Exception):
    """Processes cannot be started for this task, so that threads must do the work."""


class WorkerProcesses:
    """A number of processes, each of which works on one item at a time, and one loop that serves them."""

    def __init__(self, task: Callable[[Any], Any], count: int) -> None:
        """Start `count` processes for `task`, and wait until one of them has loaded its modules.

        Raises:
            CannotStart: the task is no function of a module, or the system starts no process.
        """
        self._count = count
        if getattr(sys, "frozen", False) or not sys.executable:  # there is no Python to start
            raise CannotStart
        try:
            packed = bytes(ForkingPickler.dumps(task))
            self._group = _Forked(count) if FORKS else _Spawned(count)
        except Exception as error:
            raise CannotStart from error
        try:
            for channel in self._group.loading:
                channel.send((sys.path, packed))
            if not all(channel.recv() for channel in self._group.loading):
                raise CannotStart
        except (EOFError, OSError) as error:
            self.end()
            raise CannotStart from error
        except CannotStart:
            self.end()
            raise
        self._batches: dict[Any, deque[int]] = {channel: deque() for channel in self._group.channels}
        """Numbers of the batches that each process has, in order."""

    def map(self, items: Iterator[Any], batch_size: int, first: Iterator[Any]) -> Iterator[Any]:
        """Yield the results of `first`, then the task's results for `items` in order. The processes work on
        `items` from the beginning, and each has its next batch before it finishes one.

        Raises:
            FlamesError: a process was ended.
        """
        given = read = 0
        done: dict[int, tuple[list[Any], BaseException | None]] = {}
        while True:
            while given < read + MOST_BATCHES * self._count:
                channel = min(self._batches, key=lambda one: len(self._batches[one]))
                if len(self._batches[channel]) == 2 or not (batch := list(islice(items, batch_size))):
                    break
                self._send(channel, batch)
                self._batches[channel].append(given)
                given += 1
            yield from first
            if read == given:
                return
            busy = [channel for channel, numbers in self._batches.items() if numbers]
            ready: list[Any] = wait(busy, 0 if read in done else None)
            for channel in ready:
                done[self._batches[channel].popleft()] = self._receive(channel)
            if read in done:
                results, error = done.pop(read)
                yield from results
                if error is not None:
                    raise error
                read += 1

    def _send(self, channel: worker.Channel, batch: Sequence[Any]) -> None:
        with self._plain_message():
            channel.send(batch)

    def _receive(self, channel: worker.Channel) -> tuple[list[Any], BaseException | None]:
        with self._plain_message():
            results, error, trace = channel.recv()
        if error is not None:
            error.add_note(f"In another process:\n{trace}")
        return results, error

    @contextmanager
    def _plain_message(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            raise FlamesError(
                f"one of {self._count} processes that share the work was ended by the system, probably "
                "because memory ran out; expected all to continue: free memory, or pass a smaller --workers "
                "to check and preprocess"
            ) from error

    def end(self) -> None:
        """End the processes, whatever they are doing."""
        self._group.end()


class _Forked:
    """A process that divides itself, in a session of its own: Ctrl-C reaches only the one that started it."""

    def __init__(self, count: int) -> None:
        pairs = [Pipe() for _ in range(count)]
        theirs = [their.fileno() for _, their in pairs]
        try:
            self._server = subprocess.Popen(
                [sys.executable, "-P", worker.__file__, *map(str, theirs)],
                stdin=subprocess.PIPE,  # closed by the system when this process ends
                pass_fds=theirs,
                start_new_session=True,
                env={**os.environ, **dict.fromkeys(worker.ONE_THREAD, "1"), **KEEP_FREED_MEMORY},
            )
        finally:
            for _, their in pairs:
                their.close()
        self.channels = [our for our, _ in pairs]
        self.loading = self.channels[:1]

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.communicate()


class _Spawned:
    """Processes that each load the modules, started by `multiprocessing`."""

    def __init__(self, count: int) -> None:
        context = get_context("spawn")
        self._processes: list[SpawnProcess] = []
        self.channels = []
        for _ in range(count):
            our, their = context.Pipe()
            process = context.Process(target=worker.serve, args=(their,), daemon=True)
            with _hidden_main():
                process.start()
            their.close()
            self._processes.append(process)
            self.channels.append(our)
        self.loading = self.channels

    def end(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Hide the module `__main__`, which `multiprocessing` would run again in the new process: it may be a
    script without a guard, or a notebook."""
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
