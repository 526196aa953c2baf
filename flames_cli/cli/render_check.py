"""Findings of `flames check` on a terminal."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flames_cli.cli.text import count
from flames_cli.report.check_page import group_name, patient_columns, spacing, verdict
from flames_cli.report.legible import percent

LISTED = 5
"""Largest number of places shown for a finding; the report contains all."""

STYLES = {"problem": "red", "note": "yellow"}
COLUMNS = ("lesion %", "< 0.5 %", "intensity", "spacing mm")
"""Columns after those of `patient_columns`."""


def print_check(console: Console, report: dict[str, Any], workspace: Path) -> None:
    """Print the numbers of one data set, its findings, and whether it passed."""
    if report["groups"]:
        console.print(_table(report))
    for finding in report["findings"]:
        _print_finding(console, finding)
    for line in report["compared"]:
        console.print(f"compared: {line}", style="dim", soft_wrap=True)
    style = "green" if report["passed"] else "red"
    console.print(f"{report['dataset']}: {verdict(report)}", style=f"bold {style}", soft_wrap=True)
    console.print(f"→ {workspace / 'check' / report['page']}", style="cyan", soft_wrap=True)


def _table(report: dict[str, Any]) -> Table:
    """Return the table of one data set: counts, and medians of all other numbers."""
    table = Table(
        title=report["dataset"], title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim"
    )
    table.add_column("")
    counted = patient_columns(report["patient_unit"])
    for name in (*(title.replace(" (", "\n(") for title in counted.values()), *COLUMNS):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report["groups"]:
        lesions, intensity = row["lesions"], row["intensity"]
        table.add_row(
            group_name(row),
            *(f"{row[name]:,}" for name in counted),
            percent(lesions["share"]["p50"]) if lesions["share"] else "–",
            f"{lesions['small']:,}",
            f"{intensity['mean']:.3g}±{intensity['sd']:.3g}",
            spacing(row).split(" (")[0].replace(" ", ""),
        )
    return table


def _print_finding(console: Console, finding: dict[str, Any]) -> None:
    console.print(
        f"{finding['severity']}: {finding['what']}", style=STYLES[finding["severity"]], soft_wrap=True
    )
    for place in finding["where"][:LISTED]:
        console.print(f"  {place['text']}", soft_wrap=True)
        if finding["severity"] == "problem":
            _print_id(console, place["id"])
    if finding["count"] > LISTED:
        console.print(f"  and {count(finding['count'] - LISTED, 'other')}")
    if "id" in finding and finding["severity"] == "problem":
        _print_id(console, finding["id"])
    console.print(f"  what to do: {finding['fix']}", style="dim", soft_wrap=True)


def _print_id(console: Console, name: str) -> None:
    """Print the id of a problem as a line of TOML, which the user copies to the file of --accept."""
    console.print(f"    id = {json.dumps(name, ensure_ascii=False)}", style="dim", soft_wrap=True)
