"""A figure in a page needs nothing else, has the page's colours, and shows names as they are."""

import re

from flames_cli.report.inline_svg import draw_inline
from tests.support.html_page import parse_page

NAME = "<b>&$x$\u202e"


def paint(figure):
    axes = figure.subplots()
    axes.plot([1, 2], [3, 1], color="#000000", marker="o", label=NAME.replace("\u202e", ""))
    axes.fill_between([1, 2], [0, 0], [1, 1], color="#0072B2", alpha=0.2)
    axes.legend()


def draw(name="one"):
    return str(draw_inline((4, 3), name, NAME, paint).svg)


def test_the_same_figure_gives_the_same_bytes():
    assert draw() == draw()


def test_a_drawing_is_an_element_that_needs_nothing_else():
    svg = draw()
    assert svg.startswith('<svg viewBox="0 0 288 216" width="384" role="img"')
    assert svg.endswith("</svg>")
    assert not re.search(r"xmlns|http|<style|metadata|Date", svg)
    parse_page(svg)


def test_colours_that_are_hard_to_see_are_those_of_the_page():
    svg = draw()
    assert "stroke: var(--text)" in svg
    assert "fill: var(--blue)" in svg
    assert not re.search(r": #000000|: #0072b2", svg)


def test_names_are_shown_as_they_are():
    svg = draw()
    assert "&lt;b&gt;&amp;$x$</text>" in svg
    assert 'aria-label="&lt;b&gt;&amp;$x$\\u202e"' in svg


def test_drawings_of_one_page_share_no_id_and_every_id_is_used():
    one, other = (re.findall(r' id="([^"]+)"', draw(name)) for name in ("one", "other"))
    assert one
    assert not {*one} & {*other}
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', draw())
    assert {*used} == {*one}
