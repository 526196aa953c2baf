from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.imaging.geometry import to_square
from flames_cli.core.imaging.intensity import (
    MAX_8_BIT,
    MAX_12_BIT,
    count_values,
    dequantise,
    percentile_range,
    quantise,
    round_outwards,
    sample_voxels,
    scale,
)
from flames_cli.readers.base import ReadOptions
from flames_cli.readers.msd import BRATS

SHARED = Path(__file__).parents[4] / "shared"
GOLDEN = SHARED / "golden" / "msd_preprocess.npz"
MSD = SHARED / "data" / "Task01_BrainTumour"

SCALES = st.sampled_from([1, MAX_8_BIT, MAX_8_BIT + 1, MAX_12_BIT, 65535])
IMAGES = hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32))


@pytest.mark.skipif(not (GOLDEN.exists() and MSD.exists()), reason="the shared brain volumes are not here")
@pytest.mark.parametrize("name", ["BRATS_001", "BRATS_007", "BRATS_013"])
def test_slices_match_the_authors(name):
    golden = np.load(GOLDEN)
    source = next(source for source in BRATS.list_sources(MSD) if source.name == name)
    cases = {case.slice_index: case for case in BRATS.read_source(source, ReadOptions(slice_half_width=20))}
    assert list(cases) == golden[f"{name}_slices"].tolist()
    for case in cases.values():
        assert (case.low, case.high) == (0.0, pytest.approx(float(golden[f"{name}_p95"]), rel=1e-4))
    drawn = [key for key in golden.files if key.startswith(f"{name}_z") and key.endswith("_img")]
    assert len(drawn) == 3
    for key in drawn:
        case = cases[int(key.split("_")[2].removeprefix("z"))]
        image, mask = to_square(scale(case.image, case.low, case.high), case.mask, 240, "paper")
        kept = dequantise(quantise(image, case.max_value), case.max_value)
        np.testing.assert_allclose(kept, golden[key], rtol=0, atol=1 / MAX_12_BIT)
        np.testing.assert_array_equal(mask, golden[key.replace("_img", "_mask")])


def test_the_range_is_from_0_to_the_percentile_of_the_complete_volume():
    volume = np.arange(101, dtype=np.int16).reshape(101, 1, 1)
    assert percentile_range(volume) == (0.0, 95.0)
    assert percentile_range(volume, 50) == (0.0, 50.0)


@pytest.mark.parametrize("value", [0, -5])
def test_a_volume_without_contrast_is_rejected(value):
    with pytest.raises(ValueError, match=f"95th intensity percentile is {value}, expected above 0"):
        percentile_range(np.full((4, 4, 4), value, np.int16))


def test_scaling_clips_and_maps_to_0_to_1():
    image = np.array([[-50, 0, 50], [100, 200, 25]], np.int16)
    scaled = scale(image, 0, 100)
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [[0, 0, 0.5], [1, 1, 0.25]]
    assert image[0, 0] == -50


def test_scaling_starts_at_the_low_end():
    assert scale(np.array([[-100.0, 0.0, 300.0]]), -100, 300).tolist() == [[0, 0.25, 1]]


@pytest.mark.parametrize(("max_value", "dtype"), [(255, np.uint8), (256, np.uint16), (4095, np.uint16)])
def test_8_bits_are_kept_in_8_and_more_in_16(max_value, dtype):
    kept = quantise(np.array([[-0.2, 0.0, 0.5, 1.0, 1.3]], np.float32), max_value)
    assert kept.dtype == dtype
    assert kept.tolist() == [[0, 0, round(max_value / 2), max_value, max_value]]


@settings(max_examples=50)
@given(SCALES, st.data())
def test_integers_survive_the_round_trip(max_value, data):
    dtype = quantise(np.zeros((1, 1)), max_value).dtype
    kept = data.draw(hnp.arrays(dtype, (3, 4), elements=st.integers(0, max_value)))
    again = quantise(dequantise(kept, max_value), max_value)
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, kept)


@settings(max_examples=50)
@given(SCALES, IMAGES)
def test_floats_come_back_within_half_a_step(max_value, image):
    before = image.copy()
    back = dequantise(quantise(image, max_value), max_value)
    assert back.dtype == np.float32
    assert back.min() >= 0
    assert back.max() <= 1
    np.testing.assert_allclose(back, image, rtol=0, atol=0.5 / max_value + 1e-6)
    np.testing.assert_array_equal(image, before)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.dtype(">i2")]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
    )
)
def test_values_are_counted_as_numpy_does(voxels):
    voxels = np.nan_to_num(voxels)
    for turned in (voxels, voxels[::-1], voxels.T):
        values, counts = count_values(turned)
        expected, times = np.unique(voxels, return_counts=True)
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(counts, times)


@given(
    hnp.arrays(np.int16, st.integers(1, 40), elements=st.integers(-300, 3000)),
    st.floats(0.5, 100),
)
def test_the_percentile_of_integers_is_numpys(volume, percentile):
    expected = np.percentile(volume, percentile)
    if expected <= 0:
        with pytest.raises(ValueError, match="expected above 0"):
            percentile_range(volume, percentile)
    else:
        assert percentile_range(volume, percentile) == (0.0, pytest.approx(expected, rel=1e-12))


def test_the_percentile_of_the_foreground_is_that_of_the_voxels_above_0():
    volume = np.concatenate([np.zeros(900), np.full(50, -3), np.arange(1, 102)])
    for stored in (volume, volume.astype(np.int16), volume.astype(np.int32)):
        assert percentile_range(stored, 95, "foreground") == (0.0, 96.0)
        assert percentile_range(stored, 50, "foreground") == (0.0, 51.0)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_volume_without_foreground_is_rejected(dtype):
    with pytest.raises(ValueError, match="95th intensity percentile is 0, expected above 0"):
        percentile_range(np.full((2, 2), -1, dtype), of="foreground")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 837, (0, 1000)),
        (-1.8, 2.4, (-3, 3)),
        (-0.98, 0.9, (-1, 1)),
        (0.02, 11.3, (0, 12)),
        (-700, 240, (-800, 400)),
        (32610, 32995, (32600, 33000)),
    ],
)
def test_a_window_is_rounded_outwards_to_few_digits(low, high, expected):
    assert round_outwards(low, high, symmetric=low > -2) == pytest.approx(expected)


@given(st.floats(-1e5, 1e5), st.floats(0.01, 1e5), st.booleans())
def test_a_rounded_window_contains_nearly_all_of_the_range_and_is_not_much_wider(low, width, symmetric):
    first, last = round_outwards(low, low + width, symmetric)
    assert first < last
    assert first - low <= 0.05 * width + 1e-6
    assert low + width - last <= 0.05 * width + 1e-6
    if not symmetric:
        assert last - first <= 1.5 * width + 1e-6


@given(hnp.arrays(np.int16, hnp.array_shapes(min_dims=1, max_dims=3, max_side=8)), st.integers(1, 600))
def test_a_sample_has_voxels_of_the_volume_and_not_many_more_than_asked_for(volume, n):
    found = sample_voxels(volume, n)
    assert found.size
    assert set(found.tolist()) <= set(volume.ravel().tolist())
    assert volume.size > n or np.array_equal(np.sort(found), np.sort(volume.ravel()))
