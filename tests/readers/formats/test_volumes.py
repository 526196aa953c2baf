from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.imaging.volumes import PLANES, restore_volume
from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase, Source
from flames_cli.readers.formats.nifti import read_labels, read_volume
from flames_cli.readers.formats.volumes import (
    Volume,
    VolumeRules,
    choose_slices,
    read_slices,
    require_same_grid,
)

SHAPE = (6, 8, 10)
SOURCE = Source("A", "patient A", Path("A.nii.gz"), ())
MRI, CT = VolumeRules("MRI"), VolumeRules("CT")
LIVER = VolumeRules("CT", window=(-200.0, 200.0))


def affine(*spacing: float, shift: float = 0.0) -> np.ndarray:
    made = np.diag([*spacing, 1.0])
    made[:3, 3] = shift
    return made


def volume(axes="RAS", shape=SHAPE, header=None, lowest=0) -> Volume:
    voxels = derive_rng(0, "volume").integers(1, 900, shape).astype(np.int16)
    voxels += np.int16(lowest)
    return Volume(voxels, affine(1.0, 2.0, 3.0) if header is None else header, axes)


def tumour(*slices: int, pixels: int = 1) -> np.ndarray:
    flags = np.zeros(SHAPE, bool)
    flags[1, :pixels, list(slices)] = True
    return flags


def read(flags, rules=MRI, image=None, **options):
    return read_slices(SOURCE, image or volume(), flags, ReadOptions(**options), rules)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(("slices", "half_width"), [("near", 1), ("lesion", 20), ("all", 20)])
def test_a_complete_volume_has_all_slices_and_marks_those_selected(plane, slices, half_width):
    flags = tumour(2, 3, 9) | np.roll(tumour(4), 2, axis=(0, 1))
    options = {"slices": slices, "slice_half_width": half_width, "plane": plane}
    selected = read(flags, **options)
    whole = read(flags, **options, complete=True)
    assert [case.slice_index for case in whole] == list(range(SHAPE[PLANES[plane]]))
    marked = [case for case in whole if case.selected]
    assert [case.case for case in marked] == [case.case for case in selected]
    for case, alone in zip(marked, selected, strict=True):
        np.testing.assert_array_equal(case.image, alone.image)
        np.testing.assert_array_equal(case.mask, alone.mask)
    restored = restore_volume({case.slice_index: case.mask for case in whole}, whole[0].place)
    np.testing.assert_array_equal(restored, flags, "slices with tumour keep it, selected or not")


def test_a_volume_without_a_selected_slice_is_skipped_though_it_has_others():
    with pytest.raises(SkippedCase, match="no slice within 2 of"):
        read(tumour(0, 5), slices="near", slice_half_width=2, complete=True)


def test_constant_slices_of_a_healthy_volume_complete_it_unselected():
    image = volume()
    image.voxels[..., 0] = 7
    whole = read(np.zeros(SHAPE, bool), image=image, complete=True, keep_empty=True)
    assert [case.selected for case in whole] == [False] + [True] * 9


@pytest.mark.parametrize(
    ("bearing", "half_width", "kept"),
    [
        ([2, 3, 4], 20, [2, 3, 4]),
        ([2, 3, 4], 0, [3]),
        ([0, 1, 9], 3, [1]),
        ([0, 5], 2, []),
        ([0, 4], 2, [0, 4]),
        ([], 20, []),
    ],
)
def test_slices_with_tumour_near_the_mean_index_are_kept(bearing, half_width, kept):
    pixels = np.zeros(10, int)
    pixels[bearing] = 7
    assert choose_slices(pixels, "near", half_width, 1) == kept


@pytest.mark.parametrize(
    ("slices", "least", "kept"),
    [
        ("all", 1, [0, 1, 2, 3, 4]),
        ("all", 51, [0, 1, 2, 3, 4]),
        ("lesion", 1, [1, 2, 4]),
        ("lesion", 51, [2, 4]),
        ("near", 51, [2, 4]),
        ("lesion", 53, []),
    ],
)
def test_slices_with_too_few_tumour_pixels_count_as_without_tumour(slices, least, kept):
    assert choose_slices(np.array([0, 50, 51, 0, 52]), slices, 20, least) == kept


