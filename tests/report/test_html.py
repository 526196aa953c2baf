import base64
import re

import cv2
import numpy as np
import pytest

from flames_cli.report.html import (
    Picture,
    bars,
    draw_picture,
    esc,
    figure,
    legible,
    page,
    percent,
    table,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Patient 7 größer.png", "Patient 7 größer.png"),
        ("a\x1b[31m\n\u202eb", "a\\x1b[31m\\n\\u202eb"),
        ("caf\udce9", "caf\\udce9"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_cannot_be_shown_is_spelled_out(text, shown):
    assert legible(text) == shown


def test_text_is_never_markup():
    assert esc("<b a=\"1\" c='2'>&") == "&lt;b a=&quot;1&quot; c=&#x27;2&#x27;&gt;&amp;"
    made = page("<t>", [table("<c>", ["<h>"], [["<d>"]]), bars("<b>", ["<l>"], [1])])
    assert not re.search(r"<[tchdbl]>", made)


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0"), (1e-6, "< 0.001"), (0.00064, "0.064"), (0.12345, "12.3"), (1, "100")]
)
def test_shares_are_told_in_percent(share, shown):
    assert percent(share) == shown


def test_bars_are_as_high_as_their_counts_and_nothing_is_divided_by_zero():
    heights = [
        float(height) for height in re.findall(r'<rect .*? height="([\d.]+)"', bars("t", "abc", [1, 0, 4]))
    ]
    assert heights[1] == 0
    assert heights[2] == pytest.approx(4 * heights[0], rel=0.01)
    assert 'height="0.0"' in bars("t", "a", [0])


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 3)])
def test_a_picture_holds_its_pixels_and_the_outline_of_its_mask(shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:7] = 1
    drawn = figure(Picture(image, mask, "a <name>", "3 %"))
    encoded = np.frombuffer(base64.b64decode(re.search(r"base64,([^\"]+)", drawn)[1]), np.uint8)
    stored = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored if len(shape) == 2 else stored[..., ::-1], image)
    assert 'd="M3.5,2.5 3.5,4.5 6.5,4.5 6.5,2.5Z"' in drawn
    assert "a &lt;name&gt;<br>3 %" in drawn


def test_a_picture_without_a_lesion_has_no_outline():
    assert 'd=""' in draw_picture(Picture(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), "", ""))
