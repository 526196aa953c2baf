import gzip
import itertools
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.nifti import read_volume

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
RAS = np.diag([1.0, 2.0, 3.0, 1.0])
AXES = [
    "".join(codes)
    for order in itertools.permutations(["RL", "AP", "SI"])
    for codes in itertools.product(*order)
]
DIM, DATATYPE, VOX_OFFSET, SLOPE, XYZT_UNITS, QFORM_CODE, SFORM = 40, 70, 108, 112, 123, 252, 280
"""Offsets of the header's fields in bytes (nifti1.h)."""


def volume_bytes(voxels=VOXELS, affine=RAS):
    return nib.Nifti1Image(voxels, affine).to_bytes()


def write(folder: Path, content: bytes, name="a.nii.gz") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


def with_field(offset, layout, *values) -> bytes:
    content = bytearray(volume_bytes())
    struct.pack_into(layout, content, offset, *values)
    return bytes(content)


@pytest.mark.parametrize("axes", AXES)
def test_every_order_and_direction_of_axes_is_turned_to_ras(axes, tmp_path):
    image = nib.Nifti1Image(VOXELS, RAS)
    turned = image.as_reoriented(
        orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(axes))
    )
    volume = read_volume(write(tmp_path, turned.to_bytes()))
    assert volume.axes == axes
    assert volume.spacing_mm == (1.0, 2.0, 3.0)
    np.testing.assert_array_equal(volume.voxels, VOXELS)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_plain_and_zipped_files_of_either_byte_order_give_the_same_volume(name, order, tmp_path):
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    path = write(tmp_path, nib.Nifti1Image(VOXELS, RAS, header).to_bytes(), name)
    np.testing.assert_array_equal(read_volume(path).voxels, VOXELS)


def nifti2_bytes(voxels=VOXELS, order="<") -> bytes:
    """Return voxels as NIfTI-2, written by bytes (nifti2.h); the affine is RAS."""
    kinds = {"i2": (4, 16), "u1": (2, 8)}
    code, bits = kinds[voxels.dtype.str[1:]]
    content = bytearray(544)
    struct.pack_into(order + "i8shh", content, 0, 540, b"n+2\0\r\n\x1a\n", code, bits)
    struct.pack_into(order + "8q", content, 16, voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim))
    struct.pack_into(order + "8d", content, 104, 1.0, 1.0, 2.0, 3.0, 0, 0, 0, 0)
    struct.pack_into(order + "qdd", content, 168, 544, 1.0, 0.0)
    struct.pack_into(order + "ii", content, 344, 0, 1)
    struct.pack_into(order + "12d", content, 400, *RAS[:3].ravel())
    return bytes(content) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")


@pytest.mark.parametrize(("code", "mm"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (4, 1), (10, 1), (9, 1000)])
def test_sizes_in_other_units_become_mm(code, mm, tmp_path):
    volume = read_volume(write(tmp_path, with_field(XYZT_UNITS, "B", code)))
    assert volume.spacing_mm == pytest.approx((mm, 2 * mm, 3 * mm))
    np.testing.assert_array_equal(volume.voxels, VOXELS)


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (volume_bytes(VOXELS[..., 0]), "give one image a third axis of length 1"),
        (
            volume_bytes(np.zeros((3, 4, 5, 1, 3), np.int16)),
            "save one of several vectors as a file of its own",
        ),
        (volume_bytes(np.zeros((3, 4, 5), np.complex64)), "save one channel, or the magnitude"),
        (volume_bytes(np.where(VOXELS == 0, np.nan, VOXELS)), "replace NaN and infinity, for example with 0"),
    ],
)
def test_what_is_no_plain_volume_is_rejected_with_a_remedy(content, remedy, tmp_path):
    with pytest.raises(BadCase, match=rf"^a\.nii\.gz: .*expected .*; .*{remedy}"):
        read_volume(write(tmp_path, content))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_2_is_read_as_nifti_1(name, order, tmp_path):
    volume = read_volume(write(tmp_path, nifti2_bytes(order=order), name))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    assert (volume.axes, volume.spacing_mm) == ("RAS", (1.0, 2.0, 3.0))


def test_nifti_2_cut_anywhere_is_rejected(tmp_path):
    sound = nifti2_bytes()
    for length in range(0, len(sound), 7):
        with pytest.raises(BadCase, match=r"^cut\.nii: "):
            read_volume(write(tmp_path, sound[:length], "cut.nii"))


@pytest.mark.parametrize("content", [volume_bytes(), nifti2_bytes()])
def test_whether_a_file_is_zipped_is_decided_by_its_content(content, tmp_path):
    (tmp_path / "plain.nii.gz").write_bytes(content)
    (tmp_path / "zipped.nii").write_bytes(gzip.compress(content))
    for name in ("plain.nii.gz", "zipped.nii"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).voxels, VOXELS)


