from itertools import pairwise

import pytest

from flames_cli.report.bar_chart import BarChart


def test_bars_are_as_high_as_their_counts_and_nothing_is_divided_by_zero():
    chart = BarChart("t", "abc", [1, 0, 4])
    heights = [bar.height for bar in chart.bars]
    assert heights[1] == 0
    assert heights[2] == pytest.approx(4 * heights[0])
    assert all(bar.top + bar.height == pytest.approx(chart.floor) for bar in chart.bars)
    assert [bar.height for bar in BarChart("t", "a", [0]).bars] == [0]


def test_bars_lie_side_by_side_within_the_chart():
    chart = BarChart("t", "abcd", [1, 2, 3, 4])
    bars = chart.bars
    assert all(a.left + a.width < b.left for a, b in pairwise(bars))
    assert bars[0].left > 0
    assert bars[-1].left + bars[-1].width < chart.width
