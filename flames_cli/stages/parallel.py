"""Parallel work in threads: results come in order, with a bounded number of them in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from flames_cli.core.cores import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0
) -> Iterator[Result]:
    """Apply `function` to `items` in `workers` threads (0: one per core); at most twice as many results wait
    to be read.

    Threads are enough, because decoding, resampling and compression release Python's lock.
    """
    count = workers or available_cores()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


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
