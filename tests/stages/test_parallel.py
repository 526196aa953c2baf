import threading
import time

import pytest

from flames_cli.stages.parallel import ordered_map, weighted_map


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


def test_a_weighted_map_has_one_heavy_item_ready_and_no_third():
    begun, taken = [], []

    def items():
        for number in range(5):
            taken.append(number)
            yield number

    def work(number):
        begun.append(number)
        return number * 10

    results = weighted_map(work, items(), lambda _: 1.0, workers=2)
    for number in range(5):
        assert next(results) == number * 10
        assert max(taken) <= number + 1
    assert sorted(begun) == [*range(5)]


def test_a_weighted_map_keeps_many_light_items_in_order():
    found = list(weighted_map(lambda number: -number, range(100), lambda _: 1 / 8, workers=4))
    assert found == [-number for number in range(100)]


def test_items_above_the_limit_are_alone():
    waiting = []

    def items():
        for number in range(4):
            waiting.append(number)
            yield number

    done = []
    for number in weighted_map(lambda number: number, items(), lambda _: 2.0, workers=2):
        done.append(number)
        assert waiting == done


def test_an_error_of_a_weighted_map_reaches_the_caller():
    def fail(number):
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(weighted_map(fail, range(3), lambda _: 0.1))
