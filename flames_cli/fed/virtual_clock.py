"""The virtual clock of a simulation: it decides, by seed, how long each client's training takes.

The order of arrival then follows from the options alone, not from the speed of the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flames_cli.core.rng import derive_rng

STEP_SECONDS = 1.0
"""Virtual duration of a training step of a client without a factor of its own."""


@dataclass(frozen=True, slots=True)
class VirtualClock:
    """Virtual durations of trainings, by client and number of the training."""

    seed: int
    slow: Mapping[str, float] = field(default_factory=dict)
    """Factor, above 0, by which a client's steps take longer; 1 for a client without an entry."""
    jitter: float = 0.0
    """Largest random deviation of a duration, as a part of it, in [0, 1)."""

    def duration(self, client: str, number: int, steps: int) -> float:
        """Return the seconds that training `number` (from 1) of a client takes, for its number of `steps`."""
        drawn = derive_rng(self.seed, "duration", client, number).uniform(-self.jitter, self.jitter)
        return steps * STEP_SECONDS * self.slow.get(client, 1.0) * (1.0 + float(drawn))
