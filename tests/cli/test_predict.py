"""`flames predict` on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.stages.predict.conftest import blobs, write_still
from tests.support.bright_model import write_bright_model

DONE, PROBLEMS, WRONG = 0, 4, 2


@pytest.fixture
def scans(tmp_path):
    """Three images, and a model that knows their masks."""
    for number in range(3):
        write_still(tmp_path / "in" / f"scan {number}.png", blobs((16, 12), number))
    write_bright_model(tmp_path / "bright", 16, modality="US")
    return tmp_path


@pytest.fixture
def predict(flames, scans):
    """predict(…): the result of the command on the three images."""

    def run(*args, inputs=("in",)):
        named = [str(scans / name) for name in inputs]
        model = ("--model", str(scans / "bright"), "--out", str(scans / "out"), "--device", "cpu")
        return flames("predict", *model, *args, *named)

    return run


def test_one_screen_names_the_inputs_the_totals_and_the_files(predict, scans):
    result = predict()
    assert result.exit_code == DONE, result.output
    assert max(map(len, result.output.replace(str(scans), "").splitlines())) <= 80
    for text in ("scan 0", "scan 2", "tumours by bright", "3 inputs done, 3 with a lesion, 0 failed", "→ "):
        assert text in result.output
    assert (scans / "out" / "overlays" / "scan 1.png").is_file()


def test_a_second_command_says_what_was_done_before(predict):
    predict()
    assert "3 of them by an earlier command" in predict().output


def test_a_failure_is_listed_and_ends_with_4(predict, scans):
    (scans / "in" / "bad.png").write_bytes(b"no image")
    result = predict()
    assert result.exit_code == PROBLEMS
    assert "failed: bad: " in result.output
    assert "3 inputs done" in result.output


def test_only_failures_are_an_error_in_one_line(predict, scans):
    (scans / "bad").mkdir()
    (scans / "bad" / "bad.png").write_bytes(b"no image")
    result = predict(inputs=("bad",))
    assert result.exit_code == WRONG
    assert "none of the 1 inputs could be predicted" in result.stderr


def test_equal_failures_are_one_line(predict, scans):
    for number in range(4):
        Image.fromarray(np.full((9, 9), 70_000 % 65536, np.uint16)).save(scans / "in" / f"deep {number}.png")
    write_bright_model(scans / "bright", 16, modality="US", rules=())
    result = predict()
    assert result.exit_code == PROBLEMS
    assert "failed: deep 0 and 3 more: its intensities have no fixed range" in result.output


def test_json_is_one_line_on_stdout(predict):
    found = json.loads(predict("--json", "--no-overlays").stdout)
    assert (found["done"], found["failed"], [case["input"] for case in found["cases"]]) == (
        3,
        0,
        ["scan 0", "scan 1", "scan 2"],
    )


def test_a_window_and_a_truth_without_a_value_are_read(predict, scans):
    (scans / "list.csv").write_text(
        "image,mask,patient_id,modality,organ\nin/scan 0.png,m.png,p,US,breast\n", encoding="utf-8"
    )
    Image.fromarray(blobs((16, 12), 0).astype(np.uint8) * 255).save(scans / "m.png")
    result = predict("--window", "-160,240", "--truth", "--no-overlays", inputs=())
    assert result.exit_code == WRONG  # no image
    result = predict("--window", "-160,240", "--no-overlays", str(scans / "list.csv"), "--truth", inputs=())
    assert result.exit_code == DONE, result.output
    assert "scores of 1 true mask of 1 patient" in result.output


@pytest.mark.parametrize(
    ("window", "message"), [("5", "should be two numbers"), ("9,1", "LOW below HIGH"), ("a,b", "number")]
)
def test_a_wrong_window_is_named(predict, window, message):
    result = predict("--window", window)
    assert result.exit_code == WRONG
    assert message in result.stderr


def test_options_may_be_in_a_file(flames, scans):
    (scans / "c.toml").write_text(
        '[predict]\ninputs = ["in"]\nmodels = ["bright"]\nout = "there"\noverlays = false\ndevice = "cpu"\n'
    )
    result = flames("predict", "--config", str(scans / "c.toml"))
    assert result.exit_code == DONE, result.output
    assert (scans / "there" / "scan 0.png").is_file()
