from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from PIL import Image
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from flames_cli.readers.base import NONE_CHOSEN, BadCase, ReadOptions, SkippedCase, Source
from flames_cli.readers.formats.any_kind import read_any
from flames_cli.readers.formats.dicom import read_series
from flames_cli.readers.formats.dicom_files import is_segmentation, read_header
from flames_cli.readers.formats.dicom_seg import read_segmentation, read_segments
from flames_cli.readers.formats.dicom_stills import read_still_segmentation
from tests.support.phantoms.dicom import write_segmentation, write_series
from tests.support.phantoms.dicom_bytes import image, sequence, write

SHAPE = (6, 5, 4)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
TYPES = [SegmentationTypeValues.BINARY, SegmentationTypeValues.LABELMAP]


def organs() -> np.ndarray:
    """Liver (1) with a tumour (2), slices×rows×columns."""
    labels = np.zeros(SHAPE[::-1], np.uint8)
    labels[:, 1:4, 1:5] = 1
    labels[1:3, 2, 2:4] = 2
    return labels


@pytest.fixture
def series(tmp_path) -> Path:
    body = np.full(SHAPE, 40, np.int16)
    body[0] = -1000
    write_series(tmp_path / "CT", body, AFFINE, "CT", "p1", intercept=-1024)
    return tmp_path / "CT"


def segment(number: int, name: str) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
    )


def write_segments(
    series: Path, names: list[str], labels: np.ndarray, kind: SegmentationTypeValues = TYPES[0]
) -> Path:
    Segmentation(
        source_images=[pydicom.dcmread(path) for path in sorted(series.iterdir())],
        pixel_array=labels,
        segmentation_type=kind,
        segment_descriptions=[segment(number, name) for number, name in enumerate(names, start=1)],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="FLAMES",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
    ).save_as(series.parent / "seg.dcm")
    return series.parent / "seg.dcm"


def count(path: Path, series: Path, *labels: str) -> int:
    return int(read_segmentation(path, read_series(series), labels)[0].voxels.sum())


@pytest.mark.parametrize("kind", TYPES)
def test_segments_are_chosen_by_name_or_number(kind, series):
    path = write_segments(series, ["Liver", "Tumour"], organs(), kind)
    assert is_segmentation(path)
    liver, tumour = int((organs() == 1).sum()), int((organs() == 2).sum())
    assert (
        count(path, series, "tumour") == count(path, series, "2") == count(path, series, " TUMOUR ") == tumour
    )
    assert count(path, series, "Liver", "2") == liver + tumour
    marked, found = read_segmentation(path, read_series(series), ["Tumour", "Cyst"])
    np.testing.assert_array_equal(marked.voxels, (organs() == 2).transpose(2, 1, 0)[::-1, ::-1])
    assert found == {"Tumour"}


@pytest.mark.parametrize("kind", TYPES)
def test_several_segments_need_a_choice_with_names_and_areas(kind, series):
    path = write_segments(series, ["Liver", "Tumour"], organs(), kind)
    message = r'2 segments, 1 "Liver" \(44 px\), 2 "Tumour" \(4 px\); expected .*, such as --labels "Tumour"'
    with pytest.raises(BadCase, match=message):
        count(path, series)


def test_the_example_of_a_choice_is_a_segment_whose_name_is_that_of_a_tumour(series):
    path = write_segments(series, ["Hepatic lesion", "Liver"], organs())
    with pytest.raises(BadCase, match=r'2 "Liver" \(4 px\); expected .*, such as --labels "Hepatic lesion"'):
        count(path, series)


def test_segments_of_which_one_is_drawn_need_a_choice_too(series):
    path = write_segments(series, ["Liver", "Tumour"], np.where(organs() == 1, 1, 0).astype(np.uint8))
    with pytest.raises(BadCase, match=r'2 "Tumour" \(0 px\)'):
        count(path, series)
    assert count(path, series, "Tumour") == 0


@pytest.mark.parametrize("kind", TYPES)
def test_the_only_segment_is_tumour_whatever_its_name(kind, series):
    path = write_segments(series, ["Segment_1"], (organs() > 0).astype(np.uint8), kind)
    assert count(path, series) == (organs() > 0).sum()


