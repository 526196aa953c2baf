import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from flames_cli.core.imaging.labels import (
    SeveralLabels,
    TumourRule,
    count_labels,
    find_coloured_tumour,
    find_tumour,
)
from flames_cli.core.rng import derive_rng

SHAPE = (9, 8, 7)
TYPES = (
    np.uint8,
    np.int8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.float32,
    np.float64,
    ">i2",
    ">f4",
)
PLAIN, HALF = TumourRule(), TumourRule(threshold="half")


def draw(*levels: float, dtype: type | str = np.float64) -> np.ndarray:
    """Return a box of the last level, with layers of the others around it."""
    volume = np.zeros(SHAPE)
    for layer, level in enumerate(levels):
        volume[tuple(slice(1 + layer, side - 1 - layer) for side in SHAPE)] = level
    return volume.astype(dtype)


def tumour(values: np.ndarray, rule: TumourRule = PLAIN) -> np.ndarray:
    return find_tumour(values, rule)[0]


@pytest.mark.parametrize("dtype", TYPES)
def test_the_tumour_does_not_depend_on_the_type(dtype):
    np.testing.assert_array_equal(tumour(draw(1, dtype=dtype)), draw(1) == 1)
    two = draw(1, 2, dtype=dtype)
    np.testing.assert_array_equal(tumour(two, TumourRule((2,))), draw(1, 2) == 2)
    assert count_labels(two) == {level: int((draw(1, 2) == level).sum()) for level in (0, 1, 2)}
    with pytest.raises(ValueError, match=r"2 labels, 1 \(150 px, 29\.8%\), 2 \(60 px, 11\.9%\)"):
        find_tumour(two, PLAIN)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_memory_order_is_that_of_the_values(order):
    turned = np.asarray(draw(1, 2), order=order)[::-1]
    for rule in (TumourRule((1, 2)), TumourRule((2,)), HALF, TumourRule(threshold=2.0)):
        if rule is not HALF:
            flags = tumour(turned, rule)
            assert np.argsort(flags.strides).tolist() == np.argsort(np.abs(turned.strides)).tolist()


@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=3, max_side=6), elements=st.integers(0, 5)),
    st.sets(st.integers(1, 6), min_size=1),
)
def test_chosen_labels_are_those_that_numpy_finds(values, labels):
    flags, found = find_tumour(values, TumourRule(tuple(labels)))
    np.testing.assert_array_equal(flags, np.isin(values, list(labels)))
    assert found == labels & set(values.ravel().tolist())
    counts = dict(zip(*np.unique(values, return_counts=True), strict=True))
    assert count_labels(values) == counts
    assert count_labels(values.astype(np.float32)) == counts


@pytest.mark.parametrize("error", [1e-3, -1e-3, 1e-4])
def test_a_label_within_a_thousandth_is_that_label(error):
    values = draw(1 + error, 2 - error)
    np.testing.assert_array_equal(tumour(values, TumourRule((2,))), draw(1, 2) == 2)
    assert count_labels(values).keys() == {0, 1, 2}
    near_zero = draw(abs(error), 1)
    np.testing.assert_array_equal(tumour(near_zero), draw(0, 1) == 1)


@pytest.mark.parametrize("level", [0.5, 0.9, 1.01, 1.99, 0.0039])
def test_numbers_between_labels_are_soft_and_named(level):
    for rule in (PLAIN, TumourRule((2,))):
        with pytest.raises(ValueError, match=rf"soft: its values go from 0 to 2 .*such as {level:g}; .*HALF"):
            find_tumour(draw(level, 2), rule)


def test_probabilities_are_rejected_without_a_sort_of_all_and_thresholded_by_half():
    values = derive_rng(0, "probabilities").random((40, 30, 20)) * 0.98
    with pytest.raises(ValueError, match=r"soft: its values go from .* to 0\.97"):
        find_tumour(values, PLAIN)
    np.testing.assert_array_equal(tumour(values, HALF), values >= 0.5)
    np.testing.assert_array_equal(tumour(values, TumourRule(threshold=0.3)), values >= 0.3)


@pytest.mark.parametrize(
    ("dtype", "high"), [(np.uint8, 255), (np.int16, 255), (np.uint16, 65535), (np.float32, 255)]
)
def test_half_of_full_scale_follows_the_type_and_the_largest_value(dtype, high):
    values = draw(high * 0.3, high * 0.6, high, dtype=dtype)
    np.testing.assert_array_equal(tumour(values, HALF), values >= high / 2)


@pytest.mark.parametrize(
    "values",
    [draw(0.3, 0.45), draw(1, dtype="u1"), draw(40, 120, dtype="u1"), draw(250, dtype="u2")],
)
def test_a_faint_map_is_not_taken_for_one_of_a_smaller_scale(values):
    with pytest.raises(ValueError, match="below --mask-threshold HALF"):
        find_tumour(values, HALF)


