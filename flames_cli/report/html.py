"""Small parts of HTML; all text from a user's files is escaped here."""

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.quality import trace_outlines

CSS = """
:root { color-scheme: light dark; --page: #fff; --text: #1b1f24; --faint: #5b6570; --line: #d6dce2;
  --panel: #f5f7f9; --bar: #0072b2; --good: #00694d; --bad: #a83c00; --note: #5b6570; }
@media (prefers-color-scheme: dark) { :root { --page: #14181c; --text: #e4e8ec; --faint: #9aa5b0;
  --line: #333b43; --panel: #1c2228; --bar: #56b4e9; --good: #4fd0a5; --bad: #ff9a5c; --note: #9aa5b0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 70rem; background: var(--page);
  color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line);
  font-size: 1.2rem; }
h3 { margin: 1.2rem 0 .4rem; font-size: 1rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; }
.faint, caption, figcaption { color: var(--faint); font-size: .85rem; }
.verdict { display: inline-block; margin: .7rem 0 .2rem; padding: .25rem .8rem; border-radius: .3rem;
  border: 2px solid currentColor; font-weight: 700; }
.good { color: var(--good); } .bad { color: var(--bad); }
.finding { margin: .8rem 0; padding: .6rem .9rem; background: var(--panel);
  border-left: 4px solid var(--note); border-radius: .2rem; }
.finding.problem { border-color: var(--bad); }
.finding h3 { margin: 0; }
.tag { color: var(--note); text-transform: uppercase; font-size: .75rem; letter-spacing: .04em; }
.problem .tag { color: var(--bad); }
.where { margin: .5rem 0 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .7rem 1.1rem; }
.where li { max-width: 100%; overflow-wrap: anywhere; font-size: .9rem; }
.where.lines { display: block; }
.pictures { display: flex; flex-wrap: wrap; gap: .35rem; }
.where .pictured { width: min-content; min-width: 10rem; }
.where .pictures { flex-wrap: nowrap; margin-bottom: .3rem; }
.foot { margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .4rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; white-space: nowrap; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere;
  min-width: 7rem; }
th { font-weight: 600; color: var(--faint); }
.charts { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.chart rect { fill: var(--bar); } .chart text { fill: var(--text); font-size: 11px; }
.chart line { stroke: var(--line); }
figure { margin: 0; width: 10rem; } figcaption { overflow-wrap: anywhere; line-height: 1.25; }
figure svg, .pictures svg { display: block; flex: none; width: 10rem; height: 10rem; background: #000;
  border-radius: .15rem; }
.outline { fill: none; stroke: #56b4e9; stroke-width: 1.4; stroke-linejoin: round; stroke-linecap: round;
  vector-effect: non-scaling-stroke; }
""".strip()

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy: if any text is not escaped, a browser still neither runs nor fetches it."""

CHART_WIDTH, CHART_HEIGHT, CHART_HEAD, CHART_FOOT = 460, 150, 16, 18


@dataclass(frozen=True, slots=True)
class Picture:
    """One case: `image` S×S or S×S×3 (uint8), `mask` T×T of 0 and 1, and two lines of text."""

    image: Pixels
    mask: Mask
    name: str
    detail: str


def legible(text: str) -> str:
    """Return `text` with unprintable parts, such as control characters and broken Unicode, written as
    \\x1b."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def esc(value: object) -> str:
    """Return `value` as text that HTML shows as it is."""
    return html.escape(legible(str(value)))


def percent(share: float) -> str:
    """Return a share of 0..1 in %, with three digits."""
    return "< 0.001" if 0 < share < 1e-5 else f"{100 * share:.3g}"


def page(title: str, body: Iterable[str]) -> str:
    """Return a complete HTML document that needs no other file."""
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(title)}</title><style>\n{CSS}\n</style>"
    )
    return "\n".join(
        ["<!DOCTYPE html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""]
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; its first column names the rows."""
    top = "".join(f'<th scope="col">{esc(cell)}</th>' for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{esc(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{esc(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def bars(title: str, labels: Sequence[str], counts: Sequence[int]) -> str:
    """Return a histogram: one bar per label, with its count above."""
    step, top = CHART_WIDTH / len(labels), max([*counts, 1])
    floor = CHART_HEIGHT - CHART_FOOT
    drawn = []
    for index, (label, count) in enumerate(zip(labels, counts, strict=True)):
        height = (floor - CHART_HEAD) * count / top
        middle = step * (index + 0.5)
        drawn.append(
            f'<rect x="{step * index + 3:.1f}" y="{floor - height:.1f}" width="{step - 6:.1f}" '
            f'height="{height:.1f}"/>'
            f'<text x="{middle:.1f}" y="{floor - height - 4:.1f}" text-anchor="middle">{count or ""}</text>'
            f'<text x="{middle:.1f}" y="{CHART_HEIGHT - 4}" text-anchor="middle">{esc(label)}</text>'
        )
    return (
        f'<div class="chart"><p class="faint">{esc(title)}</p>'
        f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" width="{CHART_WIDTH}" role="img" '
        f'aria-label="{esc(title)}"><line x1="0" x2="{CHART_WIDTH}" y1="{floor}" y2="{floor}"/>'
        f"{''.join(drawn)}</svg></div>"
    )


def draw_picture(picture: Picture) -> str:
    """Return the image with the outline of its mask, as an SVG that contains the image."""
    side = picture.mask.shape[0]
    return (
        f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="{esc(picture.name)}">'
        f'<image width="{side}" height="{side}" href="data:image/png;base64,{_png(picture.image)}"/>'
        f'<path class="outline" d="{_path(picture.mask)}"/></svg>'
    )


def figure(picture: Picture) -> str:
    """Return a picture above its caption."""
    caption = f"<figcaption>{esc(picture.name)}<br>{esc(picture.detail)}</figcaption>"
    return f"<figure>{draw_picture(picture)}{caption}</figure>"


def _png(image: Pixels) -> str:
    pixels: Any = image if image.ndim == 2 else image[..., ::-1]  # OpenCV has blue first
    _, encoded = cv2.imencode(".png", pixels)
    return base64.b64encode(encoded.tobytes()).decode()


def _path(mask: Mask) -> str:
    """Return an SVG path through the centres of the pixels at the edge of the mask."""
    outlines = trace_outlines(mask)
    return "".join("M" + " ".join(f"{x + 0.5:g},{y + 0.5:g}" for x, y in line) + "Z" for line in outlines)
