import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.secagg import keys

ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_x25519_has_the_numbers_of_rfc_7748():
    """Section 6.1."""
    alice, bob = bytes.fromhex(ALICE), bytes.fromhex(BOB)
    assert keys.public_key(alice).hex() == ALICE_PUBLIC
    assert keys.agree(alice, keys.public_key(bob)).hex() == SHARED
    assert keys.agree(bob, keys.public_key(alice)).hex() == SHARED


def test_hkdf_has_the_numbers_of_rfc_5869():
    """Test case 3: no salt and no info; a shorter key is the beginning of a longer one."""
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert keys.derive(b"\x0b" * 22, b"").hex() == expected


SMALL_ORDER = [bytes(32), b"\1" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")]
"""Points 0, 1 and -1: the secret that they give is 0 for every private key."""


@pytest.mark.parametrize("public", [*SMALL_ORDER, b"", bytes(31), bytes(33)], ids=range(6))
def test_keys_that_give_everybody_one_secret_or_have_another_size_cannot_be_used(public):
    assert not keys.is_usable(public)
    with pytest.raises(ValueError):  # noqa: PT011 -- the message is of the library
        keys.agree(keys.make_secret(), public)


def test_a_key_of_a_pair_can_be_used():
    assert keys.is_usable(keys.public_key(keys.make_secret()))


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_no_two_lists_of_parts_give_one_text(one, two):
    assert (keys.pack(*one) == keys.pack(*two)) == (one == two)


def test_a_signature_fits_one_text_and_one_owner():
    owner, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = owner.public_key().public_bytes_raw()
    assert keys.is_signed(b"text", owner.sign(b"text"), public)
    assert not keys.is_signed(b"text.", owner.sign(b"text"), public)
    assert not keys.is_signed(b"text", other.sign(b"text"), public)
    assert not keys.is_signed(b"text", b"", public)
    assert not keys.is_signed(b"text", owner.sign(b"text"), b"no key")
