import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core import pseudonyms as module
from flames_cli.core.pseudonyms import SALT_BYTES, pseudonym, pseudonyms
from flames_cli.errors import FlamesError

SALT = bytes(range(SALT_BYTES))
IDS = st.text(min_size=1, max_size=20)


def hmac_by_hand(key: bytes, message: bytes) -> str:
    """Compute the HMAC of RFC 2104, for keys of at most a block of SHA-256."""
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).hexdigest()


@given(st.text("abc 0123-/é", min_size=1, max_size=20))
def test_a_pseudonym_is_the_start_of_a_keyed_hash(patient):
    assert pseudonym(SALT, patient) == f"p-{hmac_by_hand(SALT, patient.encode())[:16]}"


def test_the_keyed_hash_is_that_of_rfc_4231():
    """Test case 2 of the RFC: its key is not a valid salt, but the arithmetic is the same."""
    assert pseudonym(b"Jefe", "what do ya want for nothing?") == "p-5bdcc146bf60754e"


@given(IDS)
def test_a_pseudonym_is_made_of_sixteen_hex_digits_whatever_the_id(patient):
    assert re.fullmatch("p-[0-9a-f]{16}", pseudonym(SALT, patient))


@given(st.sets(IDS.map(lambda text: text.replace("\u0301", "")), min_size=2))
def test_another_salt_gives_everybody_another_name(patients):
    one, other = ({pseudonym(salt, patient) for patient in patients} for salt in (SALT, SALT[::-1]))
    assert one.isdisjoint(other)


def test_an_accent_counts_the_same_in_one_character_or_two():
    assert pseudonym(SALT, "Ren\u00e9") == pseudonym(SALT, "Rene\u0301") != pseudonym(SALT, "Rene")


def test_names_of_files_that_are_no_text_have_pseudonyms_too():
    names = pseudonyms(SALT, [b"\xff".decode("utf-8", "surrogateescape"), "ÿ"])
    assert len(set(names.values())) == 2


def test_everybody_gets_one_name_however_often_they_are_listed():
    assert pseudonyms(SALT, ["a", "b", "a"]) == {name: pseudonym(SALT, name) for name in "ab"}


def test_two_ids_that_are_one_text_are_rejected_not_merged():
    with pytest.raises(FlamesError, match=r"'Ren\\xe9' and 'Rene\\u0301' would have the same pseudonym"):
        pseudonyms(SALT, ["Ren\u00e9", "Rene\u0301"])


def test_two_ids_that_meet_by_chance_are_rejected_not_merged(monkeypatch):
    monkeypatch.setattr(module, "DIGITS", 1)
    with pytest.raises(
        FlamesError, match="would have the same pseudonym, expected different ones; give them"
    ):
        pseudonyms(SALT, map(str, range(17)))
