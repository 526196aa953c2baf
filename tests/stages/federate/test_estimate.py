import pytest

from flames_cli.fed.events import Estimated, FederationStarted, ReportReceived, RoundDone, StepDone
from flames_cli.stages.federate.estimate import MEASURED, WARM_UP, Estimator

CLIENTS = (("a", "MRI", 9), ("b", "US", 4))


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def seen():
    return []


@pytest.fixture
def watch(seen, clock):
    """Return an estimator with batches of 4 and 2 epochs: 8 steps per round."""
    return Estimator(seen.append, lambda client, modality, n: 2 * -(-n // 4), clock=clock)


def step(watch, clock, seconds, times=1):
    for number in range(times):
        clock.now += seconds
        watch(StepDone("a", 1, number + 1, 6))


def estimates(seen):
    return [event.seconds_left for event in seen if isinstance(event, Estimated)]


def test_every_event_is_passed_on_in_order(watch, seen):
    events = [FederationStarted(CLIENTS, 1, 1), StepDone("a", 1, 1, 6), ReportReceived("a", 1, {})]
    for event in events:
        watch(event)
    assert seen == events


def test_the_first_estimate_comes_from_the_first_steps_without_the_very_first(watch, seen, clock):
    watch(FederationStarted(CLIENTS, 1, 5))
    step(watch, clock, seconds=60, times=WARM_UP)
    step(watch, clock, seconds=2, times=MEASURED)
    assert estimates(seen) == [2 * (5 * 8 - WARM_UP - MEASURED)]


def test_steps_give_one_estimate_only(watch, seen, clock):
    watch(FederationStarted(CLIENTS, 1, 5))
    step(watch, clock, seconds=2, times=WARM_UP + MEASURED - 1)
    assert estimates(seen) == []
    step(watch, clock, seconds=2, times=30)
    assert len(estimates(seen)) == 1


def test_a_round_of_few_steps_gives_no_estimate_before_its_end(seen, clock):
    watch = Estimator(seen.append, lambda client, modality, n: 1, clock=clock)
    watch(FederationStarted(CLIENTS, 1, 5))
    step(watch, clock, seconds=2, times=WARM_UP + MEASURED)
    assert estimates(seen) == []


def test_a_round_that_asks_half_of_the_clients_has_half_of_the_steps(seen, clock):
    watch = Estimator(seen.append, lambda client, modality, n: 4 * -(-n // 4), 0.5, clock)
    watch(FederationStarted(CLIENTS, 1, 5))
    step(watch, clock, seconds=2, times=WARM_UP + MEASURED)
    assert estimates(seen) == [2 * (5 * 8 - WARM_UP - MEASURED)]


def test_rounds_give_their_mean_times_the_rounds_left(watch, seen):
    watch(FederationStarted(CLIENTS, 1, 4))
    for seconds in (10, 20, 30, 40):
        watch(RoundDone({"seconds": seconds}))
    assert estimates(seen) == [10 * 3, 15 * 2, 20 * 1, 0]


def test_a_resumed_run_counts_only_the_rounds_left(watch, seen, clock):
    watch(FederationStarted(CLIENTS, 4, 5))
    step(watch, clock, seconds=1, times=WARM_UP + MEASURED)
    watch(RoundDone({"seconds": 7}))
    assert estimates(seen) == [2 * 8 - WARM_UP - MEASURED, 7]


def test_an_estimate_follows_the_event_it_is_made_of(watch, seen):
    watch(FederationStarted(CLIENTS, 1, 2))
    done = RoundDone({"seconds": 3})
    watch(done)
    assert seen[1:] == [done, Estimated(3)]


def test_without_a_clock_it_takes_the_systems(seen):
    watch = Estimator(seen.append, lambda client, modality, n: 2 * -(-n // 4))
    watch(FederationStarted(CLIENTS, 1, 5))
    for number in range(WARM_UP + MEASURED):
        watch(StepDone("a", 1, number + 1, 6))
    (left,) = estimates(seen)
    assert 0 <= left < 60


def test_before_a_round_is_over_the_estimate_is_a_lower_bound(watch, seen, clock):
    watch(FederationStarted(CLIENTS, 1, 2))
    step(watch, clock, seconds=1, times=WARM_UP + MEASURED)
    watch(RoundDone({"seconds": 7}))
    assert [event.at_least for event in seen if isinstance(event, Estimated)] == [True, False]