@pytest.mark.parametrize("more", [(1,), (1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("write_bytes", [volume_bytes, nifti2_bytes])
def test_axes_of_length_1_after_the_third_are_left_out(more, write_bytes, tmp_path):
    path = write(tmp_path, write_bytes(VOXELS.reshape(*VOXELS.shape, *more)))
    np.testing.assert_array_equal(read_volume(path).voxels, VOXELS)


def test_channels_may_be_followed_by_axes_of_length_1(tmp_path):
    path = write(tmp_path, volume_bytes(np.stack([VOXELS, VOXELS + 1], axis=-1)[..., None]))
    np.testing.assert_array_equal(read_volume(path, 1).voxels, VOXELS + 1)


def test_vectors_are_rejected(tmp_path):
    path = write(tmp_path, volume_bytes(np.zeros((3, 4, 5, 1, 3), np.float32)))
    with pytest.raises(BadCase, match=r"its shape is \(3, 4, 5, 1, 3\), expected 3 or 4 axes"):
        read_volume(path)


def test_a_pair_of_header_and_image_is_to_be_converted(tmp_path):
    content = bytearray(volume_bytes())
    content[344:348] = b"ni1\0"
    with pytest.raises(BadCase, match=r"\(its content is a pair of NIfTI files .*; convert it to \.nii\)"):
        read_volume(write(tmp_path, bytes(content), "a.nii"))


def test_a_name_in_capitals_is_zipped_all_the_same(tmp_path):
    path = write(tmp_path, volume_bytes()).rename(tmp_path / "A.NII.GZ")
    np.testing.assert_array_equal(read_volume(path).voxels, VOXELS)


def test_one_channel_of_four_axes_is_read(tmp_path):
    path = write(tmp_path, volume_bytes(np.stack([VOXELS, VOXELS + 1], axis=-1)))
    np.testing.assert_array_equal(read_volume(path, 0).voxels, VOXELS)
    np.testing.assert_array_equal(read_volume(path, 1).voxels, VOXELS + 1)


def test_slope_and_intercept_are_applied(tmp_path):
    path = write(tmp_path, with_field(SLOPE, "<ff", 2.0, 5.0))
    np.testing.assert_array_equal(read_volume(path).voxels, VOXELS * 2 + 5)


@pytest.mark.parametrize(
    ("stored", "read"), [(np.int16, np.float32), (np.float32, np.float32), (np.float64, np.float64)]
)
def test_scaled_voxels_take_no_more_memory_than_they_need(stored, read, tmp_path):
    content = bytearray(volume_bytes(VOXELS.astype(stored)))
    struct.pack_into("<ff", content, SLOPE, 1.0, -1024.0)
    volume = read_volume(write(tmp_path, bytes(content)))
    assert volume.voxels.dtype == read
    np.testing.assert_array_equal(volume.voxels, VOXELS - 1024)


@pytest.mark.parametrize("slope", [0.0, float("nan"), float("inf")])
def test_a_slope_that_means_none_leaves_the_voxels(slope, tmp_path):
    volume = read_volume(write(tmp_path, with_field(SLOPE, "<ff", slope, 0.0)))
    np.testing.assert_array_equal(volume.voxels, VOXELS)


@pytest.mark.parametrize(
    ("channels", "channel", "found"), [((), 1, "one channel"), ((2,), 2, "2 channels, expected at least 3")]
)
def test_a_missing_channel_is_rejected(channels, channel, found, tmp_path):
    path = write(tmp_path, volume_bytes(np.zeros((3, 4, 5, *channels), np.int16)))
    with pytest.raises(BadCase, match=found):
        read_volume(path, channel)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadCase, match=r"^gone\.nii\.gz: there is no such file$"):
        read_volume(tmp_path / "gone.nii.gz")


def test_no_flipped_byte_of_a_zipped_volume_goes_unseen(tmp_path):
    sound = write(tmp_path, volume_bytes()).read_bytes()
    path = tmp_path / "flipped.nii.gz"
    refused = 0
    for offset in range(len(sound)):
        path.write_bytes(sound[:offset] + bytes([sound[offset] ^ 0x10]) + sound[offset + 1 :])
        try:
            np.testing.assert_array_equal(read_volume(path).voxels, VOXELS)
        except BadCase:
            refused += 1
    assert refused >= len(sound) - 10, "only gzip's own header has bytes without meaning"


def test_a_zipped_volume_cut_anywhere_is_rejected(tmp_path):
    sound = write(tmp_path, volume_bytes()).read_bytes()
    path = tmp_path / "cut.nii.gz"
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        with pytest.raises(BadCase, match=r"^cut\.nii\.gz: "):
            read_volume(path)


def test_a_plain_volume_cut_anywhere_is_rejected(tmp_path):
    sound = volume_bytes()
    for length in range(0, len(sound), 7):
        with pytest.raises(BadCase, match=r"^cut\.nii: "):
            read_volume(write(tmp_path, sound[:length], "cut.nii"))


def test_extra_bytes_after_the_zipped_volume_are_rejected(tmp_path):
    path = write(tmp_path, volume_bytes())
    path.write_bytes(path.read_bytes() + b"rubbish")
    with pytest.raises(BadCase, match="damaged or cut short"):
        read_volume(path)


def test_a_header_that_claims_ten_terabytes_allocates_nothing(tmp_path):
    path = write(tmp_path, with_field(DIM, "<4h", 3, 30000, 30000, 6000))
    tracemalloc.start()
    with pytest.raises(BadCase, match=r"claims a shape of \(30000, 30000, 6000\), 10058 GiB"):
        read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def bomb(folder: Path, head: bytes, mebibytes: int) -> Path:
    path = folder / "bomb.nii.gz"
    with gzip.open(path, "wb", 1) as stream:
        stream.write(head)
        for _ in range(mebibytes):
            stream.write(bytes(2**20))
    return path


def with_extension(claimed: int) -> bytes:
    """A sound volume whose header has an extension of 32 bytes that claims to have `claimed`."""
    content = with_field(VOX_OFFSET, "<f", 352 + 32)
    return content[:348] + struct.pack("<4Bii", 1, 0, 0, 0, claimed, 6) + bytes(24) + content[352:]


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (volume_bytes(), "its voxels end at byte 472, more than 64 MiB follow"),
        (with_field(VOX_OFFSET, "<f", 2.0**27), "claims that voxels start at byte 134217728"),
        (with_field(VOX_OFFSET, "<f", 1e30)[:348] + struct.pack("<4Bii", 1, 0, 0, 0, 2**27, 6), "start at"),
    ],
)
def test_data_after_the_voxels_are_not_decompressed_to_their_end(head, found, tmp_path):
    path = bomb(tmp_path, head, 129)
    tracemalloc.start()
    with pytest.raises(BadCase, match=found):
        read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_claims_more_than_its_file_can_hold_allocates_nothing(name, tmp_path):
    path = write(tmp_path, with_field(DIM, "<4h", 3, 2000, 2000, 900), name)
    tracemalloc.start()
    with pytest.raises(BadCase, match=r"claims 7200000000 bytes of voxels, the file has \d+ in all"):
        read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("claimed", [32, 17, -17, 2**30])
