import json
import math

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.prediction_folder import (
    CASES,
    LINES,
    SUMMARY,
    PredictedCase,
    PredictionFile,
    TruthScores,
    append_case,
    read_cases,
    read_prediction_file,
    write_cases,
    write_prediction_file,
)
from tests.support.asserts import read_csv

TRUTH = TruthScores(1, 2, 3, 4, 0.5, 0.25, None, 1.5, 1.0, 0.9, 7.0, -0.5, 2, 1, 0.5)
CASE = PredictedCase(
    "deep/a",
    "/x/a.nii",
    "f" * 64,
    "done",
    extra={"sex": "F"},
    warnings=("one", "two"),
    volume_ml=1.25,
    truth=TRUTH,
)
CONTENT = PredictionFile({"m": "a" * 64}, {"threshold": 0.5, "labels": ["1"]}, "0.1.0", {"a": "b"}, True)


def test_a_file_is_read_as_it_was_written(tmp_path):
    write_prediction_file(tmp_path, CONTENT)
    assert read_prediction_file(tmp_path) == CONTENT
    found = json.loads((tmp_path / SUMMARY).read_text())
    assert (found["format"], found["version"]) == ("flames-prediction", 1)


def test_options_and_models_decide_whether_a_command_continues():
    for other, same in (
        (PredictionFile(CONTENT.models, CONTENT.options, "9.9"), True),
        (PredictionFile({"m": "c" * 64}, CONTENT.options, "0.1.0"), False),
        (PredictionFile(CONTENT.models, {**CONTENT.options, "threshold": 0.6}, "0.1.0"), False),
    ):
        assert CONTENT.has_same_options(other) is same


def test_lines_are_read_back_and_the_last_of_a_name_counts(tmp_path):
    append_case(tmp_path, PredictedCase("deep/a", "", "", "failed", reason="no"))
    append_case(tmp_path, PredictedCase("b", "", "", "done"))
    append_case(tmp_path, CASE)
    assert read_cases(tmp_path) == {"deep/a": CASE, "b": PredictedCase("b", "", "", "done")}


def test_a_line_that_a_kill_cut_short_is_removed_before_the_next(tmp_path):
    append_case(tmp_path, CASE)
    with (tmp_path / LINES).open("ab") as file:
        file.write(b'{"input": "b"')
    assert [*read_cases(tmp_path)] == ["deep/a"]
    append_case(tmp_path, PredictedCase("b", "", "", "done"))
    assert [*read_cases(tmp_path)] == ["deep/a", "b"]


def test_numbers_that_are_not_finite_are_null(tmp_path):
    append_case(tmp_path, PredictedCase("a", "", "", "done", volume_ml=math.nan))
    assert read_cases(tmp_path)["a"].volume_ml is None


@pytest.mark.parametrize(
    "line", ["{}", "[]", '{"input": 1}', "{", '{"input": "a", "path": "", "sha256": "", "status": "odd"}']
)
def test_a_wrong_line_is_an_error_that_says_what_to_do(tmp_path, line):
    (tmp_path / LINES).write_text(line + "\n")
    with pytest.raises(FlamesError, match="pass another --out, or move the folder away"):
        read_cases(tmp_path)


@pytest.mark.parametrize("change", [{"models": 3}, {"options": []}, {"version": 9}, {"format": "flames-run"}])
def test_a_wrong_file_is_an_error(tmp_path, change):
    write_prediction_file(tmp_path, CONTENT)
    path = tmp_path / SUMMARY
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FlamesError):
        read_prediction_file(tmp_path)


def test_the_table_has_the_kept_columns_and_the_scores_of_those_that_have_some(tmp_path):
    write_cases(tmp_path, [CASE, PredictedCase("b", "", "", "failed", reason="why")])
    first, second = read_csv(tmp_path / CASES)
    assert (first["extra_sex"], first["dice"], first["precision"], first["warnings"]) == (
        "F",
        "0.5",
        "",
        "one; two",
    )
    assert (second["extra_sex"], second["dice"], second["volume_ml"], second["reason"]) == ("", "", "", "why")
    write_cases(tmp_path, [PredictedCase("b", "", "", "done")])
    assert "dice" not in read_csv(tmp_path / CASES)[0]
