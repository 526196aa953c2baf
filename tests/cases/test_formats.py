"""Files of a kind that was misread: the small inputs that showed it."""

from tests.support.cases import check_manifest, find_manifest


def test_white_is_zero_tiffs_are_found_to_be_copies_of_their_twins(tmp_path):
    checked = check_manifest(find_manifest("tiff16-white-is-zero"), tmp_path)
    assert checked.codes["copies-across-patients"] == "problem"
    assert checked.text_of("copies-across-patients").startswith("3 pictures are present twice")
    assert checked.report["counts"]["usable"] == 6