def test_the_only_segment_is_no_tumour_if_another_name_was_chosen(series):
    path = write_segments(series, ["Liver"], (organs() > 0).astype(np.uint8))
    mask, found = read_segmentation(path, read_series(series), ["Tumour"])
    assert not mask.voxels.any()
    assert not found
    source = Source("CT", "p1", series, (path,), modality="CT")
    with pytest.raises(SkippedCase, match=NONE_CHOSEN):
        read_any(source, ReadOptions(labels=("Tumour",)))


def test_labels_of_the_row_replace_those_of_the_option(series):
    path = write_segments(series, ["Liver", "Tumour"], organs())
    source = Source("CT", "p1", series, (path,), modality="CT", labels=("Liver",))
    cases = read_any(source, ReadOptions(labels=("Tumour",)))
    assert sum(int(case.mask.sum()) for case in cases) == 44


def test_two_segments_of_one_name_are_chosen_together(series):
    path = write_segments(series, ["Tumour", "Tumour"], organs())
    assert count(path, series, "Tumour") == (organs() > 0).sum()


def test_two_files_of_one_row_are_joined(series):
    liver = write_segments(series, ["Liver"], (organs() == 1).astype(np.uint8))
    liver = liver.rename(series.parent / "liver.dcm")
    tumour = write_segments(series, ["Tumour"], (organs() == 2).astype(np.uint8))
    source = Source("CT", "p1", series, (liver, tumour), modality="CT")
    cases = read_any(source, ReadOptions(labels=("Tumour",)))
    assert sum(int(case.mask.sum()) for case in cases) == 4
    assert cases[0].notes == (NONE_CHOSEN,)


def test_a_segmentation_is_no_image(series):
    path = write_segments(series, ["Tumour"], (organs() > 0).astype(np.uint8))
    with pytest.raises(BadCase, match=r"seg\.dcm: it is a segmentation, or contains one, expected images"):
        read_series(path)


def test_several_segmentations_in_a_folder_are_not_read_as_slices(series):
    slices = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    (series.parent / "segs").mkdir()
    for name in ("a.dcm", "b.dcm"):
        write_segmentation(series.parent / "segs" / name, slices, np.ones(SHAPE, np.uint8))
    with pytest.raises(BadCase, match="it is a segmentation, or contains one"):
        read_series(series.parent / "segs", labels=True)


STILL = (4, 5)


def segmentation_of_still(
    path: Path,
    frames: list[np.ndarray],
    numbers: list[int],
    sources: list[tuple[str, int] | None],
    kind: str = "SEG",
) -> Path:
    """A segmentation without positions; each frame may name the image, and the frame, that it shows."""
    groups = []
    for number, source in zip(numbers, sources, strict=True):
        group = {(0x0062, 0x000A): sequence({(0x0062, 0x000B): ("US", number)})}
        if source:
            shown = {(0x0008, 0x1155): ("UI", source[0])}
            if source[1]:
                shown[0x0008, 0x1160] = ("IS", source[1])
            group[0x0008, 0x9124] = sequence({(0x0008, 0x2112): sequence(shown)})
        groups.append(group)
    bits = np.concatenate([frame.ravel() for frame in frames]).astype(np.uint8)
    names = {number: f"Segment {number}" for number in numbers}
    elements = {
        **image(kind, STILL, np.packbits(bits, bitorder="little").tobytes(), 1, frames=len(frames)),
        (0x0062, 0x0001): ("CS", "BINARY"),
        (0x0062, 0x0002): sequence(
            *({(0x0062, 0x0004): ("US", n), (0x0062, 0x0005): ("LO", name)} for n, name in names.items())
        ),
        (0x5200, 0x9230): sequence(*groups),
    }
    return write(path, elements)


def drawn(row: int) -> np.ndarray:
    frame = np.zeros(STILL, np.uint8)
    frame[row, 1:4] = 1
    return frame


def still(path: Path, frames: int | None = None) -> Path:
    return write(path, image("US", STILL, bytes(20 * (frames or 1)), frames=frames))