def test_a_cubic_resampling_exceeds_both_ends():
    values = draw(-0.1, 0.4, 1.5)
    for rule in (HALF, TumourRule(threshold=0.5)):
        np.testing.assert_array_equal(tumour(values, rule), values == 1.5)
    with pytest.raises(ValueError, match=r"soft: its values go from -0\.1 to 1\.5"):
        find_tumour(values, PLAIN)


@pytest.mark.parametrize("rule", [PLAIN, TumourRule((1,)), HALF, TumourRule(threshold=1.0)])
def test_values_below_0_are_rejected(rule):
    with pytest.raises(ValueError, match=r"values (below 0, down to -1|from -1 to)"):
        find_tumour(draw(-1, dtype=np.int8), rule)
    with pytest.raises(ValueError, match=r"values (below 0, down to -2|from -2 to)"):
        find_tumour(draw(-2.0, 1.0), rule)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_no_labels(value):
    for rule in (PLAIN, TumourRule((1,)), HALF):
        with pytest.raises(ValueError, match=r"soft|expected 0 and above"):
            find_tumour(draw(1, value), rule)


def test_traces_above_0_are_not_an_empty_mask():
    with pytest.raises(ValueError, match=r"soft: its values go from 0 to 0\.0005"):
        find_tumour(draw(0.0005), PLAIN)


def test_a_map_of_many_organs_needs_a_choice():
    organs = np.kron(np.arange(118, dtype=np.uint8).reshape(2, 59), np.ones((4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"118 values from 0 to 117.*name those of tumour with --labels"):
        find_tumour(organs, PLAIN)
    np.testing.assert_array_equal(tumour(organs, TumourRule((117, 3))), (organs == 117) | (organs == 3))
    with pytest.raises(ValueError, match="256 values from 0 to 255"):
        find_tumour(np.arange(256, dtype=np.uint8).reshape(16, 16), TumourRule((255,)))


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_levels_of_noise_are_no_map_of_organs_whatever_was_chosen(dtype):
    rng = derive_rng(0, "noisy labels")
    values = np.kron([[0, 80], [80, 160]], np.ones((20, 20))) + rng.integers(0, 12, (40, 40))
    with pytest.raises(ValueError, match="soft: it has 36 values"):
        find_tumour(values.astype(dtype), TumourRule((165,)))


@pytest.mark.parametrize("noise", [(1, 254), (7, 248), (0, 250)])
def test_noise_around_two_levels_is_soft_whatever_was_chosen(noise):
    values = draw(noise[0], 255, noise[1], dtype=np.uint8)
    for rule in (PLAIN, TumourRule((255,))):
        with pytest.raises(ValueError, match="is soft: it has"):
            find_tumour(values, rule)
    np.testing.assert_array_equal(tumour(values, HALF), values > 127)


def test_an_ignored_border_of_255_is_not_noise():
    values = draw(255, 1, dtype=np.uint8)
    np.testing.assert_array_equal(tumour(values, TumourRule((1,))), values == 1)


def test_half_of_full_scale_does_not_cut_through_the_noise_of_a_level_of_128():
    values = draw(3, 126, 130, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"130, hardly above .*--mask-threshold 65 if"):
        tumour(values, HALF)
    np.testing.assert_array_equal(tumour(values, TumourRule(threshold=65)), values > 100)
    np.testing.assert_array_equal(tumour(draw(128, dtype=np.uint8), HALF), draw(128) > 0)


def test_near_numbers_of_instances_are_labels_not_noise():
    values = draw(1000, 1001, dtype=np.uint16)
    np.testing.assert_array_equal(tumour(values, TumourRule((1001,))), values == 1001)


def test_noise_around_a_dark_level_above_0_is_soft():
    values = draw(250, 251, dtype=np.uint8)
    values[values == 0] = 14
    values[0, 0, :3] = 15, 16, 17
    with pytest.raises(ValueError, match="is soft: it has 6 values from 14 to 251"):
        find_tumour(values, TumourRule((251,)))


@pytest.mark.parametrize(
    ("areas", "example"),
    [({1: 9, 2: 4}, 2), ({1: 9, 255: 4}, 1), ({1: 2, 255: 40}, 255), ({16: 90, 235: 4}, 235)],
)
def test_the_example_of_a_label_is_neither_background_nor_ignored(areas, example):
    values = np.zeros(100, np.uint8)
    values[: sum(areas.values())] = np.repeat(list(areas), list(areas.values()))
    with pytest.raises(SeveralLabels, match=rf"such as --labels {example}\b"):
        find_tumour(values.reshape(10, 10), PLAIN)


def test_every_colour_but_black_is_a_label():
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[1, 1:3], pixels[2, 2] = (0, 0, 200), (90, 0, 0)
    with pytest.raises(ValueError, match=r"#0000c8 \(2 px, 10\.0%\), #5a0000 \(1 px, 5\.0%\)"):
        find_coloured_tumour(pixels, PLAIN)
    flags, found = find_coloured_tumour(pixels, TumourRule((0x0000C8,)))
    assert (flags.sum(), found) == (2, {0x0000C8})
    assert find_coloured_tumour(pixels, HALF)[0].sum() == 2
