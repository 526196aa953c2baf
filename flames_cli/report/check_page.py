"""Page with the results of `flames check`: one HTML file that needs no other file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flames_cli.core.patient_units import column_title, count_units
from flames_cli.report.bar_chart import BarChart, name_edges
from flames_cli.report.legible import percent
from flames_cli.report.templating import render
from flames_cli.report.text_tables import TextTable
from flames_cli.store.files.atomic import write_text

if TYPE_CHECKING:
    from flames_cli.report.pictures import Picture

LISTED = 12
"""Number of places of a finding that the page shows; the JSON file has all of them."""

LESION_COLUMNS = (
    "", "least", "5 %", "25 %", "median", "75 %", "95 %", "most", "< 0.5 %", "1 part", "2", "3 or more",
)  # fmt: skip

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


def write_check_page(path: Path, report: Report, samples: Samples, pictures: Mapping[str, "Picture"]) -> None:
    """Write the page of `report` (a flames-check), with the `pictures` that it names, by case."""
    write_text(
        path,
        render(
            "check.html",
            report=report,
            verdict=verdict(report),
            kinds=", ".join(dict.fromkeys(f"{row['organ']} {row['modality']}" for row in report["groups"])),
            read=_describe_reading(report),
            options=_describe_options(report),
            tables=_make_tables(report),
            charts=_make_charts(report),
            samples=samples,
            pictures=pictures,
            listed=LISTED,
        ),
    )


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


def _describe_reading(report: Report) -> str:
    counts = report["counts"]
    return (
        f"{counts['sources']:,} {report['source']}s read: {counts['usable']:,} usable "
        f"({_images(counts, report['patient_unit'])}), {counts['left_out']:,} left out, "
        f"{counts['bad']:,} bad."
    )


def _images(counts: Mapping[str, int], unit: str) -> str:
    """Return `12 images of 3 patients`, or `patients unknown`: each source is one image then."""
    if unit == "image":
        return "patients unknown"
    return f"{counts['images']:,} images of {count_units(counts['patients'], unit)}"


def _make_tables(report: Report) -> list[TextTable]:
    groups = report["groups"]
    if not groups:
        return []
    counted = {"sources": "volumes"} if report["source"] != "image" else {}
    counted |= patient_columns(report["patient_unit"])
    return [
        TextTable(
            "Contents. Spacing: rows × columns (× from slice to slice), median; range of the rows'",
            ("", *counted.values(), "shapes", "spacing, mm"),
            [_content_cells(row, counted) for row in groups],
        ),
        TextTable(
            "Lesions, by their share of the image in %; images with less than 0.5 %; connected parts in an "
            "image",
            LESION_COLUMNS,
            [(group_name(row), *_lesion_cells(row["lesions"])) for row in groups],
        ),
        TextTable(
            "Intensities in the images' own units, within the window: medians of the images' figures",
            ("", "mean", "sd", "1st percentile", "median", "99th percentile"),
            [(group_name(row), *(f"{value:.4g}" for value in row["intensity"].values())) for row in groups],
        ),
    ]


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


def _make_charts(report: Report) -> list[BarChart]:
    charts = []
    for row in report["groups"]:
        if row["lesions"]["images"]:
            histogram = row["lesions"]["histogram"]
            title = " – ".join([f"{row['organ']} {row['modality']}", *([row["site"]] if row["site"] else [])])
            charts.append(BarChart(title, name_edges(histogram["edges"]), histogram["counts"]))
    return charts


def _describe_options(report: Report) -> str:
    chosen = {name: value for name, value in report["options"].items() if value not in (None, {})}
    return ", ".join(f"{name} {value}" for name, value in chosen.items())