def test_a_segmentation_without_positions_is_the_mask_of_a_still(tmp_path):
    path = segmentation_of_still(tmp_path / "seg.dcm", [drawn(1)], [1], [("1.2.3.4", 0)])
    mask, _ = read_still_segmentation(path, still(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(mask, drawn(1))


def test_only_the_frames_of_the_image_count(tmp_path):
    frames, sources = [drawn(1), drawn(2)], [("1.2.3.4", 0), ("1.2.3.5", 0)]
    path = segmentation_of_still(tmp_path / "seg.dcm", frames, [1, 1], sources)
    mask, _ = read_still_segmentation(path, still(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(mask, drawn(1))


def test_only_the_named_frame_of_a_clip_counts(tmp_path):
    frames, sources = [drawn(1), drawn(2)], [("1.2.3.4", 1), ("1.2.3.4", 3)]
    path = segmentation_of_still(tmp_path / "seg.dcm", frames, [1, 1], sources)
    clip = still(tmp_path / "a.dcm", frames=3)
    np.testing.assert_array_equal(read_still_segmentation(path, clip, frame=3)[0], drawn(2))
    assert not read_still_segmentation(path, clip, frame=2)[0].any()


def test_segments_of_a_still_are_chosen_as_those_of_a_volume(tmp_path):
    sources = [("1.2.3.4", 0), ("1.2.3.4", 0)]
    path = segmentation_of_still(tmp_path / "seg.dcm", [drawn(1), drawn(2)], [1, 2], sources)
    image_path = still(tmp_path / "a.dcm")
    with pytest.raises(BadCase, match="it contains 2 segments"):
        read_still_segmentation(path, image_path)
    np.testing.assert_array_equal(read_still_segmentation(path, image_path, labels=["2"])[0], drawn(2))
    assert read_still_segmentation(path, image_path, labels=["other"])[1] == frozenset()


@pytest.mark.parametrize("frames", [None, 3])
def test_frames_that_name_no_image_are_rejected_if_they_are_ambiguous(frames, tmp_path):
    image_path = still(tmp_path / "a.dcm", frames)
    path = segmentation_of_still(tmp_path / "seg.dcm", [drawn(1), drawn(2)], [1, 1], [None, None])
    with pytest.raises(BadCase, match="its frames do not name the image that they show"):
        read_still_segmentation(path, image_path, frame=1 if frames else 0)


def test_one_frame_that_names_no_image_is_the_mask(tmp_path):
    path = segmentation_of_still(tmp_path / "seg.dcm", [drawn(1)], [1], [None])
    np.testing.assert_array_equal(read_still_segmentation(path, still(tmp_path / "a.dcm"))[0], drawn(1))


def test_a_segmentation_may_be_the_mask_of_an_exported_picture(tmp_path):
    path = segmentation_of_still(tmp_path / "seg.dcm", [drawn(1)], [1], [("1.2.3.4", 0)])
    Image.fromarray(np.full(STILL, 9, np.uint8)).save(tmp_path / "a.png")
    (case,) = read_any(Source("a.png", "p1", tmp_path / "a.png", (path,), modality="US"), ReadOptions())
    np.testing.assert_array_equal(case.mask, drawn(1))
    frames = [drawn(1), drawn(2)]
    segmentation_of_still(path, frames, [1, 1], [("1.2.3.4", 0), ("1.2.3.5", 0)])
    with pytest.raises(BadCase, match="its frames do not name the image that they show"):
        read_still_segmentation(path, None)


def test_fractions_without_their_name_are_rejected(tmp_path):
    values = np.arange(20, dtype=np.uint8)
    path = write(tmp_path / "seg.dcm", image("SEG", STILL, values.tobytes(), frames=1))
    with pytest.raises(BadCase, match="it is a segmentation of fractions, expected a binary one"):
        read_segments(path, read_header(path))


def test_a_label_map_has_its_segments_as_values_and_padding_as_background(tmp_path):
    values = np.array([[9, 9, 9, 9, 9], [9, 1, 1, 2, 9], [9, 1, 1, 9, 9], [9] * 5], np.uint8)
    elements = {
        **image("LABELMAP", STILL, values.tobytes(), padding=9, frames=1),
        (0x0062, 0x0002): sequence(
            {(0x0062, 0x0004): ("US", 1), (0x0062, 0x0005): ("LO", "Liver")},
            {(0x0062, 0x0004): ("US", 2), (0x0062, 0x0005): ("LO", "Tumour")},
        ),
        (0x5200, 0x9230): sequence({}),
    }
    path = write(tmp_path / "seg.dcm", elements)
    assert read_segments(path, read_header(path)).names == {1: "Liver", 2: "Tumour"}
    mask, _ = read_still_segmentation(path, still(tmp_path / "a.dcm"), labels=["Tumour"])
    np.testing.assert_array_equal(mask, values == 2)
