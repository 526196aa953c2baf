import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.imaging.geometry import to_square
from flames_cli.core.imaging.volumes import PLANES, Placement, ras_order
from flames_cli.store.cases import CaseInfo
from flames_cli.store.volumes import find_volumes

AFFINE = tuple(np.diag([-0.8, -0.9, 5.0, 1.0]).ravel().tolist())
SHAPE = (40, 30, 4)


def slice_of(patient: str, index: int, volume: str = "", **changes) -> CaseInfo:
    """Return an axial slice of an LPS volume of 4 slices."""
    name = "/".join(filter(None, (patient, volume, f"z{index:03d}")))
    place = Placement("axial", index, SHAPE, "LPS", AFFINE)
    case = CaseInfo(name, patient, patient, "", index, (0.9, 0.8), 0, raw_shape=(30, 40), place=place)
    return replace(case, **changes)


def still(patient: str) -> CaseInfo:
    return CaseInfo(patient, patient, patient, "", -1, (math.nan, math.nan), 5)


@given(st.permutations([("a", "", index) for index in range(4)] + [("b", "2", index) for index in range(4)]))
def test_slices_of_volumes_are_found_in_order_however_they_lie(listed):
    cases = [slice_of(patient, index, volume) for patient, volume, index in listed]
    found = {volume.name: volume for volume in find_volumes(("brats", case) for case in cases)}
    assert found.keys() == {"a", "b/2"}
    for name, patient in (("a", "a"), ("b/2", "b")):
        volume = found[name]
        assert (volume.dataset, volume.patient, volume.slices) == ("brats", patient, (0, 1, 2, 3))
        assert [cases[index].case for index in volume.indices] == [f"{name}/z{i:03d}" for i in range(4)]
        assert volume.is_complete
        assert volume.stack_shape(64) == (4, 64, 64)


def test_equal_names_in_two_data_sets_are_two_volumes():
    cases = [("ct", slice_of("a", index)) for index in range(4)] + [("mri", slice_of("a", 1))]
    assert [(one.dataset, one.is_complete) for one in find_volumes(cases)] == [("ct", True), ("mri", False)]


def test_still_images_are_no_volume():
    assert find_volumes([("busi", still("a"))]) == []
    assert still("a").volume == ""


@pytest.mark.parametrize("slices", [(0, 1, 2), (1, 2, 3), (0, 1, 3), (0, 0, 1, 2, 3), (0, 1, 2, 3, 4)])
def test_a_volume_with_other_slices_than_its_own_is_incomplete(slices):
    (volume,) = find_volumes(("brats", slice_of("a", index)) for index in slices)
    assert not volume.is_complete


def test_a_volume_that_states_billions_of_slices_is_incomplete():
    place = Placement("axial", 0, (4, 4, 2**31 - 1), "LPS", AFFINE)
    (volume,) = find_volumes([("brats", slice_of("a", 0, place=place))])
    assert not volume.is_complete


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("axes", ["RAS", "LPS", "IPL", "SAR", "ALI"])
@pytest.mark.parametrize("size", [32, 64, 200])
def test_stored_voxels_fill_the_padded_volume(axes, plane, size):
    spacing, grid = np.array([0.5, 2.0, 7.0]), np.array([30, 50, 20])  # along x, y, z
    order = np.argsort(ras_order(axes))
    affine = np.zeros((4, 4))
    for column, axis in enumerate(order):
        affine[axis, column] = spacing[axis] * (1 if axes[column] in "RAS" else -1)
    shape = tuple(int(n) for n in grid[order])
    columns, rows = np.delete(np.arange(3), PLANES[plane])
    place = Placement(plane, 0, shape, axes, tuple(affine.ravel().tolist()))
    case = slice_of(
        "a",
        0,
        place=place,
        spacing_mm=(spacing[rows], spacing[columns]),
        raw_shape=(int(grid[rows]), int(grid[columns])),
    )
    (volume,) = find_volumes([("", case)])
    depth, height, width = volume.voxel_mm(size)
    assert depth == pytest.approx(spacing[PLANES[plane]])
    side = max(grid[rows], grid[columns])
    assert (height * size, width * size) == pytest.approx((side * spacing[rows], side * spacing[columns]))


def test_a_stored_lesion_has_the_area_of_the_raw_one():
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 8:28] = 1
    _, stored = to_square(mask, mask, 80)
    (volume,) = find_volumes([("", slice_of("a", 0))])
    _, height, width = volume.voxel_mm(80)
    assert stored.sum() * height * width == pytest.approx(200 * 0.9 * 0.8)


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"spacing_mm": (math.nan, math.nan)}, (False, True, True)),
        ({"spacing_mm": (0.0, 0.8)}, (False, True, False)),
        ({"raw_shape": (0, 0)}, (False, True, True)),
        ({"place": Placement("axial", 0, SHAPE, "LPS", (0.0,) * 16)}, (True, False, False)),
    ],
)
def test_a_spacing_that_the_file_does_not_state_is_unknown(changes, unknown):
    (volume,) = find_volumes([("", slice_of("a", 0, **changes))])
    assert tuple(math.isnan(mm) for mm in volume.voxel_mm(64)) == unknown
