import itertools
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.secagg.shamir import PRIME, combine, split


def is_prime(number, rounds=30):
    """Miller and Rabin's test."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    rng = random.Random(0)
    for _ in range(rounds):
        power = pow(rng.randrange(2, number - 1), odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def test_the_field_is_the_smallest_prime_above_all_secrets():
    assert is_prime(PRIME)
    assert not any(is_prime(number) for number in range(2**256, PRIME))


@given(secret=st.binary(min_size=32, max_size=32), data=st.data())
def test_any_shares_as_many_as_the_threshold_give_the_secret(secret, data):
    holders = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, holders))
    shares = split(secret, threshold, holders)
    points = data.draw(st.permutations(range(1, holders + 1)))[:threshold]
    assert combine({point: shares[point - 1] for point in points}) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32], ids=["least", "largest"])
def test_the_ends_of_the_range_are_secrets(secret):
    shares = split(secret, 2, 3)
    for one, two in itertools.combinations(range(3), 2):
        assert combine({one + 1: shares[one], two + 1: shares[two]}) == secret


def test_fewer_shares_than_the_threshold_fit_every_secret():
    """One share fewer, with a share of any value, gives another secret for each value."""
    shares = split(os.urandom(32), 3, 5)
    guesses = {combine({1: shares[0], 2: shares[1], 3: value.to_bytes(33, "big")}) for value in range(50)}
    assert len(guesses) == 50


def test_the_shares_of_one_secret_are_new_each_time():
    secret = os.urandom(32)
    assert not set(split(secret, 2, 3)) & set(split(secret, 2, 3))


def test_a_changed_share_gives_another_secret():
    secret = os.urandom(32)
    shares = split(secret, 2, 3)
    changed = bytes([0, shares[1][1] ^ 1, *shares[1][2:]])
    assert combine({1: shares[0], 2: changed}) != secret


def test_a_number_that_is_no_secret_is_none():
    assert combine({1: (2**256).to_bytes(33, "big")}) is None


@pytest.mark.parametrize(
    ("secret", "threshold", "holders"), [(bytes(32), 0, 3), (bytes(32), 4, 3), (bytes(31), 2, 3)]
)
def test_impossible_requests_are_a_bug(secret, threshold, holders):
    with pytest.raises(ValueError, match="expected"):
        split(secret, threshold, holders)
