import numpy as np
import pytest

from flames_cli.readers.base import ReadOptions
from flames_cli.readers.manifest import MANIFEST
from tests.support.cases import check_manifest, find_manifest, preprocess_manifest


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