@given(st.lists(st.integers(0, 3), min_size=1), st.integers(0, 5))
def test_near_keeps_a_part_of_lesion_and_lesion_of_all(pixels, half_width):
    near, lesion, every = (
        choose_slices(np.array(pixels), slices, half_width, 2) for slices in ("near", "lesion", "all")
    )
    assert set(near) <= set(lesion) <= set(every)
    assert all(pixels[index] >= 2 for index in lesion)


def test_the_users_choice_of_slices_is_put_before_the_data_sets():
    near = VolumeRules("MRI", slices="near")
    flags = tumour(0, 1, 9)
    assert [case.slice_index for case in read(flags, near, slice_half_width=3)] == [1]
    assert [case.slice_index for case in read(flags, near, slice_half_width=3, slices="lesion")] == [0, 1, 9]
    assert len(read(flags, near, slices="all")) == 10


@pytest.mark.parametrize(
    ("plane", "indices", "shape", "spacing", "letter"),
    [
        ("axial", [3, 4], (8, 6), (2.0, 1.0), "z"),
        ("coronal", [0, 1, 2], (10, 6), (3.0, 1.0), "y"),
        ("sagittal", [1], (10, 8), (3.0, 2.0), "x"),
    ],
)
def test_slices_of_each_plane_have_its_size_and_spacing(plane, indices, shape, spacing, letter):
    cases = read(tumour(3, 4, pixels=3), plane=plane)
    assert [case.slice_index for case in cases] == indices
    assert [case.case for case in cases] == [f"A/{letter}{index:03d}" for index in indices]
    for case in cases:
        assert case.patient == "patient A"
        assert case.image.shape == case.mask.shape == shape
        assert case.spacing_mm == spacing
        assert case.place.plane == plane


def test_slices_are_views_of_the_volume():
    image = volume()
    assert all(np.shares_memory(case.image, image.voxels) for case in read(tumour(3, 4), image=image))


@pytest.mark.parametrize(
    ("rules", "windows", "expected"),
    [
        (MRI, {}, None),
        (MRI, {"CT": (0.0, 80.0)}, None),
        (MRI, {"MRI": (10.0, 700.0)}, (10.0, 700.0)),
        (CT, {}, (-160.0, 240.0)),
        (CT, {"CT": (-1000.0, 400.0)}, (-1000.0, 400.0)),
        (LIVER, {}, (-200.0, 200.0)),
        (LIVER, {"CT": (-1000.0, 400.0)}, (-1000.0, 400.0)),
    ],
)
@pytest.mark.parametrize("percentile", [95.0, 99.5])
def test_the_users_window_then_the_data_sets_then_the_modalitys_then_a_percentile(
    rules, windows, expected, percentile
):
    image = volume(lowest=-300 if rules.modality == "CT" else 0)
    (case,) = read(tumour(4), rules, image, windows=windows, percentile=percentile)
    assert (case.low, case.high) == (
        expected or (0.0, pytest.approx(np.percentile(image.voxels, percentile)))
    )
    assert case.max_value == 4095


def test_an_image_without_intensities_cannot_be_scaled():
    empty = Volume(np.zeros(SHAPE, np.int16), affine(1.0, 1.0, 1.0), "RAS")
    with pytest.raises(BadCase, match=r"^A\.nii\.gz: .*percentile"):
        read(tumour(4), image=empty)


def test_an_empty_mask_is_skipped_whatever_slices_are_asked_for():
    for slices in ("near", "lesion", "all"):
        with pytest.raises(SkippedCase, match="the mask is empty"):
            read(tumour(), slices=slices)


@pytest.mark.parametrize("slices", ["near", "lesion", "all"])
def test_a_kept_volume_without_tumour_gives_its_slices_that_show_anything(slices):
    image = volume()
    image.voxels[..., 3] = 7
    cases = read(tumour(), image=image, slices=slices, keep_empty=True)
    every = range(image.voxels.shape[2])
    assert [case.slice_index for case in cases] == [z for z in every if slices == "all" or z != 3]
    assert not any(case.mask.any() for case in cases)


def test_a_kept_volume_without_tumour_and_contrast_is_skipped():
    air = Volume(np.full(SHAPE, -1000, np.int16), affine(1.0, 1.0, 1.0), "RAS")
    with pytest.raises(SkippedCase, match="each of its slices is of one value"):
        read(tumour(), CT, image=air, keep_empty=True)


