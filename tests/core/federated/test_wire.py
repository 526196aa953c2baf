import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.federated.wire import WIRE_TYPES, check_wire, narrow, widen
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError

HALF = ("fp16", "bf16")
TORCH = {"fp16": torch.float16, "bf16": torch.bfloat16}


def bits_of(array):
    """Return the 32 bits of every float32."""
    return np.atleast_1d(array).view(np.uint32)


def crossed(array, wire):
    """Return `array` after narrowing and widening."""
    narrowed, dtypes = narrow({"w": array}, wire)
    return widen(narrowed, wire, dtypes)["w"]


def as_torch_does(array, wire):
    return torch.from_numpy(array.copy()).to(TORCH[wire]).to(torch.float32).numpy()


def assert_as_torch_does(array, wire):
    found, expected = crossed(array, wire), as_torch_does(array, wire)
    known = ~np.isnan(array)
    np.testing.assert_array_equal(np.isnan(found), ~known)
    np.testing.assert_array_equal(bits_of(found)[known], bits_of(expected)[known])


def random_floats(n=1 << 16):
    """Any bits except those that 16 bits cannot represent; includes NaN, infinities and subnormals."""
    floats = derive_rng(0, "bits").integers(0, 1 << 32, n, dtype=np.uint32).view(np.float32)
    return np.where(np.abs(floats) > 3.38e38, np.float32(np.inf), floats)


def test_bf16_is_torchs_bit_for_bit():
    assert_as_torch_does(random_floats(), "bf16")


def test_fp16_is_torchs_bit_for_bit():
    floats = random_floats()
    assert_as_torch_does(np.where(np.abs(floats) > 65504, np.float32(2.5), floats), "fp16")


@given(hnp.arrays(np.float32, 8, elements=st.floats(-65504, 65504, width=32)), st.sampled_from(HALF))
def test_any_float_is_rounded_as_torch_rounds_it(array, wire):
    assert_as_torch_does(array, wire)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F808000, 0x3F800000),
        (0x3F818000, 0x3F820000),
        (0x3F808001, 0x3F810000),
        (0x3F807FFF, 0x3F800000),
        (0xBF818000, 0xBF820000),
        (0x80000000, 0x80000000),
        (0x7F800000, 0x7F800000),
        (0xFF800000, 0xFF800000),
        (0x7F7F7FFF, 0x7F7F0000),
    ],
    ids=["tie down", "tie up", "above", "below", "negative tie", "-0", "infinity", "-infinity", "largest"],
)
def test_bf16_rounds_to_the_nearest_and_ties_to_even(bits, expected):
    array = np.array([bits], np.uint32).view(np.float32)
    assert bits_of(crossed(array, "bf16"))[0] == expected


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x7FFFFFFF, 0xFF800001])
@pytest.mark.parametrize("wire", HALF)
def test_a_nan_stays_one(bits, wire):
    assert np.isnan(crossed(np.array([bits, 0], np.uint32).view(np.float32), wire)).tolist() == [True, False]


@pytest.mark.parametrize("wire", HALF)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_a_narrowed_entry_has_half_the_bytes_and_its_type_and_shape_again(wire, dtype, shape):
    array = np.full(shape, -1.5, dtype)
    narrowed, dtypes = narrow({"w": array}, wire)
    assert (narrowed["w"].dtype.itemsize, narrowed["w"].shape) == (2, shape)
    assert dtypes == {"w": array.dtype.name}
    found = widen(narrowed, wire, dtypes)["w"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


def test_an_entry_in_another_order_of_memory_is_itself_again():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(crossed(array, "bf16"), array)


@pytest.mark.parametrize("wire", WIRE_TYPES)
def test_entries_that_are_not_wide_floats_travel_unchanged(wire):
    weights = {
        "count": np.array(2**40 + 1),
        "codes": np.array([1, 0x3F80, 65535], np.uint16),
        "half": np.array([0.1], np.float16),
        "flag": np.array([True]),
    }
    narrowed, dtypes = narrow({**weights, "w": np.ones(2, np.float32)}, wire)
    found = widen(narrowed, wire, dtypes)
    assert list(found) == [*weights, "w"]
    for name, array in weights.items():
        assert name not in dtypes
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_fp32_leaves_everything_alone():
    weights = {"w": np.array([1e-30, 1e30, np.nan], np.float32), "d": np.array(np.pi)}
    narrowed, dtypes = narrow(weights, "fp32")
    assert dtypes == {}
    assert all(narrowed[name] is array for name, array in weights.items())


def test_nothing_given_is_changed():
    array = np.array([1.001, 2.002], np.float32)
    narrow({"w": array}, "bf16")
    np.testing.assert_array_equal(array, np.array([1.001, 2.002], np.float32))


@pytest.mark.parametrize(
    ("value", "dtype", "wire", "instead"),
    [
        (65520, np.float32, "fp16", "bf16"),
        (-1e6, np.float32, "fp16", "bf16"),
        (3.4e38, np.float32, "bf16", "fp32"),
        (1e300, np.float64, "bf16", "fp32"),
    ],
)
def test_a_value_outside_the_range_is_rejected_by_name(value, dtype, wire, instead):
    weights = {"first": np.ones(2, np.float32), "bn.var": np.array([1, value], dtype)}
    with pytest.raises(
        FlamesError, match=rf"'bn\.var' contains .*e\+.* range of {wire}; pass .*dtype {instead}"
    ):
        narrow(weights, wire)


def test_a_value_just_within_the_range_passes():
    array = np.array([65519, -65504], np.float32)
    np.testing.assert_array_equal(crossed(array, "fp16"), [65504, -65504])


def test_an_infinity_is_no_value_beyond_the_range():
    array = np.array([np.inf, -np.inf], np.float32)
    for wire in HALF:
        np.testing.assert_array_equal(crossed(array, wire), array)


@pytest.mark.parametrize("wire", ["fp8", "", "float16", "None"])
def test_an_unknown_type_is_rejected(wire):
    for call in (check_wire, lambda one: narrow({}, one), lambda one: widen({}, one, {})):
        with pytest.raises(FlamesError, match=f"wire's type is '{wire}', expected one of fp32, fp16, bf16"):
            call(wire)


@pytest.mark.parametrize(
    ("wire", "dtypes", "problem"),
    [
        (
            "bf16",
            {"gone": "float32"},
            "'gone' is missing, described as float32 sent as bf16",
        ),
        ("bf16", {"w": "float32"}, "'w' is float16, described as float32 sent as bf16; expected uint16"),
        ("fp16", {"w": "int64"}, "'w' is float16, described as int64 .* from float32 or float64"),
        ("fp32", {"w": "float32"}, "'w' is float16, described as float32 sent as fp32; expected no such"),
    ],
)
def test_entries_that_were_never_narrowed_are_rejected(wire, dtypes, problem):
    with pytest.raises(FlamesError, match=problem):
        widen({"w": np.ones(2, np.float16)}, wire, dtypes)
