"""Images whose intensities would be lost in the scaling to 0..1, each as a manifest."""

import pytest

from tests.support.cases import check_manifest, find_manifest, preprocess_manifest


@pytest.mark.parametrize(
    ("name", "remedy", "window"),
    [
        ("ct-without-intercept", "--window CT=864,1264", {"CT": (864.0, 1264.0)}),
        ("deeplesion-png16", "--window CT=32608,33008", {"CT": (32608.0, 33008.0)}),
        ("mri-zscored", "--window MRI=-3,3", {"MRI": (-3.0, 3.0)}),
    ],
)
def test_intensities_that_fit_no_rule_are_rejected_with_the_window_that_helps(name, remedy, window, tmp_path):
    manifest = find_manifest(name)
    checked = check_manifest(manifest, tmp_path)
    assert checked.codes["unreadable"] == "problem"
    assert remedy in checked.text_of("unreadable")
    assert remedy in preprocess_manifest(manifest, tmp_path / "refused").error
    assert check_manifest(manifest, tmp_path, window=window).report["passed"]
    assert not preprocess_manifest(manifest, tmp_path, window=window).error
