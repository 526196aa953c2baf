"""Parallel work: results come in order, with a bounded number of them in memory."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from flames_cli.core.cores import available_cores
from flames_cli.stages.worker_processes import CannotStart, WorkerProcesses

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_S = 0.25
"""Seconds between two estimates of the remaining work."""

WORTH_S = 1.5
"""Remaining seconds of work in threads for which processes are started: to load their modules takes 0.6 s of
a core."""


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 0, total: int | None = None
) -> Iterator[Result]:
    """Apply `function` to `items` by `workers` workers (0: one per core); at most twice as many results wait
    to be read. `total` is the number of items that have no length.

    The work begins in threads. If WORTH_S of it remains, processes continue it, provided that `function` is a
    function of a module, or a `partial` of one: threads wait for each other at Python's global lock. The
    results do not depend on who does the work.

    Raises:
        FlamesError: a process was ended by the system, for example because the memory was full.
    """
    count = workers or available_cores()
    waiting: deque[Future[Result]] = deque()
    crew = _Crew(function, count, len(items) if isinstance(items, Sized) else total or 0)
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(crew.work, item))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            crew.end()


class _Crew(Generic[Item, Result]):
    """Workers of one map: the calling threads, until it pays to start processes."""

    def __init__(self, function: Callable[[Item], Result], count: int, total: int) -> None:
        self._function, self._count, self._total = function, count, total
        self._done = 0
        self._start = time.perf_counter()
        self._processes: WorkerProcesses | None = None
        self._ended = threading.Event()
        self._foreman = threading.Thread(target=self._watch, daemon=True)
        if count > 1 and total > count:
            self._foreman.start()

    def work(self, item: Item) -> Result:
        """Return the function's result for `item`, by a process if there are any."""
        if self._processes:
            result: Result = self._processes.call(item)
            return result
        result = self._function(item)
        self._done += 1  # an estimate: a lost count does no harm
        return result

    def end(self) -> None:
        """End the processes, and do not start any from now on."""
        self._ended.set()
        if self._foreman.ident:
            self._foreman.join()
        if self._processes:
            self._processes.end()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            if self._remaining_s() > WORTH_S:
                with suppress(CannotStart):
                    self._processes = WorkerProcesses(self._function, self._count)
                return

    def _remaining_s(self) -> float:
        """Return the seconds that threads would need for the rest, at their speed so far."""
        passed = time.perf_counter() - self._start
        return passed * (self._total - self._done) / max(self._done, 1)


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
