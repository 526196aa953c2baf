"""Differential privacy of a round: clients' updates clipped, their mean blurred before anybody sees it.

Source: McMahan et al. 2018, DP-FedAvg with flat clipping and noise added by the server. An update is all
floats that a client reports, buffers too, minus what it received. One client moves the sum of n updates by C
at most, the sum has noise of standard deviation Z·C, and n is no secret. Integers (BatchNorm's counters) do
not move at all.
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
from flames_cli.core.federated.reports import Entries, Report, floats_of
from flames_cli.core.federated.running_sum import RunningSum, cast, in_blocks
from flames_cli.core.federated.update_norms import distance
from flames_cli.core.federated.wire import ROUNDING, narrow, widen

KEY_BYTES = 32
"""Of the secret that noise is drawn from."""

LEAST_VARIANCE = 1e-5
"""Of a running variance after noise: what BatchNorm itself adds before it takes the root."""

_SLACK = 1e-6
"""Of a norm that sums in another order give."""

_LEAST_STEP = 2.0**-25
"""How far fp16 moves what is smaller than its smallest normal number, at most."""


@dataclass(frozen=True, slots=True)
class NoiseKey:
    """The secret that a run's noise is drawn from, and what models travel as.

    A secret, not the run's seed: clients know that, and whoever can draw the noise again can take it away.
    """

    secret: bytes = field(repr=False)
    wire: str = "fp32"

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"noise needs a secret of {KEY_BYTES} bytes, got {len(self.secret)}")


@dataclass(frozen=True, slots=True)
class Release:
    """One group's model in one round, about to be seen."""

    key: NoiseKey
    round: int
    group: str

    def seed(self, digest: bytes) -> bytes:
        """Of the noise over a sum of this digest.

        A round done again after a crash, on the same reports, so gives the same model to the last bit, and
        nobody learns more than before. On other reports the noise is independent: the same noise over two
        sums would show their difference bare.
        """
        keyed = hashlib.blake2b(key=self.key.secret, digest_size=KEY_BYTES)
        keyed.update(f"{self.round} {len(self.group.encode())} {self.group} ".encode() + digest)
        return keyed.digest()


def clip_update(weights: Weights, start: Weights, clip: float) -> Weights:
    """What a client reports that trained from `start` to `weights`: no further away than `clip`, in L2.

    Integers are as in `start`. What is not finite stays as it is, for the server to refuse.
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
    """The mean of clipped updates with Gaussian noise; every report counts the same.

    Reports are clipped once more here: one that was narrowed on its way, or that was not clipped at all,
    cannot move the sum further than the noise hides. Takes one running sum of memory, as a plain mean.
    """

    def __init__(self, start: Weights, entries: Entries, privacy: Privacy, release: Release) -> None:
        self._start = entries.shared_of(start)
        wire = release.key.wire
        # What clients received, which may differ from what the server has by more than they may move.
        self._received = widen(*_travel(floats_of(self._start), wire))
        self._variances = entries.variances
        self._privacy, self._release, self._rounding = privacy, release, ROUNDING[wire]
        self._sum = RunningSum()
        self._n = 0

    def rejection_reason(self, report: Report) -> str | None:
        """Why `report` cannot have been clipped by its client, or None."""
        floats = floats_of(report.weights)
        norm, clip = distance(floats, self._received), self._privacy.clip
        size = distance(floats, {})
        least = _LEAST_STEP * math.sqrt(sum(array.size for array in floats.values()))
        if norm > clip * (1 + _SLACK) + 2 * self._rounding * size + least:
            return f"its update has a norm of {norm:.6g}, expected at most {clip:g} (--dp-clip)"
        return None

    def add(self, report: Report) -> None:
        """Add the report's update, clipped."""
        floats = floats_of(report.weights)
        self._sum.add(floats, _scale(distance(floats, self._received), self._privacy.clip))
        self._n += 1

    def server(self) -> Weights:
        """What was received plus the mean update and noise; integers as they were."""
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
        """Of all that the mean without noise depends on."""
        digest = hashlib.blake2b(f"{self._n} {self._sum.total.hex()}".encode())
        for name, received in self._received.items():
            digest.update(name.encode())
            for blocks in in_blocks(self._sum[name], received):
                for block in blocks:
                    digest.update(block.tobytes())
        return digest.digest()


def _travel(weights: Weights, wire: str) -> tuple[Weights, str, dict[str, str]]:
    narrowed, dtypes = narrow(weights, wire)
    return narrowed, wire, dtypes


def draw_normal(seed: bytes, n: int) -> Floats:
    """`n` values of the standard normal distribution, by Box and Muller (1958) out of SHAKE-256.

    Not by numpy's generators: some of the model's entries do not move, so that their noise stands bare, and
    from enough of it a generator that is no cipher gives away what else it drew. No value is beyond 8.6.
    """
    pairs = -(-n // 2)
    bits = np.frombuffer(hashlib.shake_256(seed).digest(16 * pairs), "<u8") >> np.uint64(11)
    uniform = (bits + 1.0) * 2.0**-53  # above 0, up to 1
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]
