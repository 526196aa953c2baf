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


def test_the_window_of_a_ct_of_another_name_is_noted(tmp_path):
    manifest = find_manifest("ct-under-another-name")
    checked = check_manifest(manifest, tmp_path)
    assert checked.codes == {"ct-window": "note"}
    assert "CT-CE: -160 becomes black and 240 white" in checked.text_of("ct-window")
    again = check_manifest(manifest, tmp_path, window={"CT": (-100.0, 200.0)})
    assert "CT-CE: -100 becomes black and 200 white" in again.text_of("ct-window")
    assert not preprocess_manifest(manifest, tmp_path).error


def test_an_mri_that_is_mostly_background_is_a_problem_that_the_foreground_solves(tmp_path):
    manifest = find_manifest("mri-mostly-background")
    checked = check_manifest(manifest, tmp_path, size=120)
    assert checked.codes["clipped"] == "problem"
    for way in ("--percentile-of foreground", "--percentile 99.5", "--window MRI=0,"):
        assert way in checked.text_of("clipped")
    assert check_manifest(manifest, tmp_path, size=120, percentile_of="foreground").report["passed"]
