"""Parallel work: results come in order, with a bounded number of them in memory."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from flames_cli.core.cores import available_cores
from flames_cli.stages.worker_processes import Answer, CannotStart, WorkerProcesses

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
    """Apply `function` to `items` by `workers` workers (0: one per core); at most twice as many results wait
    to be read, or batches of results if one takes only milliseconds. `total` is the number of items if
    `items` has no length.

    The work begins in threads. If WORTH_S of it remains, processes continue it, provided that `function` is a
    function of a module, or a `partial` of one: threads wait for each other at Python's global lock. The
    results do not depend on who does the work.

    Raises:
        FlamesError: a process was ended by the system, for example because the memory was full.
    """
    count = workers or available_cores()
    waiting: deque[Future[Answer[Result]]] = deque()
    crew = _Crew(function, count, len(items) if isinstance(items, Sized) else total or 0)
    with ThreadPoolExecutor(count) as pool:
        try:
            rest = iter(items)
            while batch := list(islice(rest, crew.batch_size())):
                waiting.append(pool.submit(crew.work, batch))
                if len(waiting) > 2 * count:
                    yield from _read(waiting.popleft())
            while waiting:
                yield from _read(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()
            crew.end()


def _read(future: "Future[Answer[Result]]") -> Iterator[Result]:
    results, error = future.result()
    yield from results
    if error is not None:
        raise error


class _Crew(Generic[Item, Result]):
    """Workers of one map: the calling threads, until it pays to start processes."""

    def __init__(self, function: Callable[[Item], Result], count: int, total: int) -> None:
        self._function, self._count, self._total = function, count, total
        self._done = 0
        self._start = time.perf_counter()
        self._batch_size = 1
        self._processes: WorkerProcesses | None = None
        self._ended = threading.Event()
        self._foreman = threading.Thread(target=self._watch, daemon=True)
        self._change = threading.Condition()
        self._places = count
        """Number of further threads that may work in this process."""
        if count > 1 and total > count:
            self._places = min(count, FEW)
            self._foreman.start()

    def batch_size(self) -> int:
        """Return the number of items that one call of `work` should get."""
        return self._batch_size

    def work(self, batch: Sequence[Item]) -> Answer[Result]:
        """Return the function's results for a batch, by a process if there are any, up to its first error."""
        with self._change:
            self._change.wait_for(lambda: self._processes or self._places > 0 or self._ended.is_set())
            processes = self._processes
            self._places -= not processes
        if self._ended.is_set():
            return [], None  # nobody reads it
        if processes:
            return processes.call(batch)
        try:
            results = []
            for item in batch:
                results.append(self._function(item))
                self._done += 1  # an estimate: a lost count does no harm
            return results, None
        finally:
            self._allow(1)

    def end(self) -> None:
        """End the processes, and do not start any from now on."""
        self._ended.set()
        self._allow(0)
        if self._foreman.ident:
            self._foreman.join()
        if self._processes:
            self._processes.end()

    def _allow(self, places: int, processes: WorkerProcesses | None = None) -> None:
        with self._change:
            self._places += places
            self._processes = processes or self._processes
            self._change.notify_all()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            passed, done = time.perf_counter() - self._start, self._done
            at_work = min(self._count, FEW)
            if done < at_work and passed < FIRST_S:
                continue
            item_s, left = passed / max(done, 1), self._total - done
            if item_s * left <= WORTH_S:
                continue
            try:
                processes = WorkerProcesses(self._function, self._count)
            except CannotStart:
                self._allow(self._count - at_work)
            else:
                # The last items are shared evenly only if batches are few of what each process gets.
                at_most = left // (8 * self._count)
                self._batch_size = max(1, min(int(BATCH_S / (item_s * at_work)), at_most))
                self._allow(0, processes)
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
