"""Shamir's secret sharing over the integers modulo a prime.

Source: Shamir 1979, "How to Share a Secret". Any `threshold` shares give the secret; fewer say nothing of it.
"""

import secrets
from collections.abc import Mapping
from functools import lru_cache

PRIME = 2**256 + 297
"""The smallest prime above 2^256, so that every secret of 32 bytes is a number of the field."""

SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Return a share of the secret for each holder: the values of a random polynomial at 1 … `holders`.

    The constant term is the secret, the other `threshold` - 1 coefficients come from the system's generator.
    """
    if not 1 <= threshold <= holders:
        raise ValueError(f"the threshold is {threshold}, expected 1 to {holders}")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the secret has {len(secret)} bytes, expected {SECRET_BYTES}")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return [_evaluate(coefficients, point).to_bytes(SHARE_BYTES, "big") for point in range(1, holders + 1)]


def combine(shares: Mapping[int, bytes]) -> bytes | None:
    """Return the secret of shares by their points, or None if they give a number that is no secret.

    All given shares are used: give exactly as many as the threshold.
    """
    points = tuple(sorted(shares))
    total = 0
    for point, coefficient in zip(points, _coefficients_at_zero(points), strict=True):
        total += coefficient * int.from_bytes(shares[point], "big")
    number = total % PRIME
    return number.to_bytes(SECRET_BYTES, "big") if number < 2 ** (8 * SECRET_BYTES) else None


def _evaluate(coefficients: list[int], point: int) -> int:
    """Return the value of a polynomial at `point`, by Horner's rule."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value


@lru_cache(maxsize=8)  # all secrets of a session are mostly given by the same holders
def _coefficients_at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's coefficient of each point for the value at 0."""
    found = []
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(found)
