"""Messages of secure aggregation: everything that another machine sends is checked where it enters."""

import json

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from flames_cli.errors import FlamesError
from flames_cli.fed.records import pack_weights
from flames_cli.fed.secure import messages
from flames_cli.fed.secure.messages import (
    BLOBS,
    KEYS,
    SECURE,
    WORDS,
    MaskedReport,
    Part,
    ask,
    only,
    pack_masked,
    read_part,
    reply_with,
    unpack_masked,
)
from flames_cli.fed.secure.terms import SumTerms
from tests.support.secure import TOKEN

pytestmark = pytest.mark.usefixtures("identity")

SESSION = "0123456789abcdef" * 2
PART = Part(SESSION, TOKEN, {"a": b"xyz", "b": b""}, ("a", "b"))


def message(part=PART):
    return ask(KEYS, 7, part, "3")


def test_a_part_arrives_as_it_was_sent():
    sent = message()
    assert sent.metadata.message_type == "query.keys"
    assert read_part(sent) == PART
    assert read_part(reply_with(PART, sent)) == PART


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session", "ab"),
        ("session", SESSION.upper()),
        ("session", 5),
        ("run", "../../etc"),
        ("names", ["a" * 201]),
        ("names", ["a\n"]),
        ("names", [1]),
        ("names", "a"),
    ],
)
def test_a_part_with_another_field_is_not_read(field, value):
    sent = message()
    sent.content[SECURE] = ConfigRecord({**dict(sent.content[SECURE]), field: value})
    with pytest.raises((ValueError, TypeError, FlamesError)):
        read_part(sent)


@pytest.mark.parametrize("array", [np.ones(3), np.ones((2, 2), np.uint8), np.array(3, np.uint8)])
def test_bytes_of_another_shape_or_type_are_not_read(array):
    sent = message()
    sent.content[BLOBS] = pack_weights({"a": array})
    with pytest.raises(ValueError, match="expected at most"):
        read_part(sent)


def test_too_many_or_too_long_bytes_are_not_read(monkeypatch):
    monkeypatch.setattr(messages, "LARGEST_BLOB", 2)
    with pytest.raises(ValueError, match="expected at most 2 bytes"):
        read_part(message())
    monkeypatch.setattr(messages, "MOST_CLIENTS", 1)
    with pytest.raises(ValueError, match="at most 1"):
        read_part(message())


def test_only_the_expected_bytes_are_taken():
    assert only(Part(SESSION, TOKEN, {"advert": b"1"}), "advert") == b"1"
    for blobs in ({}, {"dealing": b"1"}, {"advert": b"1", "more": b""}):
        with pytest.raises(ValueError, match="expected 'advert' alone"):
            only(Part(SESSION, TOKEN, blobs), "advert")


def masked(words):
    return pack_masked(MaskedReport("a", "MRI", 3, SESSION, words), message())


@pytest.mark.parametrize("dtype", [np.uint64, np.uint32])
def test_a_masked_vector_arrives_as_it_was_sent(dtype):
    words = np.arange(5, dtype=dtype)
    found = unpack_masked(masked(words))
    assert (found.client, found.modality, found.round, found.session) == ("a", "MRI", 3, SESSION)
    np.testing.assert_array_equal(found.words, words)


def test_a_reply_with_anything_besides_the_vector_is_not_read():
    reply = masked(np.arange(5, dtype=np.uint64))
    reply.content["arrays"] = pack_weights({"w": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="more than a masked vector"):
        unpack_masked(reply)
    with pytest.raises(ValueError, match="more than a masked vector"):
        unpack_masked(Message(RecordDict(), reply_to=message()))
    reply = masked(np.arange(6, dtype=np.uint64).reshape(2, 3))
    with pytest.raises(ValueError, match="expected one vector"):
        unpack_masked(reply)
    reply.content[WORDS] = pack_weights({})
    with pytest.raises(ValueError, match="expected one vector"):
        unpack_masked(reply)


def test_terms_are_one_text_for_the_same_terms():
    terms = SumTerms(TOKEN, "round", "inverse", 12, 30)
    assert SumTerms.from_text(terms.to_text()) == terms


@pytest.mark.parametrize(
    "change",
    [
        {"weighing": "all"},
        {"purpose": "other"},
        {"reference": 0},
        {"reference": True},
        {"images": 1.5},
        {"more": 1},
    ],
)
def test_terms_of_another_release_are_not_read(change):
    text = json.dumps({**json.loads(SumTerms(TOKEN).to_text()), **change})
    with pytest.raises((ValueError, TypeError), match=r"release|its terms"):
        SumTerms.from_text(text)
