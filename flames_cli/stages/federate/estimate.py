"""Estimate of the time that a federation still needs: from its first steps, then from its rounds."""

import time
from collections.abc import Callable

from flames_cli.fed.events import Estimated, Event, FederationStarted, OnEvent, RoundDone, StepDone

WARM_UP = 1
"""Number of steps that are not timed: the first step compiles kernels and fills caches."""

MEASURED = 3
"""Number of steps timed before the first estimate."""


class Estimator:
    """Listener that passes events on, and adds an `Estimated` after the first steps and after every round.

    `steps_a_round` returns a client's steps from its name, its modality and its number of training images;
    `fraction` is the fraction of the clients that a round asks.
    """

    def __init__(
        self,
        on_event: OnEvent,
        steps_a_round: Callable[[str, str, int], int],
        fraction: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_event = on_event
        self._steps_of = steps_a_round
        self._fraction = fraction
        self._clock = clock
        self._steps_a_round = 0
        self._rounds_left = 0
        self._seen = 0
        self._started = 0.0
        self._round_seconds: list[float] = []

    def __call__(self, event: Event) -> None:
        """Update the estimate and pass `event` on."""
        self._on_event(event)
        if isinstance(event, FederationStarted):
            self._rounds_left = event.rounds - event.first_round + 1
            steps = sum(self._steps_of(*client) for client in event.clients)
            self._steps_a_round = max(round(self._fraction * steps), 1)
        elif isinstance(event, StepDone):
            self._count_step()
        elif isinstance(event, RoundDone):
            self._rounds_left -= 1
            self._round_seconds.append(float(event.record["seconds"]))
            mean = sum(self._round_seconds) / len(self._round_seconds)
            self._on_event(Estimated(mean * self._rounds_left))

    def _count_step(self) -> None:
        self._seen += 1
        if self._seen == WARM_UP:
            self._started = self._clock()
        if self._seen == WARM_UP + MEASURED and self._steps_a_round > self._seen:
            step = (self._clock() - self._started) / MEASURED
            left = step * (self._steps_a_round * self._rounds_left - self._seen)
            self._on_event(Estimated(left, at_least=True))
