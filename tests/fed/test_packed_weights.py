import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.fed.packed_weights import ALIGNMENT, MAGIC, pack, unpack
from tests.support.asserts import assert_same
from tests.support.packed import framed, spaced

NUMBERS = [np.bool_, np.int8, np.uint16, np.int64, np.uint8, np.float16, np.float32, np.float64]
ARRAYS = hnp.arrays(st.sampled_from(NUMBERS), hnp.array_shapes(min_dims=0, min_side=0))


@settings(max_examples=25)
@given(st.dictionaries(st.text(), ARRAYS, max_size=5))
def test_any_weights_come_back_as_they_were_packed(weights):
    packed = pack(weights)
    found = unpack(packed)
    assert list(found) == list(weights)
    for name, array in weights.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert pack(found) == packed


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(10)[::3],
        np.arange(4, dtype=">f8"),
        np.broadcast_to(np.float32(2), (3, 4)),
        np.zeros((2, 3, 4, 5), np.float32).transpose(0, 3, 1, 2),
    ],
    ids=["transposed", "every third", "big-endian", "repeated", "channels last"],
)
def test_an_entry_in_another_order_of_memory_is_packed_in_order(array):
    found = unpack(pack({"w": array}))["w"]
    np.testing.assert_array_equal(found, array)
    assert found.flags.c_contiguous
    assert found.dtype.isnative


@pytest.mark.parametrize("array", [np.array(["a"]), np.ones(2, complex), np.array([{}]), np.array([b"x"])])
def test_only_numbers_are_packed(array):
    with pytest.raises(TypeError, match=r"'w' is .*, expected numbers of at most 64 bits"):
        pack({"w": array})


def test_the_format_is_the_one_that_is_documented():
    ones = np.ones(1, bool)
    weights = {"é": np.arange(3, dtype=np.float32), "n": np.array(5), "e": np.zeros((0, 7)), "b": ones}
    header = [["é", "<f4", [3], 0], ["n", "<i8", [], 64], ["e", "<f8", [0, 7], 128], ["b", "|b1", [1], 128]]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    data = spaced(weights["é"], weights["n"], weights["b"])
    assert pack(weights) == framed(text, data)
    assert_same(unpack(framed(header, data)), weights)  # other spaces and escapes in the header are the same


def test_entries_begin_at_multiples_of_the_alignment():
    packed = pack({str(n): np.full(n, 200 + n, np.uint8) for n in (1, 17, 31, 0, 3)})
    for n in (1, 17, 31, 3):
        assert packed.index(bytes([200 + n]) * n) % ALIGNMENT == 0
    assert packed.startswith(MAGIC)
    assert packed.endswith(bytes([203] * 3))


def test_entries_are_read_only_views_of_one_buffer():
    packed = pack({"a": np.ones((2, 3), np.float32), "n": np.array(5), "b": np.ones(7)})
    found = unpack(packed)
    (base,) = {id(array.base): array.base for array in found.values()}.values()
    assert np.shares_memory(base, np.frombuffer(packed, np.uint8))
    assert base.size == len(packed)
    assert not any(array.flags.writeable for array in found.values())
