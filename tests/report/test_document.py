"""Every kind of block has its macro, and no text of a block is markup."""

import re
from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
from markupsafe import Markup

from flames_cli.report.bar_chart import BarChart
from flames_cli.report.document import (
    Block,
    Bullets,
    Charts,
    Commands,
    Document,
    Drawings,
    Gallery,
    Heading,
    Paragraph,
    Scan,
    Section,
    render_document,
)
from flames_cli.report.inline_svg import Drawing
from flames_cli.report.pictures import Picture, png_address
from flames_cli.report.text_tables import TextTable
from tests.support.html_page import parse_page

NAME = "<i a=\"1\" b='2'>&{{ 7 * 7 }}\u202e"
SHOWN = "&lt;i a=&#34;1&#34; b=&#39;2&#39;&gt;&amp;{{ 7 * 7 }}\\u202e"

BLANK, MASK = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
BLOCKS = [
    Paragraph(NAME, "warning"),
    Heading(NAME),
    Bullets([NAME]),
    Commands([NAME]),
    Charts([BarChart(NAME, [NAME, NAME], [1])]),
    Drawings([Drawing(Markup("<svg></svg>"))]),
    Scan(png_address(b"x"), NAME),
    Gallery(NAME, [Picture(BLANK, MASK, NAME, NAME, MASK)]),
    TextTable(NAME, [NAME, NAME], [[NAME, NAME], [NAME, "1 [0, 2]"]], 1, frozenset({(0, 1)}), notes=[NAME]),
]


def render(*blocks, **changes):
    facts = {"title": NAME, "subtitle": NAME, "lead": [NAME], "notices": [NAME], "foot": NAME, **changes}
    return render_document(Document(sections=[Section("one", NAME, blocks)], **facts))


def test_every_kind_of_block_is_here():
    assert {type(block) for block in BLOCKS} == set(get_args(Block))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: type(block).__name__)
def test_no_text_of_a_block_is_markup(block):
    text = render(block)
    assert "<i" not in text.replace("<image", "").replace("<img", "")
    assert "\u202e" not in text
    texts = len(re.findall(re.escape(SHOWN), text))
    own = str([getattr(block, one.name) for one in fields(block)]).count("7 * 7")
    # The page's own texts are its title twice, subtitle, lead, notice, foot, and the section's title twice.
    assert texts >= 8 + min(own, 1)
    parse_page(text)


def test_a_mean_with_its_interval_may_have_two_lines():
    text = render(BLOCKS[-1])
    assert '<td class="interval">1 <span class="limits">[0, 2]</span></td>' in text
    assert f"<td><b>{SHOWN}</b></td>" in text


def test_links_lead_to_the_sections():
    page = parse_page(render(*BLOCKS))
    assert "#one" in page.sources
    assert page.ids == ["one"]


def test_a_picture_shows_both_outlines():
    text = render(BLOCKS[-2])
    assert len(re.findall(r'class="predicted" d="M', text)) == 1
    assert len(re.findall(r'class="outline" d="M', text)) == 1
