"""Differential privacy of a round: clip the clients' updates, and add noise to their mean.

Source: McMahan et al. 2018, DP-FedAvg with flat clipping and noise added by the server. An update is the
difference between all floats that a client reports, including buffers, and the floats that it received. One
client changes the sum of n updates by at most C, the noise of the sum has standard deviation Z·C, and n is
public. Integers (BatchNorm's counters) are not changed.
"""

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Weights
from flames_cli.core.federated.algorithm import Privacy
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.blocks import in_blocks
from flames_cli.core.federated.final_statistics import statistics_of
from flames_cli.core.federated.reports import Entries, Report, floats_of
from flames_cli.core.federated.running_sum import RunningSum, cast
from flames_cli.core.federated.update_norms import distance
from flames_cli.core.federated.wire import ROUNDING, as_received

KEY_BYTES = 32
"""Number of bytes of the secret from which noise is drawn."""

LEAST_VARIANCE = 1e-5
"""Smallest running variance after noise; BatchNorm adds the same number before it takes the root."""

_SLACK = 1e-6
"""Relative tolerance of a norm, for sums taken in another order."""

_LEAST_STEP = 2.0**-25
"""Largest rounding error of fp16 for numbers below its smallest normal number."""


@dataclass(frozen=True, slots=True)
class NoiseKey:
    """The secret from which a run's noise is drawn, and the wire type of its models.

    The noise is not drawn from the run's seed: clients know the seed, and with the noise one could subtract
    it from the model.
    """

    secret: bytes = field(repr=False)
    wire: str = "fp32"
    """Type in which models travel (see `wire`)."""

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"noise needs a secret of {KEY_BYTES} bytes, got {len(self.secret)}")


@dataclass(frozen=True, slots=True)
class Release:
    """The release of one group's model in one round: clients will see the model."""

    key: NoiseKey
    round: int
    group: str

    def seed(self, digest: bytes) -> bytes:
        """Return the seed of the noise for a sum with this digest.

        A round that is repeated after a crash with the same reports therefore gives exactly the same model,
        from which nothing more can be learnt. With other reports the noise is independent: the same noise
        on two sums would reveal their difference.
        """
        keyed = hashlib.blake2b(key=self.key.secret, digest_size=KEY_BYTES)
        keyed.update(f"{self.round} {len(self.group.encode())} {self.group} ".encode() + digest)
        return keyed.digest()


def clip_update(weights: Weights, start: Weights, clip: float) -> Weights:
    """Return what a client reports after training from `start` to `weights`: the update clipped to an L2 norm
    of `clip`.

    Integers are those of `start`. Values that are not finite are not changed; the server rejects them.
    """
    floats = floats_of(weights)
    scale = _scale(distance(floats, start), clip)
    return {
        name: array if scale == 1.0 else _towards(start[name], array, scale) for name, array in floats.items()
    } | {name: start[name] for name in weights if name not in floats}


def _towards(start: NDArray[Any], array: NDArray[Any], scale: float) -> NDArray[Any]:
    wide = start.astype(np.float64)
    return np.asarray(wide + scale * (array - wide), array.dtype)


def _scale(norm: float, clip: float) -> float:
    return clip / norm if clip < norm < math.inf else 1.0


class PrivateMean(Blend):
    """The mean of clipped updates with Gaussian noise; all reports have the same weight.

    The server clips each report again: a report that was rounded to the wire type, or not clipped at all,
    then cannot move the sum further than the noise hides. Needs memory for one running sum, like a plain
    mean.
    """

    def __init__(self, start: Weights, entries: Entries, privacy: Privacy, release: Release) -> None:
        self._start = entries.shared_of(start)
        wire = release.key.wire
        self._frozen = entries.frozen
        floats = self._trained(self._start)
        # Reports are the server's weights plus a difference. Statistics travel as values: their update is
        # measured from those that the clients received, since the rounding may be larger than `clip`.
        self._statistics = as_received(statistics_of(floats), wire)
        self._received = {**floats, **self._statistics}
        self._variances = entries.variances
        self._privacy, self._release, self._rounding = privacy, release, ROUNDING[wire]
        self._sum = RunningSum()
        self._n = 0

    def rejection_reason(self, report: Report) -> str | None:
        """Return why `report` cannot have been clipped by its client; None if it can."""
        floats = self._floats_of(report)
        norm, clip = distance(floats, self._received), self._privacy.clip
        size = distance(floats, {})
        least = _LEAST_STEP * math.sqrt(sum(array.size for array in floats.values()))
        if norm > clip * (1 + _SLACK) + 2 * self._rounding * (size + clip) + least:
            return f"its update has a norm of {norm:.6g}, expected at most {clip:g} (--dp-clip)"
        return None

    def add(self, report: Report) -> None:
        """Clip the report's update and add it."""
        floats = self._floats_of(report)
        self._sum.add(floats, _scale(distance(floats, self._received), self._privacy.clip))
        self._n += 1

    def _floats_of(self, report: Report) -> Weights:
        """Return the report's floats, with unchanged statistics as the client received them.

        They are sent without data and read as the server's own (`coding`), which the rounding on the way to
        the client would make an update.
        """
        floats = self._trained(report.weights)
        return floats | {
            name: received
            for name, received in self._statistics.items()
            if name in floats and np.array_equal(floats[name], self._start[name])
        }

    def _trained(self, weights: Weights) -> Weights:
        """Return the floats that clients train; frozen ones need no noise, since no report changes them."""
        return {name: array for name, array in floats_of(weights).items() if name not in self._frozen}

    def server(self) -> Weights:
        """Return the received weights plus the mean update and noise; integers and frozen entries are not
        changed."""
        seed = self._release.seed(self._digest())
        deviation = self._privacy.noise * self._privacy.clip / self._n
        # Σ received + sᵢ(wᵢ − received) = Σ sᵢwᵢ + (n − Σsᵢ)·received
        rest = self._n - self._sum.total
        released = {name: array.copy() for name, array in self._start.items()}
        for name, received in self._received.items():
            for number, (sums, start, out) in enumerate(in_blocks(self._sum[name], received, released[name])):
                mean = (sums + rest * start.astype(np.float64)) / self._n
                noise = draw_normal(seed + f"{number} {name}".encode(), sums.size)
                out[...] = cast(mean + deviation * noise, out.dtype)
                if name in self._variances:
                    np.maximum(out, LEAST_VARIANCE, out=out)
        return released

    def _digest(self) -> bytes:
        """Return a digest of everything on which the mean without noise depends."""
        digest = hashlib.blake2b(f"{self._n} {self._sum.total.hex()}".encode())
        for name, received in self._received.items():
            digest.update(name.encode())
            for blocks in in_blocks(self._sum[name], received):
                for block in blocks:
                    digest.update(block.tobytes())
        return digest.digest()


def draw_normal(seed: bytes, n: int) -> Floats:
    """Return `n` values of the standard normal distribution, by Box and Muller (1958) from SHAKE-256.

    numpy's generators are not used: the noise of entries that do not move can be read from the model, and
    from enough such values one could predict all other values of a generator that is not cryptographic.
    All values are within ±8.6.
    """
    pairs = -(-n // 2)
    bits = np.frombuffer(hashlib.shake_256(seed).digest(16 * pairs), "<u8") >> np.uint64(11)
    uniform = (bits + 1.0) * 2.0**-53  # above 0, up to 1
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]
