"""Pictures of several runs."""

import math

import numpy as np
import pytest

from flames_cli.report.comparisons import DifferenceGroup, SideRow, draw_differences, draw_side_by_side

SQUARE = np.zeros((16, 16), np.uint8)
SQUARE[4:10, 4:10] = 1


def side_row(predictions=(SQUARE, None), scores=("Dice 1.00", "no model")):
    return SideRow("client busi, best: a", np.full((16, 16), 0.5), SQUARE, predictions, scores)


def groups():
    return [
        DifferenceGroup("busi", [(0.1, 0.0, 0.2), None]),
        DifferenceGroup("all clients", [(0.1, math.nan, math.nan), (-0.1, -0.2, 0.0)]),
    ]


def test_cases_of_runs_without_a_model_are_drawn_and_the_same_input_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        draw_side_by_side(path, [side_row(), side_row()], ["flames", "a-run-with-a-name-of-many-letters"])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes().startswith(b"\x89PNG")


def test_differences_without_an_interval_or_a_run_are_drawn_with_the_same_bytes(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        draw_differences(path, groups(), ["fedavg", "local"], "title", "difference in Dice")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_cases_without_one_prediction_per_run_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="got 1 cases and 1 runs"):
        draw_side_by_side(tmp_path / "a.png", [side_row()], ["flames"])
    with pytest.raises(ValueError, match="got 0 cases"):
        draw_side_by_side(tmp_path / "a.png", [], ["flames"])


def test_groups_without_one_point_per_run_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="got 2 groups and 1 runs"):
        draw_differences(tmp_path / "a.png", groups(), ["fedavg"], "title", "unit")
    assert not [*tmp_path.iterdir()]
