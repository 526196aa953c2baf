"""Files of a kind that was misread: the small inputs that showed it."""

from tests.support.cases import check_manifest, find_manifest


def test_white_is_zero_tiffs_are_found_to_be_copies_of_their_twins(tmp_path):
    checked = check_manifest(find_manifest("tiff16-white-is-zero"), tmp_path)
    assert checked.codes["copies-across-patients"] == "problem"
    assert checked.text_of("copies-across-patients").startswith("3 pictures are present twice")
    assert checked.report["counts"]["usable"] == 6


def test_nifti_2_is_read(tmp_path):
    checked = check_manifest(find_manifest("nifti2"), tmp_path, size=48)
    assert (checked.report["counts"]["usable"], checked.report["counts"]["bad"]) == (4, 0)
    drawn = (89 + 149 + 89) / 3 / (48 * 44)
    (group,) = [group for group in checked.report["groups"] if group["site"] is None]
    assert group["lesions"]["share"]["max"] == 149 / (48 * 44) > drawn > group["lesions"]["share"]["min"]
