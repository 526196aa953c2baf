import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.secagg import Declined
from flames_cli.secagg.fixed_point import FIXED_POINTS

EVERY_SIZE = pytest.mark.parametrize("bits", [32, 64])


def encode(values, clients, bits=64, factor=1.0):
    values = np.asarray(values)
    words = np.empty(values.size, f"<u{bits // 8}")
    FIXED_POINTS[bits].encode_into(words, values, factor, clients, "block.weight")
    return words


@EVERY_SIZE
@given(data=st.data())
def test_the_error_of_a_sum_is_within_the_bound(bits, data):
    clients = data.draw(st.integers(1, 20))
    fixed = FIXED_POINTS[bits]
    limit = fixed.bound(clients) * (1 - 1e-9)
    values = [data.draw(st.floats(-limit, limit)) for _ in range(clients)]
    total = sum(encode([value], clients, bits) for value in values)
    exact = sum(int(value * 2**120) if abs(value) > 2**-60 else 0 for value in values)  # in integers
    error = abs(int(fixed.decode(total)[0] * 2**60) * 2**60 - exact) / 2**120
    rounding = abs(exact / 2**120) * 2**-52  # of the decoded float64
    assert error <= fixed.error(clients) + rounding + 2**-55


@EVERY_SIZE
@pytest.mark.parametrize("clients", [1, 3, 7, 100])
def test_the_largest_values_of_all_clients_do_not_overflow(bits, clients):
    fixed = FIXED_POINTS[bits]
    largest = fixed.bound(clients)
    for sign in (1, -1):
        total = sum(
            int(word)
            for word in encode(np.full(clients, sign * largest), clients, bits).view(f"<i{bits // 8}")
        )
        assert abs(total) < 2 ** (bits - 1)
        words = encode(np.full(clients, sign * largest), clients, bits)
        assert fixed.decode(np.sum(words, keepdims=True, dtype=words.dtype))[0] == pytest.approx(
            sign * largest * clients
        )


@EVERY_SIZE
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_a_value_out_of_range_names_its_entry(bits, value):
    with pytest.raises(
        Declined, match=r"the largest absolute value of block.weight is .*expected a finite number up to"
    ):
        encode([0.0, value, 1.0], 3, bits)


@EVERY_SIZE
def test_a_value_just_beyond_the_bound_is_an_error(bits):
    bound = FIXED_POINTS[bits].bound(10)
    encode([bound], 10, bits)
    with pytest.raises(Declined, match="10 clients"):
        encode([bound * 1.001], 10, bits)


def test_values_are_rounded_to_the_nearest_and_ties_to_even():
    unit = 2.0**-16
    words = encode(np.array([0.5, 1.5, 1.4, -0.5, -1.6]) * unit, 1, bits=32)
    assert words.view("<i4").tolist() == [0, 2, 1, 0, -2]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_the_factor_is_applied_in_float64(dtype):
    decoded = FIXED_POINTS[64].decode(encode(np.array([3, -7, 11], dtype), 3, factor=1 / 3))
    np.testing.assert_allclose(decoded, [1, -7 / 3, 11 / 3], atol=2**-37, rtol=0)


def test_large_arrays_have_the_words_of_small_ones():
    values = np.random.default_rng(0).standard_normal(5 * 2**19, np.float32)
    words = encode(values.reshape(5, -1), 3)
    assert np.array_equal(words[-1000:], encode(values[-1000:], 3))
    np.testing.assert_allclose(FIXED_POINTS[64].decode(words), values, atol=2**-37)


def test_words_of_another_size_or_type_are_a_bug():
    for words in (np.empty(2, "<u8"), np.empty(3, "<u4")):
        with pytest.raises(ValueError, match="cannot take 3"):
            FIXED_POINTS[64].encode_into(words, np.zeros(3), 1.0, 3, "w")
