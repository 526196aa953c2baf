import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from flames_cli.secagg import masks
from flames_cli.secagg.masks import AES_BLOCK, BLOCK, SHARE, Mask, add_group_mask, add_masks

KEYS = [bytes([i]) * 32 for i in range(3)]
LENGTHS = [0, 1, 2, 3, BLOCK // 8 - 1, BLOCK // 8, BLOCK // 8 + 1, 2 * SHARE // 8 + 5]


def stream(key, size):
    """AES in counter mode by its definition: the encrypted numbers 0, 1, 2 …"""
    numbers = b"".join(i.to_bytes(16, "big") for i in range(-(-size // AES_BLOCK)))
    return Cipher(AES(key), ECB()).encryptor().update(numbers)[:size]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("length", LENGTHS)
def test_masks_are_added_and_subtracted_modulo_two_to_the_bits(length, bits):
    words = np.arange(length, dtype=f"<u{bits // 8}")
    plus, minus = (np.frombuffer(stream(key, words.nbytes), words.dtype) for key in KEYS[:2])
    expected = words + plus - minus
    add_masks(words, [Mask(KEYS[0], minus=False), Mask(KEYS[1], minus=True)])
    np.testing.assert_array_equal(words, expected)


@pytest.mark.parametrize("bits", [32, 64])
def test_a_mask_is_added_several_times(bits):
    words, expected = (np.arange(1000, dtype=f"<u{bits // 8}") for _ in range(2))
    add_masks(words, [Mask(KEYS[0], minus=False, times=7)])
    for _ in range(7):
        add_masks(expected, [Mask(KEYS[0], minus=False)])
    np.testing.assert_array_equal(words, expected)
    add_masks(words, [Mask(KEYS[0], minus=True, times=7)])
    np.testing.assert_array_equal(words, np.arange(1000))


@pytest.mark.parametrize("length", LENGTHS)
def test_the_same_masks_cancel(length):
    words = np.arange(length, dtype="<u8")
    add_masks(words, [Mask(key, minus=False) for key in KEYS])
    assert length == 0 or not np.array_equal(words, np.arange(length))
    add_masks(words, [Mask(key, minus=True) for key in KEYS])
    np.testing.assert_array_equal(words, np.arange(length))


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_threads_change_no_bit(monkeypatch, cores):
    monkeypatch.setattr(masks, "_usable_cores", lambda: cores)
    words = np.zeros(3 * SHARE // 8 + 3, "<u8")
    add_masks(words, [Mask(KEYS[0], minus=False)])
    assert words.tobytes() == stream(KEYS[0], words.nbytes)


def test_a_longer_vector_begins_with_the_same_mask():
    short, long = np.zeros(100, "<u8"), np.zeros(2 * SHARE // 8, "<u8")
    for words in (short, long):
        add_masks(words, [Mask(KEYS[0], minus=False)])
    np.testing.assert_array_equal(short, long[:100])


def test_each_entry_has_a_mask_of_the_group_of_its_own():
    one, other, third = (np.zeros(100, "<u8") for _ in range(3))
    add_group_mask(one, KEYS[0], "conv.weight")
    add_group_mask(other, KEYS[0], "conv.bias")
    add_group_mask(third, KEYS[1], "conv.weight")
    assert not np.any(one == other)
    assert not np.any(one == third)
    add_group_mask(one, KEYS[0], "conv.weight", 2)
    add_group_mask(one, KEYS[0], "conv.weight", -3)
    assert not one.any()


def test_no_second_vector_is_needed():
    import tracemalloc

    words = np.zeros(1 << 20, "<u8")
    tracemalloc.start()
    add_masks(words, [Mask(key, minus=False) for key in KEYS])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < words.nbytes / 8
