"""Learning rate of the clients by round."""

import math
from dataclasses import dataclass
from typing import Literal

SCHEDULES = ("constant", "cosine", "step")
STEP_FACTOR = 0.1
"""Factor of the schedule step at each of its two milestones."""


@dataclass(frozen=True, slots=True)
class LrSchedule:
    """Factor of the learning rate in each round: a warm-up, and then a schedule over the other rounds.

    The server computes it, and a client receives its rate as a number.
    """

    kind: Literal["constant", "cosine", "step"] = "constant"
    warmup: int = 0
    """Number of rounds of the warm-up."""

    @property
    def depends_on_rounds(self) -> bool:
        """True if another number of rounds in total changes the rates of the rounds before."""
        return self.kind != "constant"

    def factor(self, round_: int, rounds: int) -> float:
        """Return the factor of round `round_` (from 1) of `rounds`, above 0 and at most 1.

        With W rounds of warm-up, round r ≤ W has r / (W + 1): a linear warm-up (Goyal et al. 2017, "Accurate,
        Large Minibatch SGD", section 2.2) by rounds. The other T = rounds − W rounds have, with
        t = r − W − 1 of 0 to T − 1:

        - constant: 1.
        - cosine: (1 + cos(π·t/T)) / 2, cosine annealing to 0 without restarts (Loshchilov and Hutter 2017,
          "SGDR", equation 5).
        - step: STEP_FACTOR to the power of the milestones passed, which are at T/2 and 3T/4 (He et al. 2016,
          "Deep Residual Learning", section 4.2).

        A round after the last one has the factor of the last one.
        """
        if round_ <= self.warmup:
            return round_ / (self.warmup + 1)
        total = max(rounds - self.warmup, 1)
        done = min(round_ - self.warmup - 1, total - 1)
        if self.kind == "cosine":
            return (1 + math.cos(math.pi * done / total)) / 2
        if self.kind == "step":
            return float(STEP_FACTOR ** ((2 * done >= total) + (4 * done >= 3 * total)))
        return 1.0
