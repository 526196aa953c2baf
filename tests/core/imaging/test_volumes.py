import itertools
import math

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nibabel import orientations

from flames_cli.core.imaging.volumes import (
    PLANES,
    Placement,
    are_axes,
    from_ras,
    ras_order,
    restore_volume,
    take_slice,
    to_ras,
)

AXES = [
    "".join(codes)
    for order in itertools.permutations(["RL", "AP", "SI"])
    for codes in itertools.product(*order)
]
VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
MASKS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 1))


def placement(shape: tuple[int, int, int], axes: str, plane: str) -> Placement:
    return Placement(plane, 0, shape, axes, (0.0,) * 16)


def test_there_are_forty_eight_ways_to_store_a_volume():
    assert len(set(AXES)) == 48


@pytest.mark.parametrize("axes", AXES)
def test_turning_to_ras_agrees_with_nibabel(axes):
    turn = orientations.ornt_transform(orientations.axcodes2ornt(axes), orientations.axcodes2ornt("RAS"))
    np.testing.assert_array_equal(to_ras(VOXELS, axes), orientations.apply_orientation(VOXELS, turn))


@pytest.mark.parametrize("axes", AXES)
def test_turning_from_ras_undoes_turning_to_it(axes):
    np.testing.assert_array_equal(from_ras(to_ras(VOXELS, axes), axes), VOXELS)
    np.testing.assert_array_equal(to_ras(from_ras(VOXELS, axes), axes), VOXELS)


@pytest.mark.parametrize("axes", AXES)
def test_turning_copies_nothing(axes):
    assert np.shares_memory(to_ras(VOXELS, axes), VOXELS)
    assert np.shares_memory(from_ras(VOXELS, axes), VOXELS)


@pytest.mark.parametrize(("axes", "order"), [("RAS", [0, 1, 2]), ("LPS", [0, 1, 2]), ("IPL", [2, 1, 0])])
def test_the_order_names_the_files_axis_for_each_of_ras(axes, order):
    assert ras_order(axes) == order


def test_axis_codes_name_each_direction_once():
    assert all(are_axes(axes) for axes in AXES)
    assert not any(are_axes(codes) for codes in ("", "RA", "RAA", "RAX", "RASS", "RLS", "ras"))


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("axes", AXES)
def test_slices_are_counted_and_spaced_along_the_axis_of_their_plane(axes, plane):
    # nibabel builds the file: a grid of 3×4×5 voxels in RAS, of 0.5×2×7 mm, is turned to the axis codes.
    turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(axes))
    turned = nib.Nifti1Image(VOXELS, np.diag([0.5, 2.0, 7.0, 1.0])).as_reoriented(turn)
    place = Placement(plane, 0, turned.shape, axes, tuple(turned.affine.ravel().tolist()))
    axis = PLANES[plane]
    assert place.n_slices == VOXELS.shape[axis]
    assert place.slice_distance_mm == pytest.approx((0.5, 2.0, 7.0)[axis])


def test_slices_of_a_tilted_volume_are_spaced_along_its_own_axis():
    tilt = np.deg2rad(20)
    turned = np.eye(4)
    turned[1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    affine = turned @ np.diag([0.8, 0.8, 5.0, 1.0])
    place = Placement("axial", 0, (3, 4, 5), "RAS", tuple(affine.ravel().tolist()))
    assert place.slice_distance_mm == pytest.approx(5.0)


def test_an_affine_of_zeros_states_no_distance():
    assert math.isnan(placement((3, 4, 5), "RAS", "axial").slice_distance_mm)


@pytest.mark.parametrize(("plane", "shape"), [("sagittal", (5, 4)), ("coronal", (5, 3)), ("axial", (4, 3))])
def test_a_slice_has_the_later_axis_as_rows_and_is_a_view(plane, shape):
    pixels = take_slice(VOXELS, plane, 1)
    assert pixels.shape == shape
    assert np.shares_memory(pixels, VOXELS)


@pytest.mark.parametrize(
    ("plane", "voxel", "pixel"),
    [("sagittal", (1, 0, 4), (0, 0)), ("coronal", (2, 1, 0), (4, 2)), ("axial", (2, 3, 1), (0, 2))],
)
def test_up_in_a_slice_is_superior_or_anterior(plane, voxel, pixel):
    assert take_slice(VOXELS, plane, 1)[pixel] == VOXELS[voxel]


@given(MASKS, st.sampled_from(AXES), st.sampled_from(list(PLANES)))
def test_a_mask_taken_apart_into_slices_is_restored(mask, axes, plane):
    volume = to_ras(mask, axes)
    slices = {index: take_slice(volume, plane, index) for index in range(volume.shape[PLANES[plane]])}
    np.testing.assert_array_equal(restore_volume(slices, placement(mask.shape, axes, plane)), mask)


def test_slices_that_are_not_given_are_restored_as_empty():
    restored = restore_volume({3: np.ones((4, 3), np.uint8)}, placement((3, 4, 5), "RAS", "axial"))
    assert restored.dtype == np.uint8
    assert restored.sum(axis=(0, 1)).tolist() == [0, 0, 0, 12, 0]


def test_a_mask_of_another_size_is_not_restored():
    with pytest.raises(ValueError, match=r"slice 2 is \(3, 4\), expected \(4, 3\)"):
        restore_volume({2: np.ones((3, 4), np.uint8)}, placement((3, 4, 5), "RAS", "axial"))
