import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.lr_schedule import SCHEDULES, LrSchedule


def factors(kind, warmup, rounds):
    return [LrSchedule(kind, warmup).factor(round_, rounds) for round_ in range(1, rounds + 1)]


def test_a_constant_rate_is_exactly_the_rate():
    assert factors("constant", 0, 3) == [1.0, 1.0, 1.0]


def test_cosine_starts_at_the_full_rate_and_halves_in_the_middle():
    expected = [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    assert factors("cosine", 0, 4) == pytest.approx(expected)


def test_steps_are_at_half_and_at_three_quarters():
    assert factors("step", 0, 8) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_warm_up_rises_in_equal_steps_to_the_full_rate(kind):
    assert factors(kind, 3, 8)[:4] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_rounds_after_the_warm_up_have_the_schedule_of_their_own_number(kind):
    assert factors(kind, 3, 8)[3:] == factors(kind, 0, 5)


@given(st.sampled_from(SCHEDULES), st.integers(0, 20), st.integers(1, 200))
def test_factors_are_above_0_and_at_most_1_and_fall_after_the_warm_up(kind, warmup, more):
    found = factors(kind, warmup, warmup + more)
    assert all(0 < factor <= 1 for factor in found)
    assert found[warmup:] == sorted(found[warmup:], reverse=True)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_round_after_the_last_has_the_factor_of_the_last(kind):
    assert LrSchedule(kind).factor(9, 8) == LrSchedule(kind).factor(8, 8)
