import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.federated.coding import BLOCK, DIFFERENCE, SAME, code, decode
from flames_cli.core.federated.wire import WIRE_TYPES, as_received
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError

NARROW = ("fp16", "bf16", "int8")
PRECISION = {"fp16": 2**-11, "bf16": 2**-8, "int8": 1 / 254}
"""Largest rounding error of a difference, relative to the largest one of its block."""


def normal(*shape, scale=1.0, seed=0):
    return (scale * derive_rng(seed, "coding").standard_normal(shape)).astype(np.float32)


def model(**changes):
    return {
        "conv.weight": normal(8, 4, 3, 3),
        "bn.running_mean": normal(8, seed=1),
        "bn.running_var": np.abs(normal(8, seed=2)),
        "bn.num_batches_tracked": np.array(7),
        **changes,
    }


def crossed(trained, server, wire, residual=()):
    """Return a report as the server reads it, of a client that received `server` as `wire`."""
    coded = code(trained, as_received(server, wire), wire, dict(residual))
    return decode(coded.arrays, coded.codes, wire, server), coded


@pytest.mark.parametrize("wire", NARROW)
def test_a_change_far_below_the_precision_of_the_weight_arrives(wire):
    server = {"w": np.full(50, 1.001, np.float32)}
    received = as_received(server, wire)["w"]
    found, _ = crossed({"w": received + np.float32(1e-4)}, server, wire)
    np.testing.assert_allclose(found["w"] - server["w"], 1e-4, rtol=0.01)


@pytest.mark.parametrize("wire", NARROW)
def test_the_rounding_of_a_model_on_its_way_down_does_not_accumulate(wire):
    server = {"w": normal(500, scale=3)}
    begun, residual = server["w"].astype(float), {}
    for _ in range(20):
        trained = {"w": as_received(server, wire)["w"] + np.float32(1e-3)}
        server, coded = crossed(trained, server, wire, residual)
        residual = coded.residual
    np.testing.assert_allclose(server["w"] - begun, 20 * 1e-3, rtol=0.01)


@given(
    hnp.arrays(np.float32, 8, elements=st.floats(-1000, 1000, width=32)),
    hnp.arrays(np.float32, 8, elements=st.floats(-1, 1, width=32)),
    st.sampled_from(NARROW),
)
@settings(max_examples=50)
def test_any_change_is_rounded_relative_to_the_largest_change(weights, moves, wire):
    server = {"w": weights}
    received = as_received(server, wire)["w"]
    trained = received + moves
    found, _ = crossed({"w": trained}, server, wire)
    moved = trained.astype(float) - received
    error = np.abs(found["w"].astype(float) - weights - moved)
    assert (error <= PRECISION[wire] * np.abs(moved).max() * 1.01 + 2e-7 * np.abs(weights) + 2**-25).all()


@pytest.mark.parametrize("wire", WIRE_TYPES)
def test_entries_that_did_not_change_are_sent_without_data(wire):
    server = model()
    trained = {**as_received(server, wire), "bn.running_mean": np.ones(8, np.float32)}
    found, coded = crossed(trained, server, wire)
    same = {name: SAME for name in server if name != "bn.running_mean"}
    assert coded.codes == same
    assert sum(array.nbytes for array in coded.arrays.values()) == 8 * 4
    assert list(found) == list(server)
    for name in same:
        assert np.shares_memory(found[name], server[name])
        assert not found[name].flags.writeable
        assert server[name].flags.writeable


def test_bits_are_compared_and_not_values():
    server = {"zero": np.zeros(2, np.float32), "nan": np.array([np.nan, 1], np.float32)}
    _, coded = crossed({"zero": -server["zero"], "nan": server["nan"].copy()}, server, "fp32")
    assert coded.codes == {"nan": SAME}
    late = np.zeros(BLOCK + 1, np.float32)
    late[-1] = 1
    assert code({"w": late}, {"w": np.zeros(BLOCK + 1, np.float32)}, "fp32", {}).codes == {}


def test_full_precision_sends_what_changed_as_it_is():
    server = model()
    trained = {name: array + 1 for name, array in server.items()}
    found, coded = crossed(trained, server, "fp32")
    assert coded.codes == {}
    assert all(found[name] is trained[name] for name in trained)


