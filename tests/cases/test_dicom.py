from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase, ReadOptions
from flames_cli.readers.manifest import MANIFEST
from tests.support.cases import check_manifest, find_manifest, preprocess_manifest
from tests.support.phantoms.dicom import write_segmentation, write_series
from tests.support.phantoms.dicom_bytes import image, write


def test_twelve_bits_in_the_upper_part_of_sixteen_are_shifted_down(tmp_path):
    manifest = find_manifest("dicom-high-bit-15")
    checked = check_manifest(manifest, tmp_path, size=48)
    assert checked.report["passed"]
    (site,) = [group for group in checked.report["groups"] if group["site"] is None]
    assert site["intensity"]["p50"] == pytest.approx(28, abs=15)
    first = MANIFEST.list_sources(manifest)[0]
    values = np.concatenate([case.image.ravel() for case in MANIFEST.read_source(first, ReadOptions())])
    assert values.min() == -1024
    assert values.max() < 200


def test_a_segmentation_of_liver_and_tumour_needs_a_choice(tmp_path):
    manifest = find_manifest("dicom-seg-liver-and-tumour")
    checked = check_manifest(manifest, tmp_path, size=48)
    assert checked.codes["unreadable"] == "problem"
    text = checked.text_of("unreadable")
    assert '2 segments, 1 "Liver" (5,045 px), 2 "Tumour" (229 px)' in text
    assert '--labels "Tumour"' in text
    assert '2 "Tumour" (229 px)' in preprocess_manifest(manifest, tmp_path, size=48).error


@pytest.mark.parametrize("labels", [("tumour",), ("2",)])
def test_the_chosen_segment_alone_is_tumour(labels):
    source = MANIFEST.list_sources(find_manifest("dicom-seg-liver-and-tumour"))[0]
    cases = MANIFEST.read_source(source, ReadOptions(labels=labels))
    assert sum(int(case.mask.sum()) for case in cases) == 229


def test_segmentations_of_other_series_are_rejected(tmp_path):
    manifest = find_manifest("dicom-seg-of-another-series")
    checked = check_manifest(manifest, tmp_path, size=48)
    assert checked.codes["unreadable"] == "problem"
    assert checked.text_of("unreadable").count("the mask is of another frame of reference") == 4
    assert "of another frame of reference" in preprocess_manifest(manifest, tmp_path, size=48).error


def test_ultrasound_without_a_position_is_a_still(tmp_path):
    manifest = find_manifest("dicom-ultrasound-still")
    checked = check_manifest(manifest, tmp_path)
    assert checked.report["passed"]
    assert checked.report["counts"]["images"] == 4
    report = preprocess_manifest(manifest, tmp_path)
    assert not report.error


SHAPE = (40, 48)


def disc(row: int, column: int, radius: int = 6) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).astype(np.uint8)


def scene(number: int, row: int = 20, column: int = 24) -> np.ndarray:
    noise = derive_rng(number, "scene").integers(60, 200, SHAPE)
    return (noise - 50 * disc(row, column)).astype(np.uint8)


def write_manifest(folder: Path, columns: str, *rows: str) -> Path:
    (folder / "manifest.csv").write_text("\n".join([columns, *rows]) + "\n")
    return folder / "manifest.csv"


def test_frames_of_one_clip_are_images_of_one_patient(tmp_path):
    rows = []
    for number in range(4):
        frames = np.stack([scene(10 * number + frame) for frame in range(3)])
        write(tmp_path / f"clip{number}.dcm", image("US clip", SHAPE, frames.tobytes(), frames=3))
        Image.fromarray(255 * disc(20, 24)).save(tmp_path / f"mask{number}.png")
        rows += [f"clip{number}.dcm,mask{number}.png,P{number},US,breast,{frame}" for frame in (1, 3)]
    manifest = write_manifest(tmp_path, "image,mask,patient_id,modality,organ,frame", *rows)
    checked = check_manifest(manifest, tmp_path / "work", size=40)
    assert checked.report["counts"]["images"] == 8
    assert checked.report["counts"]["patients"] == 4
    assert "unreadable" not in checked.codes
    assert not preprocess_manifest(manifest, tmp_path / "work", size=40).error
    sources = MANIFEST.list_sources(manifest)
    assert [source.case for source in sources[:3]] == ["clip0/frame1", "clip0/frame3", "clip1/frame1"]
    third = MANIFEST.read_source(sources[1], ReadOptions())[0]
    np.testing.assert_array_equal(third.image, scene(2))


def test_a_clip_without_a_frame_names_the_column(tmp_path):
    write(tmp_path / "clip.dcm", image("US clip", SHAPE, scene(0).tobytes() * 3, frames=3))
    Image.fromarray(255 * disc(20, 24)).save(tmp_path / "mask.png")
    manifest = write_manifest(
        tmp_path, "image,mask,patient_id,modality,organ", "clip.dcm,mask.png,P0,US,breast"
    )
    text = check_manifest(manifest, tmp_path / "work", size=40).text_of("unreadable")
    assert "it is a clip of 3 frames, expected one image" in text
    assert "column frame" in text


