from hypothesis import given
from hypothesis import strategies as st

from flames_cli.fed.virtual_clock import VirtualClock


def test_without_jitter_equal_clients_are_equally_fast_and_slow_ones_slower_by_their_factor():
    clock = VirtualClock(seed=3, slow={"brain-2": 10.0})
    assert clock.duration("brain-1", 1, 7) == clock.duration("breast", 5, 7) == 7.0
    assert clock.duration("brain-2", 1, 7) == 70.0


@given(st.integers(0, 2**31), st.integers(1, 1000), st.floats(0, 0.9))
def test_durations_are_drawn_by_seed_within_the_jitter(seed, number, jitter):
    clock = VirtualClock(seed, jitter=jitter)
    duration = clock.duration("brain-1", number, 100)
    assert duration == VirtualClock(seed, jitter=jitter).duration("brain-1", number, 100)
    assert 100 * (1 - jitter) <= duration <= 100 * (1 + jitter)


def test_each_training_has_its_own_duration():
    clock = VirtualClock(0, jitter=0.1)
    assert len({clock.duration(client, number, 10) for client in ("a", "b") for number in (1, 2, 3)}) == 6
