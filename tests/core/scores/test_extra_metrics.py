import math
import sys

import numpy as np
import pytest

from flames_cli.core.scores.extra_metrics import METRICS, ExtraMetric, extra_metrics
from flames_cli.errors import FlamesError
from flames_cli.plugins import FILES_VARIABLE, use_files

PREDICTED, TRUTH = np.eye(3, dtype=np.uint8), np.ones((3, 3), np.uint8)


def value_of(measure):
    return ExtraMetric("own", measure, "pack 1.0").value((PREDICTED, TRUTH), (0.5, math.nan), "busi/c1")


def test_a_metric_gets_two_bool_masks_and_the_size_of_a_pixel():
    seen = []
    value_of(lambda *given: seen.append(given))
    ((predicted, truth, spacing),) = seen
    assert predicted.dtype == truth.dtype == bool
    np.testing.assert_array_equal(predicted, PREDICTED)
    np.testing.assert_array_equal(truth, TRUTH)
    assert spacing[0] == 0.5
    assert math.isnan(spacing[1])


def test_a_metric_that_writes_into_its_masks_changes_nothing_else():
    before = PREDICTED.copy()
    value_of(lambda predicted, truth, _: predicted.fill(True))
    np.testing.assert_array_equal(PREDICTED, before)


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (None, None),
        (0.25, 0.25),
        (3, 3.0),
        (np.float32(0.5), 0.5),
        (np.bool_(True), 1.0),
        (np.array(2.0), 2.0),
        (math.inf, math.inf),
    ],
)
def test_numbers_infinity_and_none_are_values(returned, value):
    found = value_of(lambda *_: returned)
    assert found == value
    assert found is None or type(found) is float


@pytest.mark.parametrize("returned", [math.nan, "0.5", [0.5], np.ones(2), 1j, np.float64("nan")])
def test_what_is_no_number_is_one_line_with_plug_in_and_case(returned):
    with pytest.raises(FlamesError, match=r"metric 'own' of pack 1\.0 gives .* for case busi/c1") as caught:
        value_of(lambda *_: returned)
    assert "\n" not in str(caught.value)


def test_an_error_is_one_line_with_plug_in_and_case():
    with pytest.raises(FlamesError, match=r"fails for case busi/c1 \(ZeroDivisionError: division by zero\)"):
        value_of(lambda *_: 1 / 0)
    with pytest.raises(FlamesError, match=r"fails for case busi/c1 \(SystemExit: 0\)"):
        value_of(lambda *_: sys.exit(0))


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(FILES_VARIABLE, "")
    path = tmp_path / "own_metrics.py"
    path.write_text(
        "def good(predicted, truth, spacing_mm):\n    return 1.0\n"
        "good.higher_is_better = False\ngood.unit = 'mm'\n"
        "def odd(predicted, truth, spacing_mm):\n    return 1.0\n"
        "odd.higher_is_better = 'yes'\n"
        "class Kind:\n    pass\n"
        "METRICS = {'good': good, 'odd': odd, 'kind': Kind, 'text': 'x', 'dice': good}\n",
        encoding="utf-8",
    )
    use_files([path])
    return path


def test_a_metric_states_its_direction_unit_and_package(file):
    (found,) = extra_metrics(["good"])
    assert found.facts == {"plugin": found.plugin, "higher_is_better": False, "unit": "mm"}
    assert found.plugin.startswith("own_metrics.py sha256:")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("odd", "its higher_is_better is 'yes', expected True or False"),
        ("kind", "it is a class, expected a function"),
        ("text", "it is a str, expected a function"),
        ("dice", "got --metric dice, which every evaluation has"),
        ("nothing", "metric 'nothing' is not known"),
    ],
)
def test_what_is_no_metric_is_named(name, message, file):
    with pytest.raises(FlamesError, match=message):
        extra_metrics([name])


def test_a_metric_of_every_comparison_keeps_its_name(file):
    assert "dice" not in METRICS
    assert [problem.name for problem in METRICS.problems()] == ["dice"]