def test_a_file_of_any_name_is_known_by_its_content(tmp_path):
    for number in range(4):
        write(
            tmp_path / f"IM{number:04d}",
            image("US", SHAPE, scene(number).tobytes()),
            preamble=number % 2 == 0,
        )
        write(tmp_path / f"SC{number:04d}.ima", image("SC", SHAPE, disc(20 + number, 24).tobytes()))
    rows = [f"IM{number:04d},SC{number:04d}.ima,P{number},US,breast" for number in range(4)]
    manifest = write_manifest(tmp_path, "image,mask,patient_id,modality,organ", *rows)
    checked = check_manifest(manifest, tmp_path / "work", size=40)
    assert checked.report["passed"], checked.report["findings"]
    case = MANIFEST.read_source(MANIFEST.list_sources(manifest)[1], ReadOptions())[0]
    np.testing.assert_array_equal(case.image, scene(1))
    np.testing.assert_array_equal(case.mask, disc(21, 24))


def test_radiographs_of_twelve_bits_are_read_as_deep_stills(tmp_path):
    words = scene(1).astype("<u2") * 16
    write(
        tmp_path / "a.dcm",
        image("CR", SHAPE, words.tobytes(), 16, stored=12, high=11, imager_spacing=[0.1, 0.2]),
    )
    Image.fromarray(255 * disc(20, 24)).save(tmp_path / "mask.png")
    manifest = write_manifest(
        tmp_path, "image,mask,patient_id,modality,organ", "a.dcm,mask.png,P0,X-ray,chest"
    )
    (case,) = MANIFEST.read_source(MANIFEST.list_sources(manifest)[0], ReadOptions())
    np.testing.assert_array_equal(case.image, words)
    assert case.max_value == 4095
    assert 0 < case.high <= 4095
    assert case.spacing_mm == (0.1, 0.2)


def test_stills_and_volumes_are_no_masks_of_each_other(tmp_path):
    place = {"position": [0, 0, 0], "orientation": [1, 0, 0, 0, 1, 0], "spacing": [1, 1]}
    write(tmp_path / "still.dcm", image("US", SHAPE, scene(0).tobytes()))
    write(tmp_path / "slice.dcm", image("MR", SHAPE, scene(0).tobytes(), **place))
    columns = "image,mask,patient_id,modality,organ"
    for row, message in (
        ("still.dcm,slice.dcm,P0,US,breast", "the mask is a volume, its image a still"),
        ("slice.dcm,still.dcm,P0,MRI,breast", "the mask is a still, its image a volume"),
    ):
        (source,) = MANIFEST.list_sources(write_manifest(tmp_path, columns, row))
        with pytest.raises(BadCase, match=message):
            MANIFEST.read_source(source, ReadOptions())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("still.png,mask.png,P0,US,breast,2", "frame 2 of a single image, expected a DICOM clip"),
        ("slice.dcm,mask.png,P0,MRI,breast,1", "frame 1 of a volume, expected a clip"),
    ],
)
def test_a_frame_of_anything_but_a_clip_is_rejected(row, message, tmp_path):
    place = {"position": [0, 0, 0], "orientation": [1, 0, 0, 0, 1, 0], "spacing": [1, 1]}
    write(tmp_path / "slice.dcm", image("MR", SHAPE, scene(0).tobytes(), **place))
    for name, pixels in (("still", scene(0)), ("mask", 255 * disc(20, 24))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    manifest = write_manifest(tmp_path, "image,mask,patient_id,modality,organ,frame", row)
    with pytest.raises(BadCase, match=message):
        MANIFEST.read_source(MANIFEST.list_sources(manifest)[0], ReadOptions())


def test_a_remark_about_a_mask_is_a_note_of_check(tmp_path):
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    voxels = np.full((*SHAPE[::-1], 3), 40, np.int16)
    voxels[:, :6] = -1000
    mask = np.repeat(disc(20, 24).T[..., None], 3, axis=2)
    for number in range(4):
        folder = tmp_path / f"P{number}"
        noise = derive_rng(number, "remark").integers(-30, 30, voxels.shape)
        slices = write_series(folder / "T1", voxels + noise, affine, "CT", f"P{number}", intercept=-1024)
        other = write_series(folder / "T2", voxels, affine, "CT", f"P{number}", intercept=-1024)
        write_segmentation(folder / "seg.dcm", other if number == 0 else slices, mask)
    rows = [f"P{number}/T1,P{number}/seg.dcm,P{number},CT,liver" for number in range(4)]
    manifest = write_manifest(tmp_path, "image,mask,patient_id,modality,organ", *rows)
    checked = check_manifest(manifest, tmp_path / "work", size=40)
    assert checked.codes["remark"] == "note"
    assert checked.text_of("remark").startswith("1 volume: the mask was drawn on another series")
    assert "P0/T1" in checked.text_of("remark")
    assert "unreadable" not in checked.codes
