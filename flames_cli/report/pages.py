"""Page with the results of `flames check`: one HTML file that needs no other file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from flames_cli.core.patient_units import column_title, count_units
from flames_cli.report.html import Picture, bars, draw_picture, esc, figure, page, percent, table
from flames_cli.store.files.atomic import write_text

LISTED = 12
"""Number of places of a finding that the page shows; the JSON file has all of them."""

SHAPES = 4
"""Number of image shapes that a row names."""

Report = Mapping[str, Any]
Samples = Mapping[str, Sequence[str]]
"""Cases to show, by heading."""


def shown_cases(report: Report, samples: Samples) -> list[str]:
    """Return the cases whose pictures the page shows."""
    places = [place for found in report["findings"] for place in found["where"][:LISTED]]
    cases = [case for place in places for case in place["cases"]]
    return list(dict.fromkeys([*cases, *(case for sheet in samples.values() for case in sheet)]))


def write_check_page(path: Path, report: Report, samples: Samples, pictures: Mapping[str, Picture]) -> None:
    """Write the page of `report` (a flames-check), with the `pictures` that it names, by case."""
    body = [
        *_head(report),
        *_findings(report, pictures),
        *_tables(report),
        *_charts(report),
        *_sheets(samples, pictures),
        *_foot(report),
    ]
    write_text(path, page(f"{report['dataset']}: flames check", body))


def verdict(report: Report) -> str:
    """Return `PASSED` or the number of problems, with the numbers of accepted places and of notes."""
    found = report["findings"]
    problems = sum(finding["severity"] == "problem" for finding in found)
    notes = sum(finding["severity"] == "note" and not _is_accepted(finding) for finding in found)
    accepted = f"{report['accepted']} accepted" if report["accepted"] else ""
    if report["passed"]:
        parts = [f"PASSED with {accepted}" if accepted else "PASSED"]
    else:
        parts = [f"{problems} problem{'s' if problems > 1 else ''}", accepted]
    parts.append(f"{notes} note{'s' if notes > 1 else ''}" if notes else "")
    return ", ".join(filter(None, parts))


def _is_accepted(finding: Mapping[str, Any]) -> bool:
    return any("accepted" in place for place in finding["where"])


def _head(report: Report) -> Iterator[str]:
    counts = report["counts"]
    kinds = dict.fromkeys(f"{row['organ']} {row['modality']}" for row in report["groups"])
    yield f"<h1>{esc(report['dataset'])}</h1>"
    text = f"{', '.join(kinds) or 'no usable data'} · licence: {report['licence']}"
    yield f'<p class="faint">{esc(text)}</p>'
    yield f'<p class="verdict {"good" if report["passed"] else "bad"}">{esc(verdict(report))}</p>'
    yield (
        f"<p>{counts['sources']:,} {esc(report['source'])}s read: {counts['usable']:,} usable "
        f"({_images(counts, report['patient_unit'])}), {counts['left_out']:,} left out, "
        f"{counts['bad']:,} bad.</p>"
    )


def _images(counts: Mapping[str, int], unit: str) -> str:
    """Return `12 images of 3 patients`, or `patients unknown`: each source is one image then."""
    if unit == "image":
        return "patients unknown"
    return f"{counts['images']:,} images of {count_units(counts['patients'], unit)}"


def _findings(report: Report, pictures: Mapping[str, Picture]) -> Iterator[str]:
    yield "<h2>Findings</h2>"
    if not report["findings"]:
        yield "<p>None.</p>"
    for found in report["findings"]:
        severity = esc(found["severity"])
        yield f'<section class="finding {severity}"><span class="tag">{severity}</span>'
        yield f"<h3>{esc(found['what'])}</h3><p>What to do: {esc(found['fix'])}.</p>"
        if "id" in found:
            yield _id(found["id"])
        yield from _places(found["where"], pictures)
        yield "</section>"
    for line in report["compared"]:
        yield f'<p class="faint">Compared: {esc(line)}.</p>'


def _places(where: Sequence[Mapping[str, Any]], pictures: Mapping[str, Picture]) -> Iterator[str]:
    if not where:
        return
    shown = where[:LISTED]
    pictured = any(case in pictures for place in shown for case in place["cases"])
    yield f'<ul class="where{"" if pictured else " lines"}">'
    for place in shown:
        drawn = "".join(draw_picture(pictures[case]) for case in place["cases"] if case in pictures)
        text = f"{esc(place['text'])}{_id(place['id'])}"
        yield (
            f'<li class="pictured"><div class="pictures">{drawn}</div>{text}</li>'
            if drawn
            else f"<li>{text}</li>"
        )
    yield "</ul>"
    if len(where) > len(shown):
        more = len(where) - len(shown)
        yield f'<p class="faint">and {more:,} more: see the JSON file next to this page</p>'


def _id(name: str) -> str:
    return f'<div class="faint id">{esc(name)}</div>'


def _tables(report: Report) -> Iterator[str]:
    groups = report["groups"]
    if not groups:
        return
    yield "<h2>Figures</h2>"
    counted = {"sources": "volumes"} if report["source"] != "image" else {}
    counted |= patient_columns(report["patient_unit"])
    yield table(
        "Contents. Spacing: rows × columns (× from slice to slice), median; range of the rows'",
        ("", *counted.values(), "shapes", "spacing, mm"),
        [_content_cells(row, counted) for row in groups],
    )
    yield table(
        "Lesions, by their share of the image in %; images with less than 0.5 %; connected parts in an image",
        ("", "least", "5 %", "25 %", "median", "75 %", "95 %", "most", "< 0.5 %", "1 part", "2", "3 or more"),
        [(group_name(row), *_lesion_cells(row["lesions"])) for row in groups],
    )
    yield table(
        "Intensities in the images' own units, within the window: medians of the images' figures",
        ("", "mean", "sd", "1st percentile", "median", "99th percentile"),
        [(group_name(row), *(f"{value:.4g}" for value in row["intensity"].values())) for row in groups],
    )


def patient_columns(unit: str) -> dict[str, str]:
    """Return the titles of the columns `patients` and `images`; only images if patients are unknown."""
    if unit == "image":
        return {"images": column_title(unit)}
    return {"patients": column_title(unit), "images": "images"}


def _content_cells(row: Mapping[str, Any], counted: Iterable[str]) -> list[str]:
    return [group_name(row), *(f"{row[name]:,}" for name in counted), _shapes(row), spacing(row)]


def group_name(row: Mapping[str, Any]) -> str:
    """Return `breast US`, or the name of the site."""
    return (
        f"{row['organ']} {row['modality']}" if row["site"] is None else f"– {row['site'] or 'no site named'}"
    )


def spacing(row: Mapping[str, Any]) -> str:
    """Return the spacing as `0.98 × 0.98 × 3.27 (0.70–0.98)`."""
    found = row["spacing_mm"]
    if not found:
        return "unknown"
    middle = " × ".join(f"{value:.2f}" for value in found["median"])
    least, most = found["min"][0], found["max"][0]
    return middle if f"{least:.2f}" == f"{most:.2f}" else f"{middle} ({least:.2f}–{most:.2f})"


def _shapes(row: Mapping[str, Any]) -> str:
    shapes = list(row["shapes"].items())
    named = [shape if len(shapes) == 1 else f"{shape}: {n:,}" for shape, n in shapes[:SHAPES]]
    return ", ".join(named) + (f" and {len(shapes) - SHAPES:,} more" if len(shapes) > SHAPES else "")


def _lesion_cells(lesions: Mapping[str, Any]) -> Iterator[str]:
    if not lesions["images"]:
        yield from ["–"] * 11
        return
    yield from (percent(share) for share in lesions["share"].values())
    yield f"{lesions['small']:,} ({lesions['small'] / lesions['images']:.0%})"
    parts = {int(n): images for n, images in lesions["per_image"].items()}
    yield from (f"{parts.get(n, 0):,}" for n in (1, 2))
    yield f"{sum(images for n, images in parts.items() if n > 2):,}"


def _charts(report: Report) -> Iterator[str]:
    charts = [row for row in report["groups"] if row["lesions"]["images"]]
    if charts:
        yield '<h2>Lesion sizes</h2><p class="faint">Images by the share of them that is lesion, in %.</p>'
        yield '<div class="charts">'
        for row in charts:
            histogram = row["lesions"]["histogram"]
            title = " – ".join([f"{row['organ']} {row['modality']}", *([row["site"]] if row["site"] else [])])
            yield bars(title, _bin_names(histogram["edges"]), histogram["counts"])
        yield "</div>"


def _bin_names(edges: Sequence[float]) -> list[str]:
    ends = [f"{100 * edge:g}" for edge in edges]
    return [f"<{ends[1]}", *(f"{a}–{b}" for a, b in pairwise(ends[1:]))]


def _sheets(samples: Samples, pictures: Mapping[str, Picture]) -> Iterator[str]:
    if samples:
        yield "<h2>Samples</h2>"
        yield '<p class="faint">Chosen evenly from the smallest lesion to the largest; the mask is outlined;'
        yield "the number below is the share of the image that it covers.</p>"
    for heading, cases in samples.items():
        drawn = "".join(figure(pictures[case]) for case in cases if case in pictures)
        yield f'<h3>{esc(heading)}</h3><div class="pictures">{drawn}</div>'


def _foot(report: Report) -> Iterator[str]:
    chosen = {name: value for name, value in report["options"].items() if value not in (None, {})}
    options = ", ".join(f"{name} {value}" for name, value in chosen.items())
    yield f'<p class="faint foot">flames {esc(report["flames"])}, read with {esc(options)}.</p>'
