import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.imaging.geometry import Warp, apply_warp
from flames_cli.core.rng import derive_rng
from flames_cli.learn.augment import AugmentRanges, draw_warp

STILL = AugmentRanges(rotation_deg=0, zoom=0, stretch=0, shift=0, flip_x=0, flip_y=0)


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_draws_stay_within_their_ranges(seed):
    ranges, warp = AugmentRanges(), draw_warp(derive_rng(seed))
    assert abs(warp.rotation_deg) <= ranges.rotation_deg
    for name in ("zoom", "stretch"):
        assert abs(np.log(getattr(warp, name))) <= np.log1p(getattr(ranges, name)) + 1e-12
    assert max(abs(warp.shift_x), abs(warp.shift_y)) <= ranges.shift


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.text(max_size=5))
def test_the_same_scope_draws_the_same_warp(seed, scope):
    assert draw_warp(derive_rng(seed, scope)) == draw_warp(derive_rng(seed, scope))


def test_any_part_of_the_scope_changes_the_warp():
    scopes = [("augment", "a", 1, 1, 0), ("augment", "b", 1, 1, 0), ("augment", "a", 2, 1, 0)]
    scopes += [("augment", "a", 1, 2, 0), ("augment", "a", 1, 1, 1)]
    assert len({draw_warp(derive_rng(0, *scope)) for scope in scopes}) == len(scopes)


def test_ranges_of_zero_draw_no_change():
    assert draw_warp(derive_rng(0), STILL) == Warp()


@pytest.mark.parametrize("axis", ["flip_x", "flip_y"])
def test_flips_have_the_requested_frequency(axis):
    drawn = [draw_warp(derive_rng(0, axis, index)) for index in range(400)]
    assert 0.42 < np.mean([getattr(warp, axis) for warp in drawn]) < 0.58
    certain = AugmentRanges(flip_x=1, flip_y=1)
    assert all(getattr(draw_warp(derive_rng(0, index), certain), axis) for index in range(20))


def test_growing_is_as_likely_as_shrinking():
    zooms = np.log([draw_warp(derive_rng(0, index)).zoom for index in range(400)])
    assert abs(zooms.mean()) < 0.2 * np.log1p(AugmentRanges().zoom)


def test_a_draw_is_plain_data():
    warp = draw_warp(derive_rng(0))
    assert {
        type(getattr(warp, name)) for name in ("rotation_deg", "zoom", "stretch", "shift_x", "shift_y")
    } == {float}
    assert {type(warp.flip_x), type(warp.flip_y)} == {bool}


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_tumours_move_with_their_pixels(seed):
    mask = np.zeros((32, 32), np.uint8)
    mask[10:20, 12:18] = 1
    image, moved = apply_warp(mask.astype(np.float32), mask, draw_warp(derive_rng(seed)))
    assert moved.sum() > 0
    assert np.mean((image > 0.5) != moved) < 0.02
