import pytest

from flames_cli.secagg.sealing import NONCE_BYTES, seal, unseal

KEY, TEXT, CONTEXT = b"k" * 32, b"two shares", b"session 1, from a to b"


def test_a_box_opens_with_its_key_and_context():
    assert unseal(KEY, seal(KEY, TEXT, CONTEXT), CONTEXT) == TEXT


@pytest.mark.parametrize("position", [0, NONCE_BYTES - 1, NONCE_BYTES, -1])
def test_a_changed_box_does_not_open(position):
    box = bytearray(seal(KEY, TEXT, CONTEXT))
    box[position] ^= 1
    assert unseal(KEY, bytes(box), CONTEXT) is None


@pytest.mark.parametrize("box", [b"", b"short", bytes(27), bytes(100)], ids=len)
def test_what_is_no_box_does_not_open(box):
    assert unseal(KEY, box, CONTEXT) is None


def test_another_key_or_context_opens_nothing():
    box = seal(KEY, TEXT, CONTEXT)
    assert unseal(b"x" * 32, box, CONTEXT) is None
    assert unseal(KEY, box, CONTEXT + b".") is None


def test_the_same_text_gives_another_box_each_time():
    assert seal(KEY, TEXT, CONTEXT) != seal(KEY, TEXT, CONTEXT)
