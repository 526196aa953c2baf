import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.local_rules import add_weights, control_change, scaling_factor
from tests.support.datasets import find_shared


@pytest.mark.parametrize("batch", ["pf0", "pf1"])
def test_the_scaling_factor_is_the_authors(batch):
    with np.load(find_shared("golden/fedgs.npz")) as numbers:
        masks, small = numbers[f"{batch}_masks"], numbers[f"{batch}_small"]
        base, expected = int(numbers[f"{batch}_log_base"]), float(numbers[f"{batch}_value"])
    areas = masks.reshape(len(masks), -1).sum(1)
    assert scaling_factor(areas, small, masks[0].size, base) == pytest.approx(expected, rel=1e-12)


def test_a_step_without_small_lesions_counts_once():
    assert scaling_factor([4, 0, 900], [False, False, False], 1000, 100) == 1.0


def test_a_lesion_of_a_hundredth_counts_as_the_formula_says():
    expected = 1 + 2 / 4 * np.tanh(1.0)
    assert scaling_factor([10, 10, 10, 10], [True, False, False, False], 1000, 100) == pytest.approx(expected)


def test_each_image_may_have_its_own_base():
    expected = 1 + np.tanh((np.log(250) / np.log(100)) ** 2) + np.tanh((np.log(250) / np.log(1000)) ** 2)
    assert scaling_factor([4, 4], [True, True], 1000, [100, 1000]) == pytest.approx(expected)


def test_a_small_lesion_moved_out_of_its_image_counts_most():
    assert scaling_factor([0], [True], 1000, 100) == 3.0


def test_a_batch_without_images_is_rejected():
    with pytest.raises(ValueError, match="without images"):
        scaling_factor([], [], 1000, 100)


@given(st.lists(st.tuples(st.integers(0, 4096), st.booleans()), min_size=1, max_size=8), st.floats(1.1, 1e4))
def test_the_factor_is_between_one_and_three_and_ignores_the_order(batch, base):
    areas, small = zip(*batch, strict=True)
    factor = scaling_factor(areas, small, 4096, base)
    assert 1 <= factor <= 3
    assert scaling_factor(areas[::-1], small[::-1], 4096, base) == pytest.approx(factor)


def test_a_control_variate_changes_by_the_mean_gradient_less_the_servers():
    start, trained = {"w": np.array([2.0, 1.0], np.float32)}, {"w": np.array([1.0, 1.0], np.float32)}
    change = control_change(start, trained, {"w": np.array([0.5, 0.25], np.float32)}, n_steps=4, lr=0.1)
    np.testing.assert_allclose(change["w"], [1 / 0.4 - 0.5, -0.25])
    assert change["w"].dtype == np.float32


def test_buffers_have_no_control_variate():
    weights = {"w": np.ones(1), "running_mean": np.ones(1)}
    assert list(control_change(weights, weights, {"w": np.zeros(1)}, 1, 0.1)) == ["w"]


def test_adding_to_nothing_copies():
    change = {"w": np.ones(2)}
    added = add_weights({}, change)
    added["w"] += 1
    np.testing.assert_array_equal(change["w"], [1, 1])
    np.testing.assert_array_equal(add_weights({"w": np.full(2, 3.0)}, change)["w"], [4, 4])


def test_entries_without_dimensions_stay_arrays():
    """numpy makes a number of their difference, which no message carries."""
    one = {"scale": np.array(2.0, np.float32)}
    changed = control_change(one, {"scale": np.array(1.0, np.float32)}, one, 2, 0.1)
    for found in (changed["scale"], add_weights(one, one)["scale"]):
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
        assert found.shape == ()
    assert changed["scale"] == 3