def test_volumes_with_tumour_are_cut_equally_whether_or_not_others_are_kept():
    for slices in ("near", "lesion", "all"):
        plain, kept = (read(tumour(4), slices=slices, keep_empty=keep) for keep in (False, True))
        assert [case.slice_index for case in plain] == [case.slice_index for case in kept]


def test_a_volume_whose_lesions_are_all_too_small_is_skipped():
    with pytest.raises(SkippedCase, match="no slice contains 51 tumour pixels or more"):
        read(tumour(4), VolumeRules("CT", min_lesion_px=51))


@pytest.mark.parametrize(
    ("axes", "shape", "spacing"),
    [("RAS", (6, 8, 10), (1.0, 2.0, 3.0)), ("IPL", (10, 8, 6), (3.0, 2.0, 1.0))],
)
def test_shape_is_the_files_and_spacing_is_of_ras(axes, shape, spacing):
    image = volume(axes)
    assert image.file_shape == shape
    assert image.spacing_mm == spacing


def test_a_mask_on_its_images_grid_is_taken():
    require_same_grid(SOURCE, volume(), volume())


@pytest.mark.parametrize(
    "header",
    [
        affine(1.0, 2.0, 3.0, shift=0.5),
        affine(1.0001, 2.0, 2.9999),
        affine(1.0, 2.0, 3.0) + 1e-5,
    ],
)
def test_headers_that_differ_by_rounding_are_of_one_grid(header):
    require_same_grid(SOURCE, volume(), volume(header=header))


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (volume(shape=(6, 8, 9)), r"^A: the mask is \(6, 8, 9\), its image \(6, 8, 10\)"),
        (volume("LAS"), "the mask's axes are LAS, its image's RAS"),
        (
            volume(header=affine(1.0, 2.0, 3.0, shift=5.0)),
            r"places it up to 8\.7 mm .* save it with the image's header .* else resample it onto",
        ),
        (volume(header=affine(1.5, 2.0, 3.0)), r"places it up to 2\.5 mm"),
        (volume(header=affine(1.0, 2.0, 5.0)), r"places it up to 18\.0 mm"),
    ],
)
def test_a_mask_on_another_grid_is_rejected(mask, found):
    with pytest.raises(BadCase, match=found):
        require_same_grid(SOURCE, volume(header=affine(1.0, 2.0, 3.0)), mask)


def write(path: Path, voxels, axes: str) -> Path:
    """Stored as `axes` says, 1×2×3 mm along right, anterior, superior."""
    ras = nib.Nifti1Image(voxels, affine(1.0, 2.0, 3.0, shift=-7.0))
    target = nib.orientations.axcodes2ornt(axes)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), target)
    nib.save(ras.as_reoriented(turn), path)
    return path


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("axes", ["RAS", "LPS", "IPL", "ASR", "PIR"])
def test_a_mask_read_as_slices_is_restored_as_its_file_has_it(axes, plane, tmp_path):
    labels = (derive_rng(1, "labels").random(SHAPE) < 0.3).astype(np.uint8)
    image = read_volume(write(tmp_path / "image.nii.gz", volume().voxels, axes))
    mask = read_labels(write(tmp_path / "mask.nii.gz", labels, axes), {0, 1})
    require_same_grid(SOURCE, image, mask)
    cases = read(mask.voxels > 0, image=image, slices="all", plane=plane)
    restored = restore_volume({case.slice_index: case.mask for case in cases}, cases[0].place)
    original = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(restored, np.asarray(original.dataobj))
    np.testing.assert_allclose(np.reshape(cases[0].place.affine, (4, 4)), original.affine)
    assert cases[0].place.shape == original.shape


@pytest.mark.parametrize("axes", ["LPS", "IPL", "PIR"])
def test_axes_in_the_file_do_not_change_what_is_read(axes, tmp_path):
    image = read_volume(write(tmp_path / "image.nii.gz", volume().voxels, axes))
    for one, other in zip(read(tumour(2, 5), image=image), read(tumour(2, 5)), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
        assert (one.spacing_mm, one.slice_index) == (other.spacing_mm, other.slice_index)
