"""Values survive an entry unchanged, and no other bytes are taken for one."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typing_extensions import TypeAliasType

from flames_cli.store.cache_entries import MAGIC, decode_entry, encode_entry


@dataclass(frozen=True)
class Inner:
    name: str
    spacing: tuple[float, float]
    pixels: bytes


@dataclass(frozen=True)
class Outer:
    inners: tuple[Inner, ...]
    bits: NDArray[np.bool_] | None
    one: Inner | None
    labels: frozenset[str]
    extra: Mapping[str, bytes]
    path: Path
    number: int
    flag: bool


texts = st.text(st.characters(), max_size=8)  # lone surrogates, too: they are in file names
inners = st.builds(Inner, texts, st.tuples(st.floats(), st.floats(allow_nan=False)), st.binary(max_size=9))
outers = st.builds(
    Outer,
    st.lists(inners, max_size=3).map(tuple),
    st.none() | st.lists(st.booleans(), max_size=9).map(lambda bits: np.array(bits, np.bool_)),
    st.none() | inners,
    st.frozensets(texts, max_size=3),
    st.dictionaries(texts, st.binary(max_size=5), max_size=3),
    st.just(Path("a/b.png")),
    st.integers(-(2**62), 2**62),
    st.booleans(),
)


@given(outers)
def test_a_value_is_read_as_it_was(value):
    found = decode_entry(Outer, encode_entry(value))
    assert found.labels == value.labels
    found, value = (replace(one, labels=frozenset()) for one in (found, value))  # sets have no order
    assert repr(found) == repr(value)  # NaN is not equal to itself
    assert found.bits is value.bits or found.bits.dtype == np.bool_


@given(outers, st.data())
def test_a_damaged_entry_is_an_error(value, data):
    content = bytearray(encode_entry(value))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r"checksum|short"):
        decode_entry(Outer, bytes(content))


def test_an_entry_that_is_cut_short_or_empty_is_an_error():
    content = encode_entry(Inner("a", (1.0, 2.0), b"xyz"))
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"checksum|short"):
            decode_entry(Inner, content[:length])


def test_an_entry_of_another_kind_is_an_error():
    content = encode_entry(Inner("a", (1.0, 2.0), b"xyz"))
    with pytest.raises(ValueError, match=r"another kind|argument"):
        decode_entry(Outer, content)


def test_numpy_numbers_of_python_are_stored_and_others_are_rejected():
    value = Inner("a", (np.float64(0.1), float("inf")), b"")
    assert repr(decode_entry(Inner, encode_entry(value))) == repr(Inner("a", (0.1, float("inf")), b""))
    with pytest.raises(TypeError, match="float32"):
        encode_entry(Inner("a", (np.float32(0.1), 0.0), b""))


@dataclass(frozen=True)
class Bits:
    name: str
    bits: NDArray[np.bool_]


def forge(lengths, tree, chunk):
    """Return an entry with a right checksum, as somebody could write who knows the format."""
    header = json.dumps([lengths, tree]).encode()
    rest = struct.pack("<Q", len(header)) + header + chunk
    return MAGIC + hashlib.sha256(rest).digest() + rest


@pytest.mark.parametrize(
    ("lengths", "tree"),
    [
        ([1], ["a", [0, [10**13]]]),  # bits that are not there would be zeros, and fill the memory
        ([1], ["a", [0, [9]]]),
        ([1], ["a", [0, [-1]]]),
        ([1], [["a"], [0, [8]]]),
        ([1], [{"a": 1}, [0, [8]]]),
        ([2], ["a", [0, [16]]]),
        ([-1], ["a", [0, [8]]]),
        ([1], ["a", [1, [8]]]),
        ([1.0], ["a", [0, [8]]]),
        ([1], ["a", [0, ["8"]]]),
    ],
)
def test_a_forged_entry_is_an_error_too(lengths, tree):
    assert decode_entry(Bits, forge([1], ["a", [0, [8]]], b"\xff")).bits.all()
    with pytest.raises(ValueError, match=r"lengths|size|kind"):
        decode_entry(Bits, forge(lengths, tree, b"\xff"))


def test_a_type_with_a_name_is_read_as_what_it_stands_for():
    """As NDArray is in NumPy 2.5; an alias with a parameter, which Python 3.11 has in typing_extensions."""
    kind = TypeVar("kind", bound=np.generic)
    alias = TypeAliasType("alias", np.ndarray[Any, np.dtype[kind]], type_params=(kind,))
    bits = np.array([[True, False, True]])
    np.testing.assert_array_equal(decode_entry(alias[np.bool_], encode_entry(bits)), bits)
