import threading
import time

import pytest

from flames_cli.stages.parallel import ordered_map


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(workers):
    def wait_longest_first(item: int) -> int:
        time.sleep(0.002 * (7 - item % 7))
        return item * item

    assert list(ordered_map(wait_longest_first, range(20), workers)) == [item * item for item in range(20)]


def test_no_items_give_no_results():
    assert list(ordered_map(str, [])) == []


def test_items_are_processed_simultaneously():
    meeting = threading.Barrier(3, timeout=10)
    assert list(ordered_map(lambda _: meeting.wait() >= 0, range(3), workers=3)) == [True] * 3


@pytest.mark.parametrize("workers", [1, 4])
def test_few_results_wait_to_be_read(workers):
    started: list[int] = []
    results = ordered_map(started.append, range(100), workers)
    for read in range(1, 101):
        next(results)
        assert len(started) <= read + 2 * workers


@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_comes_in_its_items_turn_and_ends_the_work(workers):
    started: list[int] = []

    def fail_at_five(item: int) -> int:
        started.append(item)
        if item == 5:
            raise ValueError("five")
        return item

    results = ordered_map(fail_at_five, range(1000), workers)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(results)
    assert len(started) <= 5 + 2 * workers + 1


def test_a_reader_that_stops_ends_the_work():
    started: list[int] = []
    results = ordered_map(started.append, range(1000), workers=1)
    next(results)
    results.close()
    assert len(started) <= 4
