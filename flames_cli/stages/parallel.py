"""Parallel work: results come in order, with a bounded number of them in memory."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import Any, Generic, Self, TypeVar

from flames_cli.core.cores import available_cores
from flames_cli.stages.worker_processes import CannotStart, WorkerProcesses

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_S = 0.1
"""Seconds between two estimates of the remaining work."""

FIRST_S = 0.5
"""Seconds within which each worker should have done an item: its first one costs more than the others."""

FEW = 4
"""Number of threads that work before there are processes: more would wait for Python's lock, and with them
the thread that starts the processes."""

WORTH_S = 1.5
"""Remaining seconds of work in threads for which processes are started: to load their modules takes half a
second of a core."""

BATCH_S = 0.03
"""Seconds of work that a process gets in one message: much more than the message itself takes."""


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 0, total: int | None = None
) -> Iterator[Result]:
    """Apply `function` to `items` by `workers` workers (0: one per core); at most three times as many results
    wait to be read, or batches of results if one takes only milliseconds. `total` is the number of items if
    `items` has no length.

    One worker is the calling thread. Several begin as threads. If WORTH_S of work remains, processes
    continue it, provided that `function` is a function of a module, or a `partial` of one: threads wait for
    each other at Python's global lock. The results do not depend on who does the work.

    Raises:
        FlamesError: a process was ended by the system, for example because the memory was full.
    """
    count = workers or available_cores()
    if count == 1:
        yield from map(function, items)
        return
    with (
        _Crew(function, count, len(items) if isinstance(items, Sized) else total or 0) as crew,
        _Threads(crew.work, crew.threads) as threads,
    ):
        rest = yield from threads.map(iter(items), crew.processes)
        processes = crew.processes.result() if crew.processes.done() else None
        if processes:
            yield from processes.map(rest, crew.batch_size, first=threads.results())
        else:
            yield from threads.results()
            with _Threads(function, count) as more:
                yield from more.map(rest)


class _Threads(Generic[Item, Result]):
    """Threads that apply one function to items."""

    def __init__(self, function: Callable[[Item], Result], count: int) -> None:
        self._function, self._count = function, count
        self._pool = ThreadPoolExecutor(count)
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(
        self, items: Iterator[Item], until: "Future[Any] | None" = None
    ) -> Generator[Result, None, Iterator[Item]]:
        """Yield the results in order until `until` is done, and return the items that nobody has begun."""
        while not (until and until.done()):
            if len(self._waiting) <= 2 * self._count and (found := list(islice(items, 1))):
                self._waiting.append((found[0], self._pool.submit(self._function, found[0])))
            elif self._waiting:
                head = self._waiting[0][1]
                if until:
                    wait((head, until), return_when=FIRST_COMPLETED)
                if not until or head.done():
                    self._waiting.popleft()
                    yield head.result()
            else:
                return items
        not_begun: deque[Item] = deque()
        while self._waiting and self._waiting[-1][1].cancel():  # the last ones, since threads begin in order
            not_begun.appendleft(self._waiting.pop()[0])
        return chain(not_begun, items)

    def results(self) -> Iterator[Result]:
        """Yield the results of the items that are still in work."""
        while self._waiting:
            yield self._waiting.popleft()[1].result()


class _Crew(Generic[Item, Result]):
    """A thread that starts processes for the work of one map, once they pay."""

    def __init__(self, function: Callable[[Item], Result], count: int, total: int) -> None:
        self._function, self._count, self._total = function, count, total
        self._done = 0
        self._start = time.perf_counter()
        self._ended = threading.Event()
        self._foreman = threading.Thread(target=self._watch, daemon=True)
        self._may_start = count > 1 and total > count
        self.threads = min(count, FEW) if self._may_start else count
        """Number of threads that should work until there are processes."""
        self.processes: Future[WorkerProcesses | None] = Future()
        """The processes when they are ready to work; None if none can be started."""
        self.batch_size = 1
        """Number of items that a process should get in one message."""

    def __enter__(self) -> Self:
        if self._may_start:
            self._foreman.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, and do not start any from now on."""
        self._ended.set()
        if self._foreman.ident:
            self._foreman.join()
        if self.processes.done() and (processes := self.processes.result()):
            processes.end()

    def work(self, item: Item) -> Result:
        """Return the function's result, and count it."""
        result = self._function(item)
        self._done += 1  # an estimate: a lost count does no harm
        return result

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            passed, done = time.perf_counter() - self._start, self._done
            if done < self.threads and passed < FIRST_S:
                continue
            item_s, left = passed / max(done, 1), self._total - done
            if item_s * left <= WORTH_S:
                continue
            # The last items are shared evenly only if batches are few of what each process gets.
            at_most = left // (8 * self._count)
            self.batch_size = max(1, min(int(BATCH_S / (item_s * self.threads)), at_most))
            try:
                self.processes.set_result(WorkerProcesses(self._function, self._count))
            except CannotStart:
                self.processes.set_result(None)
            return


def weighted_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    weight: Callable[[Item], float],
    workers: int = 0,
) -> Iterator[Result]:
    """Apply `function` to `items` in `workers` threads (0: one per core), in order.

    Items that are in work, or whose results wait to be read, weigh 1 together at most while the caller works
    on a result. So a reader of volumes (weight 1 each) reads one while the caller uses the one before it, and
    no third is in memory; an item of weight above 1 is in memory alone.
    """
    waiting: deque[tuple[float, Future[Result]]] = deque()
    with ThreadPoolExecutor(workers or available_cores()) as pool:
        try:
            for item in items:
                waiting.append((weight(item), pool.submit(function, item)))
                while sum(one for one, _ in waiting) > 1:
                    yield waiting.popleft()[1].result()
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            for _, future in waiting:
                future.cancel()
