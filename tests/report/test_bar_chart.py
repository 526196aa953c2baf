from itertools import pairwise

import pytest

from flames_cli.report.bar_chart import BarChart, name_edges


def test_bars_are_as_high_as_their_counts_and_nothing_is_divided_by_zero():
    chart = BarChart("t", "abcd", [1, 0, 4])
    heights = [bar.height for bar in chart.bars]
    assert heights[1] == 0
    assert heights[2] == pytest.approx(4 * heights[0])
    assert all(bar.top + bar.height == pytest.approx(chart.floor) for bar in chart.bars)
    assert [bar.height for bar in BarChart("t", "ab", [0]).bars] == [0]


def test_bars_lie_side_by_side_between_the_edges_of_their_bins():
    chart = BarChart("t", "abcde", [1, 2, 3, 4])
    places = [place for place, _ in chart.ticks]
    assert [name for _, name in chart.ticks] == ["a", "b", "c", "d", "e"]
    for bar, (low, high) in zip(chart.bars, pairwise(places), strict=True):
        assert low < bar.left < bar.middle < bar.left + bar.width < high
    assert places[0] > 0
    assert places[-1] < chart.width


def test_edges_are_named_in_percent():
    assert name_edges([0, 0.001, 0.5, 1]) == ["0", "0.1", "50", "100"]