@pytest.mark.parametrize("wire", NARROW)
def test_statistics_and_counters_travel_as_they_are(wire):
    server = model(**{"bn.running_var": np.full(8, 1000, np.float32)})
    trained = {
        **server,
        "bn.running_var": np.full(8, 1e-5, np.float32),
        "bn.num_batches_tracked": np.array(9),
    }
    found, coded = crossed(trained, server, wire)
    assert coded.codes["conv.weight"] in (SAME, DIFFERENCE)
    for name in ("bn.running_var", "bn.num_batches_tracked"):
        np.testing.assert_array_equal(found[name], trained[name])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (BLOCK,), (BLOCK + 1,), (3, BLOCK, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wire", NARROW)
def test_entries_of_any_shape_and_float_come_back(shape, dtype, wire):
    server = {"w": np.asarray(normal(*shape), dtype)}
    trained = {"w": np.asarray(as_received(server, wire)["w"] + np.asarray(0.5, dtype))}
    found, _ = crossed(trained, server, wire)
    assert (found["w"].dtype, found["w"].shape) == (dtype, shape)
    np.testing.assert_allclose(found["w"], server["w"] + 0.5, atol=2e-3)


@pytest.mark.parametrize(("wire", "share"), [("fp16", 1 / 2), ("bf16", 1 / 2), ("int8", 1 / 4)])
def test_a_difference_takes_its_share_of_the_bytes(wire, share):
    server = {"w": normal(64 * BLOCK)}
    _, coded = crossed({"w": server["w"] + normal(64 * BLOCK, seed=3)}, server, wire)
    assert coded.arrays["w"].nbytes == pytest.approx(share * server["w"].nbytes, rel=0.005)


def test_what_8_bits_leave_out_is_sent_later():
    """One large value makes the scale so coarse that a small one is rounded to nothing without feedback."""
    server, residual = {"w": np.zeros(2, np.float32)}, {}
    for _ in range(10):
        trained = {"w": server["w"] + np.array([1, 0.001], np.float32)}
        server, coded = crossed(trained, server, "int8", residual)
        residual = coded.residual
    forgotten, _ = crossed({"w": np.array([1, 0.001], np.float32)}, {"w": np.zeros(2, np.float32)}, "int8")
    assert forgotten["w"][1] == 0
    np.testing.assert_allclose(server["w"] + residual["w"], [10, 0.01], rtol=1e-3)
    assert server["w"][1] > 0


def test_an_entry_with_something_left_out_is_sent_although_it_did_not_change():
    server = {"w": np.ones(3, np.float32)}
    left = {"w": np.array([0.5, 0.25, 0], np.float32)}
    found, coded = crossed({"w": server["w"].copy()}, server, "int8", left)
    assert coded.codes == {"w": DIFFERENCE}
    np.testing.assert_allclose(found["w"] + coded.residual["w"], 1 + left["w"], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("wire", NARROW)
def test_a_value_that_is_not_finite_arrives_as_one(bad, wire):
    server = {"w": normal(3 * BLOCK)}
    trained = server["w"].copy()
    trained[BLOCK] = bad
    found, _ = crossed({"w": trained}, server, wire)
    assert not np.isfinite(found["w"][BLOCK])
    assert np.isfinite(found["w"][:BLOCK]).all()


def test_a_difference_outside_fp16_is_rejected_by_name():
    with pytest.raises(FlamesError, match=r"'w' contains 7e\+04.*pass --wire-dtype bf16"):
        code({"w": np.full(2, 7e4, np.float32)}, {"w": np.zeros(2, np.float32)}, "fp16", {})


def test_nothing_given_is_changed():
    server, left = model(), {"conv.weight": normal(8, 4, 3, 3, seed=5)}
    trained = {name: array + 1 for name, array in server.items()}
    before = [array.copy() for part in (server, left, trained) for array in part.values()]
    crossed(trained, server, "int8", left)
    after = [array for part in (server, left, trained) for array in part.values()]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


PACKED_SIZE = 4 + 6
SERVER = {"w": np.zeros((2, 3), np.float32), "n": np.array(5), "bn.running_var": np.ones(3, np.float32)}


@pytest.mark.parametrize(
    ("array", "codes", "wire"),
    [
        (np.zeros((2, 3), np.uint16), {"w": "difference"}, "fp32"),
        (np.zeros((2, 3), np.uint16), {"w": "difference"}, "fp16"),
        (np.zeros((2, 3), np.uint16), {"w": "difference"}, "int8"),
        (np.zeros((3, 2), np.uint16), {"w": "difference"}, "bf16"),
        (np.zeros((2, 3), np.float32), {"w": "difference"}, "bf16"),
        (np.zeros(PACKED_SIZE + 1, np.uint8), {"w": "difference"}, "int8"),
        (np.zeros(PACKED_SIZE - 1, np.uint8), {"w": "difference"}, "int8"),
        (np.zeros((1, PACKED_SIZE), np.uint8), {"w": "difference"}, "int8"),
        (np.zeros(PACKED_SIZE, np.int8), {"w": "difference"}, "int8"),
        (np.zeros((2, 3), np.float32), {"w": "same"}, "fp32"),
        (np.zeros((2, 3), np.uint16), {"w": "float32"}, "bf16"),
        (np.zeros((2, 3), np.uint16), {"w": "sum"}, "bf16"),
        (np.zeros(0, np.uint8), {"w": "same", "gone": "same"}, "fp32"),
        (np.zeros((), np.uint16), {"n": "difference"}, "bf16"),
        (np.zeros(3, np.uint16), {"bn.running_var": "difference"}, "bf16"),
        (np.zeros(0, np.uint8), {"other": "same"}, "bf16"),
    ],
)
def test_a_report_that_was_never_coded_is_rejected_by_name(array, codes, wire):
    name = next(iter(codes))
    with pytest.raises(FlamesError, match=r"is .*, described as .* sent as .*; install the same version"):
        decode({name: array}, codes, wire, SERVER)


@given(hnp.arrays(np.uint8, PACKED_SIZE))
def test_any_bytes_of_the_right_number_are_a_difference(packed):
    with np.errstate(all="ignore"):
        found = decode({"w": packed}, {"w": DIFFERENCE}, "int8", SERVER)["w"]
    assert (found.dtype, found.shape) == (np.float32, (2, 3))


@pytest.mark.parametrize("wire", ["fp8", "", "None"])
def test_an_unknown_type_is_rejected(wire):
    for call in (lambda: code({}, {}, wire, {}), lambda: decode({}, {}, wire, {})):
        with pytest.raises(FlamesError, match=f"type is '{wire}', expected one of fp32, fp16, bf16, int8"):
            call()
