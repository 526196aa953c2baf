"""Terms of a secure sum: what it is for, and how clients weigh. All keys of a session are bound to them.

The server gives the same terms to all clients of a session: with different ones, their masks do not cancel.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Literal

from flames_cli.arrays import Weights
from flames_cli.core.federated.distributed_noise import NoiseShares, private_entries
from flames_cli.core.federated.pooled_numbers import NAMES
from flames_cli.core.federated.secure_blend import INVERSE, WEIGHINGS, Weighing
from flames_cli.core.federated.sum_layout import SumLayout
from flames_cli.core.federated.summed_preferences import N_PARTS
from flames_cli.secagg.fixed_point import FixedPoint
from flames_cli.store.files.parse import parse_json

Purpose = Literal["round", "final"]
"""Sum of a training round, or of the pass after the last round."""
PURPOSES: tuple[Purpose, ...] = ("round", "final")

LARGEST_COUNT = 10**9

DIGEST_LETTERS = 64
"""Number of letters of a SHA-256."""


@dataclass(frozen=True, slots=True)
class SumTerms:
    """Terms of the sum of one model group in one round.

    Raises:
        ValueError: a value is outside its limits.
    """

    run: str
    """Token of the run."""
    purpose: Purpose = "round"
    weighing: Weighing = "uniform"
    reference: int = 1
    """Number of images or steps by which the factors are divided (see `secure_blend.weigh`)."""
    images: int = 1
    """Largest number of validation images of the clients that are asked (see `pooled_numbers`)."""
    noise: float = 0.0
    """Noise multiplier Z of the noise that the clients add in shares; 0: none."""
    clip: float = 0.0
    """Clipping norm C of their updates; 0: the weights themselves are in the sum."""
    choosing: bool = False
    """True if the clients choose among candidates, whose results are in the sum (`summed_preferences`)."""
    asked: str = ""
    """SHA-256 of the request, the same for all clients (`asked`)."""
    models: tuple[str, ...] = ()
    """SHA-256 of each different model or sum that is sent to a client. Clients of FLAMES whose last reports
    are in different sums get different ones; all others get one."""

    def __post_init__(self) -> None:
        known = self.purpose in PURPOSES and self.weighing in WEIGHINGS
        counts = (self.reference, self.images)
        known &= all(isfinite(one) and one >= 0 for one in (self.noise, self.clip))
        known &= (self.noise > 0) == (self.clip > 0) and (not self.noise or self.weighing == "uniform")
        known &= type(self.choosing) is bool
        known &= self.weighing == INVERSE or self.purpose == "final" or len(self.models) < 2
        known &= all(
            isinstance(one, str) and len(one) <= DIGEST_LETTERS for one in (self.asked, *self.models)
        )
        if not known or not all(type(one) is int and 1 <= one <= LARGEST_COUNT for one in counts):
            raise ValueError("its terms have values of another release; install the same version everywhere")

    @property
    def private(self) -> bool:
        """True if the sum is of clipped updates with noise."""
        return self.noise > 0

    def noise_shares(self, layout: SumLayout, fixed: FixedPoint, clients: int, least: int) -> NoiseShares:
        """Return the sizes of the clients' noise.

        Args:
            layout: layout of the vector.
            fixed: format of its words.
            clients: number of clients that may be in the sum.
            least: smallest number of clients in a sum that is opened.

        Raises:
            FlamesError: the noise does not fit the words.
        """
        return NoiseShares(
            self.noise, self.clip, layout.n_weights, fixed.fraction, fixed.bits, clients, least
        )

    @property
    def factors(self) -> str:
        """The terms as one text without the requests: a repeated round may begin with other models, since
        each sum of FLAMES has new words."""
        return replace(self, asked="", models=()).to_text()

    def to_text(self) -> str:
        """Return the terms as one text, the same for the same terms."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> "SumTerms":
        """Return the terms in `text`.

        Raises:
            ValueError: it has no valid terms.
        """
        found = parse_json(text)
        if not isinstance(found, dict) or found.keys() != {one.name for one in fields(cls)}:
            raise ValueError("its terms are not those of a secure sum; install the same version everywhere")
        if not isinstance(found["models"], list):
            raise TypeError("its models are no list")
        return cls(**{**found, "models": tuple(found["models"])})


def round_layout(shared: Weights, terms: SumTerms) -> SumLayout:
    """Return the vector of a training round for a model with the entries `shared`.

    With noise it has no losses and no scores, which the noise would not cover.
    """
    if terms.private:
        return SumLayout.of(private_entries(shared), with_plain=False, n_numbers=0)
    results = N_PARTS if terms.choosing else 0
    return SumLayout.of(shared, terms.weighing == INVERSE, len(NAMES) + results)