def test_extensions_of_the_header_are_passed_over_whatever_they_claim(claimed, tmp_path):
    path = write(tmp_path, with_extension(claimed))
    np.testing.assert_array_equal(read_volume(path).voxels, VOXELS)


def test_a_header_that_is_corrected_prints_nothing(tmp_path, capfd):
    read_volume(write(tmp_path, with_field(QFORM_CODE, "<2h", 99, 99)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (with_field(DIM, "<4h", 3, 3, 4, 6), "contains 120 bytes of voxels, its header claims 144"),
        (with_field(DIM, "<4h", 3, -3, 4, 5), r"shape is \(-3, 4, 5\)"),
        (with_field(DIM, "<4h", 3, 0, 4, 5), r"shape is \(0, 4, 5\)"),
        (with_field(DIM, "<3h", 2, 3, 4), r"shape is \(3, 4\), expected 3 or 4 axes"),
        (with_field(DIM, "<h", 9), "cannot be read as NIfTI"),
        (with_field(VOX_OFFSET, "<f", 1e18), "claims that voxels start at byte"),
        (with_field(VOX_OFFSET, "<f", float("nan")), "header cannot be right"),
        (with_field(VOX_OFFSET, "<f", float("inf")), "header cannot be right"),
        (with_field(SLOPE, "<ff", 2.0, float("nan")), "cannot be read as NIfTI"),
        (with_field(DATATYPE, "<h", 77), "cannot be read as NIfTI"),
        (with_field(DATATYPE, "<h", 128), "expected one number each"),
        (with_field(DATATYPE, "<h", 32), "expected one number each"),
        (with_field(SFORM, "<12f", *[0.0] * 12), "its header has no orientation that makes sense"),
        (with_field(SFORM, "<12f", *[float("nan")] * 12), "header cannot be right"),
        (with_field(QFORM_CODE, "<2h3f", 1, 0, 5.0, 5.0, 5.0), "header cannot be right"),
        (b"", "cannot be read as NIfTI"),
        (b"this is no volume " * 40, "cannot be read as NIfTI"),
    ],
)
def test_a_header_with_wrong_claims_is_rejected(content, found, name, tmp_path):
    with pytest.raises(BadCase, match=found):
        read_volume(write(tmp_path, content, name))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_rejected(value, tmp_path):
    voxels = VOXELS.astype(np.float32)
    voxels[1, 2, 3] = value
    with pytest.raises(BadCase, match="not finite"):
        read_volume(write(tmp_path, volume_bytes(voxels)))
