import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.imaging.near_duplicates import cluster_near_duplicates
from flames_cli.core.imaging.quality import (
    Intensity,
    count_shares,
    distance_from,
    measure_intensity,
    nearest_links,
    robust_sd,
    robust_z,
    shrink,
    spread_sample,
    trace_outlines,
)


def bits(*rows):
    return np.array([[digit == "1" for digit in row] for row in rows])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int32])
def test_intensity_is_that_of_all_pixels(dtype):
    found = measure_intensity(np.array([[0, 2], [4, 10]], dtype), 0, 255)
    assert found == Intensity(4.0, pytest.approx(14**0.5), 0.0, 2.0, 10.0)


def test_intensity_is_measured_within_the_window():
    image = np.array([[-1000, 0], [40, 3000]], np.int16)
    assert measure_intensity(image, -160, 240) == Intensity(
        30.0, pytest.approx(20300**0.5), -160.0, 0.0, 240.0
    )


def test_percentiles_are_values_that_so_many_pixels_do_not_exceed():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    found = measure_intensity(image, 0, 255)
    assert (found.p1, found.p50, found.p99) == (0.0, 49.0, 98.0)


def test_all_channels_of_a_colour_image_count():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 0, 0] = 60
    assert measure_intensity(image, 0, 255).mean == pytest.approx(10.0)


@pytest.mark.parametrize("value", [-2000.1, 7.3, 3000.0])
def test_an_image_of_one_value_within_the_window_has_no_spread_at_all(value):
    found = measure_intensity(np.full((37, 41), value, np.float32), -160, 240)
    assert found.sd == 0
    assert found.mean == found.p1 == found.p99 == np.clip(np.float32(value), -160, 240)


def test_shares_are_counted_in_the_bin_that_they_begin():
    assert count_shares([0.0009, 0.001, 0.005, 0.3, 0.5, 1.0]) == [1, 1, 0, 1, 0, 0, 0, 0, 1, 2]
    assert count_shares([]) == [0] * 10


def test_samples_are_spread_from_the_smallest_to_the_largest():
    assert spread_sample([5.0, 1.0, 3.0, 2.0, 4.0], 3) == [1, 2, 0]
    assert spread_sample([2.0, 1.0], 24) == [1, 0]
    assert spread_sample([], 24) == []


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 30))
def test_samples_are_distinct_and_hold_the_extremes(values, n):
    chosen = spread_sample(values, n)
    assert len(chosen) == len(set(chosen)) == min(n, len(values))
    if len(chosen) > 1:
        assert values[chosen[0]] == min(values)
        assert values[chosen[-1]] == max(values)


def test_the_robust_sd_is_that_of_the_middle():
    assert robust_sd(np.array([1.0, 2.0, 3.0, 4.0, 1000.0])) == pytest.approx(1.4826)


def test_the_mean_deviation_is_used_if_most_values_are_equal():
    assert robust_sd(np.array([0.0, 0.0, 0.0, 4.0])) == pytest.approx(1.2533)
    assert robust_sd(np.zeros(4)) == 0


def test_outliers_are_measured_in_robust_sds_from_the_median():
    z = robust_z(np.array([1.0, 2.0, 3.0, 4.0, 1000.0]))
    np.testing.assert_allclose(z[:4], np.array([-2, -1, 0, 1]) / 1.4826)
    assert z[4] == pytest.approx(997 / 1.4826)
    assert not robust_z(np.full(5, 7.0)).any()


def test_a_site_is_as_far_as_its_mean_from_the_others_median():
    others = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert distance_from(np.array([8.0, 10.0]), others) == pytest.approx(6 / 1.4826)
    assert distance_from(np.array([-4.0, -2.0]), others) == pytest.approx(6 / 1.4826)
    assert distance_from(np.array([2.0, 4.0]), np.full(3, 3.0)) == 0
    assert distance_from(np.array([2.0, 5.0]), np.full(3, 3.0)) == np.inf


def test_links_are_the_shortest_that_hold_a_group_together():
    hashes = bits("000000", "000111", "000001", "111111", "000011")
    assert sorted(nearest_links(hashes, 1)) == [(0, 2, 1), (1, 4, 1), (2, 4, 1)]


def test_equal_hashes_are_linked_at_no_distance():
    assert nearest_links(bits("0101", "1010", "0101"), 0) == [(0, 2, 0)]
    assert nearest_links(bits("0101", "1010"), 3) == []


@given(st.lists(st.integers(0, 255), min_size=1, max_size=24), st.integers(0, 3))
def test_links_span_every_cluster_and_none_is_too_long(numbers, most):
    hashes = np.unpackbits(np.array(numbers, np.uint8)[:, None], axis=1).astype(bool)
    links = nearest_links(hashes, most)
    clusters = cluster_near_duplicates(hashes, most)
    assert len(links) == len(clusters) - len(set(clusters))
    for link in links:
        assert link.first < link.second
        assert clusters[link.first] == clusters[link.second]
        assert link.bits == (hashes[link.first] != hashes[link.second]).sum() <= most


def test_pictures_shrink_by_averaging_and_never_grow():
    image = np.array([[0, 4], [8, 4]], np.uint8)
    assert shrink(image, 1).tolist() == [[4]]
    assert shrink(image, 2) is image
    assert shrink(image, 3) is image
    assert shrink(np.zeros((4, 4, 3), np.uint8), 2).shape == (2, 2, 3)


def test_outlines_run_through_the_corners_of_parts_and_holes():
    mask = np.zeros((7, 7), np.uint8)
    mask[1:6, 1:6] = 1
    mask[2:5, 2:5] = 0
    corners = [{tuple(corner) for corner in outline.tolist()} for outline in trace_outlines(mask)]
    assert {(1, 1), (1, 5), (5, 5), (5, 1)} in corners
    assert len(corners) == 2
    point = np.zeros((3, 3), np.uint8)
    point[2, 1] = 1
    assert [outline.tolist() for outline in trace_outlines(point)] == [[[1, 2]]]
    assert trace_outlines(np.zeros((3, 3), np.uint8)) == []
