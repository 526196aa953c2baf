"""The buffer of an asynchronous federation. Imports no numpy, since the definition of an algorithm has it."""

from dataclasses import dataclass

USUAL_EXPONENT = 0.5
"""Exponent of the weight in FedBuff's experiments: 1 / √(1 + τ) (Nguyen et al. 2022, section 5)."""


@dataclass(frozen=True, slots=True)
class Buffering:
    """Size of the buffer of reports that makes the next version, and the exponent of the weight by staleness.

    A version is the state of a model group after one flush of the buffer. The staleness τ of a report is the
    number of versions that were made since its client got its model.

    Raises:
        ValueError: the size is below 1, or the exponent is negative or not finite.
    """

    size: int
    """Number of reports that make the next version."""
    exponent: float = USUAL_EXPONENT
    """Exponent a of the weight (1 + τ)^−a; 0: a stale report counts as much as a fresh one."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"the buffer's size is {self.size}, expected 1 or more")
        if not 0 <= self.exponent < float("inf"):
            raise ValueError(f"the exponent of staleness is {self.exponent}, expected 0 or more")

    def weight(self, staleness: int) -> float:
        """Return the weight (1 + τ)^−a of a report with staleness τ, in (0, 1]; it is 1 for a fresh report.

        Source: Xie et al. 2019, FedAsync, section 5.2, the polynomial function.

        Raises:
            ValueError: the staleness is negative.
        """
        if staleness < 0:
            raise ValueError(f"the staleness is {staleness}, expected 0 or more")
        return float((1 + staleness) ** -self.exponent)
