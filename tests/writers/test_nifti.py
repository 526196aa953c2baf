"""Masks of NIfTI volumes are in the file of their source, voxel by voxel."""

import itertools
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.imaging.volumes import restore_volume
from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import ReadOptions, Source
from flames_cli.readers.formats.any_kind import read_any
from flames_cli.readers.inputs import InputImage, find_inputs, read_input
from flames_cli.writers.label import ModelLabel
from flames_cli.writers.masks import write_mask, write_probabilities
from tests.support.phantoms.nifti_bytes import fields_of, nifti_bytes, rows_of, write_nifti

PLANES = ("axial", "coronal", "sagittal")
SHAPE = (4, 5, 6)
BY = ModelLabel("mri", "0.1.0")
AXES = [
    "".join(codes)
    for order in itertools.permutations(["RL", "AP", "SI"])
    for codes in itertools.product(*order)
]
LIMIT = 60
"""Pixels above it are the tumour of these tests, so that a mask shows where each pixel came from."""


def draw(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return derive_rng(0, "nifti").integers(0, 100, shape).astype(np.int16)


def affine_of(axes: str) -> np.ndarray:
    affine = np.zeros((4, 4))
    affine[:, 3] = (10.0, -20.0, 30.5, 1.0)
    for column, code in enumerate(axes):
        row = next(index for index, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        affine[row, column] = (0.5, 1.25, 3.0)[column] * (1 if code in "RAS" else -1)
    return affine


def find(path: Path) -> InputImage:
    (image,) = find_inputs([path]).inputs
    return image


def predict(image: InputImage, plane: str = "axial") -> np.ndarray:
    """The mask of all that is bright, slice by slice, put back into the volume."""
    cases = read_input(image, ReadOptions(plane=plane))
    place = cases[0].place
    assert place
    return restore_volume({one.slice_index: (one.image > LIMIT).astype(np.uint8) for one in cases}, place)


def round_trip(path: Path, plane: str = "axial") -> nib.Nifti1Image:
    written = write_mask(predict(find(path), plane), find(path), path.with_name("mask"), BY, overwrite=True)
    assert written.path.name == "mask.nii.gz"
    assert written.notes == ()
    return nib.load(written.path)


def assert_on_source(mask: nib.Nifti1Image, path: Path) -> None:
    """As another library reads both files: same voxels, same matrices, same codes, same units."""
    source = nib.load(path)
    voxels = source.get_fdata()
    voxels = voxels[..., 0] if voxels.ndim == 4 else voxels
    np.testing.assert_array_equal(np.asarray(mask.dataobj), voxels > LIMIT)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, source.affine)
    for form in ("get_qform", "get_sform"):
        expected, code = getattr(source, form)(coded=True)
        found, found_code = getattr(mask, form)(coded=True)
        assert found_code == code
        np.testing.assert_array_equal(found, expected) if code else None
    assert mask.header.get_xyzt_units() == source.header.get_xyzt_units()
    np.testing.assert_array_equal(mask.header.get_zooms(), source.header.get_zooms()[:3])


def read_by_manifest(image: Path, mask: Path) -> np.ndarray:
    """The mask as our own readers put it on the image, in RAS."""
    options = ReadOptions(slices="all", keep_empty=True)
    cases = read_any(Source("a", "p", image, (mask,), modality="MRI"), options)
    return np.array([(one.mask > 0) == (one.image > LIMIT) for one in cases])


@pytest.mark.parametrize("axes", AXES)
def test_the_mask_is_on_its_voxels_in_every_order_and_direction_of_axes(axes, tmp_path):
    path = write_nifti(
        tmp_path / "a.nii.gz", nifti_bytes(draw(), sform_code=1, srow=rows_of(affine_of(axes)))
    )
    assert "".join(nib.aff2axcodes(nib.load(path).affine)) == axes
    for plane in PLANES:
        assert_on_source(round_trip(path, plane), path)
    assert read_by_manifest(path, tmp_path / "mask.nii.gz").all()


angles = st.floats(-3.1, 3.1)
sizes = st.floats(0.3, 5.0)


@settings(max_examples=40)
@given(
    turn=st.tuples(angles, angles, angles),
    spacing=st.tuples(sizes, sizes, sizes),
    shear=st.floats(-0.3, 0.3),
    plane=st.sampled_from(PLANES),
)
def test_the_mask_is_on_its_voxels_in_oblique_and_sheared_volumes(
    turn, spacing, shear, plane, tmp_path_factory
):
    affine = np.eye(4)
    affine[:3, :3] = rotation(*turn) @ np.diag(spacing)
    affine[:3, 2] += shear * affine[:3, 1]
    affine[:3, 3] = (-100.5, 3.25, 77.0)
    folder = tmp_path_factory.mktemp("oblique")
    path = write_nifti(folder / "a.nii", nifti_bytes(draw(), sform_code=2, srow=rows_of(affine)))
    assert_on_source(round_trip(path, plane), path)
    assert read_by_manifest(path, folder / "mask.nii.gz").all()


def rotation(x: float, y: float, z: float) -> np.ndarray:
    def about(first: int, second: int, angle: float) -> np.ndarray:
        matrix = np.eye(3)
        matrix[[first, second], [first, second]] = np.cos(angle)
        matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
        return matrix

    return about(0, 1, x) @ about(1, 2, y) @ about(0, 2, z)


HALF_TURN = {
    "quatern": (0.0, 0.0, 1.0),
    "qoffset": (10.0, 20.0, -5.0),
    "pixdim": (1.0, 0.5, 1.25, 3.0, 2.5, 1, 1, 1),
}
LEFT_HANDED = {**HALF_TURN, "pixdim": (-1.0, 0.5, 1.25, 3.0, 2.5, 1, 1, 1)}
OBLIQUE = {**HALF_TURN, "quatern": (0.1, -0.2, 0.3)}
SFORM = {"sform_code": 1, "srow": rows_of(affine_of("LPS"))}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="neither"),
        pytest.param({"pixdim": HALF_TURN["pixdim"]}, id="spacing alone"),
        pytest.param(SFORM, id="sform alone"),
        pytest.param({**HALF_TURN, "qform_code": 1}, id="qform alone"),
        pytest.param({**LEFT_HANDED, "qform_code": 2}, id="left-handed qform"),
        pytest.param({**OBLIQUE, "qform_code": 1}, id="oblique qform"),
        pytest.param({**OBLIQUE, "qform_code": 1, **SFORM, "sform_code": 4}, id="both, different"),
        pytest.param({**SFORM, "xyzt_units": 1}, id="metres"),
        pytest.param({**SFORM, "xyzt_units": 3}, id="micrometres"),
        pytest.param({**SFORM, "xyzt_units": 0}, id="no units"),
        pytest.param({**SFORM, "scl_slope": 0.5, "scl_inter": 20.0}, id="scaled"),
        pytest.param({**SFORM, "descrip": b"SECRET^NAME", "aux_file": b"SECRET", "dim_info": 57}, id="texts"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_geometry_of_the_header_is_copied_as_it_is(fields, version, order, tmp_path):
    content = nifti_bytes(draw(), order, version, **fields)
    path = write_nifti(tmp_path / "a.nii", content)
    assert_on_source(round_trip(path), path)
    before, after = fields_of(content), fields_of((tmp_path / "mask.nii.gz").read_bytes())
    same = (
        "sizeof_hdr",
        "magic",
        "qform_code",
        "sform_code",
        "quatern",
        "qoffset",
        "srow",
        "xyzt_units",
        "dim_info",
    )
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["dim"] == before["dim"]
    assert after["pixdim"][:4] == before["pixdim"][:4]
    assert (after["scl_slope"], after["scl_inter"], after["cal_max"]) == ((1.0,), (0.0,), (1.0,))
    assert after["descrip"] == "tumour mask by FLAMES model mri (0.1.0)"
    assert (after["intent_code"], after["intent_name"]) == ((1002,), "tumour")
    assert b"SECRET" not in Path(tmp_path / "mask.nii.gz").read_bytes()


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8", "u2"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_sources_of_every_type_have_masks_of_one_byte(kind, order, tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", nifti_bytes(draw().astype(kind), order, **SFORM))
    assert_on_source(round_trip(path), path)


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (4, 5, 6, 1), (4, 5, 1), (1, 5, 6)])
@pytest.mark.parametrize("plane", PLANES)
def test_the_mask_of_several_channels_or_of_one_slice_has_three_axes(shape, plane, tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", nifti_bytes(draw(shape), **SFORM))
    mask = round_trip(path, plane)
    assert mask.shape == shape[:3]
    assert_on_source(mask, path)


@pytest.mark.parametrize("version", [1, 2])
def test_probabilities_are_numbers_of_32_bits_on_the_voxels_of_the_source(version, tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", nifti_bytes(draw(), ">", version, **SFORM, scl_slope=3.0))
    values = (draw() / 99).astype(np.float32)
    written = write_probabilities(values, find(path), tmp_path / "p", BY)
    loaded = nib.load(written.path)
    assert loaded.get_data_dtype() == np.dtype("<f4")
    np.testing.assert_array_equal(np.asarray(loaded.dataobj), values)
    np.testing.assert_array_equal(loaded.affine, nib.load(path).affine)
    assert fields_of(written.path.read_bytes())["descrip"] == "tumour probability by FLAMES model mri (0.1.0)"


def test_the_same_mask_gives_the_same_bytes(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", nifti_bytes(draw(), **SFORM))
    one = write_mask(predict(find(path)), find(path), tmp_path / "1", BY).path.read_bytes()
    assert write_mask(predict(find(path)), find(path), tmp_path / "2", BY).path.read_bytes() == one


def test_writing_takes_less_memory_than_the_volume(tmp_path):
    shape = (64, 64, 64)
    path = write_nifti(tmp_path / "a.nii.gz", nifti_bytes(draw(shape), **SFORM))
    values = np.zeros(shape, np.float32)
    tracemalloc.start()
    write_probabilities(values, find(path), tmp_path / "p", BY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < values.nbytes


def test_an_empty_mask_is_a_file_of_zeros(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", nifti_bytes(draw(), **SFORM))
    written = write_mask(np.zeros(SHAPE, bool), find(path), tmp_path / "0", BY)
    assert not np.asarray(nib.load(written.path).dataobj).any()


def test_a_mask_of_another_shape_is_a_fault_of_the_caller(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", nifti_bytes(draw(), **SFORM))
    with pytest.raises(ValueError, match=r"the mask is \(4, 5, 5\), its image \(4, 5, 6\)"):
        write_mask(np.zeros((4, 5, 5)), find(path), tmp_path / "mask", BY)
    assert not (tmp_path / "mask.nii.gz").exists()


def test_a_name_of_a_model_that_is_long_or_not_latin_fits_into_the_header(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", nifti_bytes(draw(), **SFORM))
    written = write_mask(predict(find(path)), find(path), tmp_path / "m", ModelLabel("é" * 100, "1"))
    assert fields_of(written.path.read_bytes())["descrip"].startswith("tumour mask by FLAMES model ??")
    assert nib.load(written.path).shape == SHAPE
