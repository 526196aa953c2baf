"""`flames report`: a run with its partition and its evaluations → one HTML file that needs no other file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.config import CompareConfig, ReportConfig
from flames_cli.report.document import Document, Section, render_document
from flames_cli.stages.compare.stage import default_name
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.report.architecture import model_section
from flames_cli.stages.report.cost import cost_section, hardware_section
from flames_cli.stages.report.data import data_section
from flames_cli.stages.report.gathering import Gathered, gather
from flames_cli.stages.report.maps import cross_site_section, map_section
from flames_cli.stages.report.overlays import overlays_section
from flames_cli.stages.report.participation import participation_section
from flames_cli.stages.report.repeat import repeat_section
from flames_cli.stages.report.results import results_section
from flames_cli.stages.report.summary import summarise_run
from flames_cli.stages.report.training import training_section
from flames_cli.store.files.aside import set_aside
from flames_cli.store.files.atomic import write_text
from flames_cli.store.files.locks import in_turn, reading_partition
from flames_cli.store.workspace import report_file

SECTIONS = (
    data_section,
    participation_section,
    training_section,
    results_section,
    overlays_section,
    cross_site_section,
    map_section,
    model_section,
    cost_section,
    hardware_section,
    repeat_section,
)
"""Makers of the sections, in their order; a section without content is left out."""

WITH_PICTURES = (
    "This page contains pictures of patients. Handle it as you handle the images, and do not publish it "
    "without permission."
)
WITHOUT_PICTURES = "This page contains no picture of a patient; --data adds them."


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written."""

    name: str
    run: str
    path: Path
    pictures: bool
    """True if it contains pictures of patients."""
    evaluated: tuple[str, ...]
    """Runs that were evaluated first."""
    no_results: str
    """Reason why it has no test results; empty if it has."""
    aside: str = ""
    """Name that an earlier report with other content has now; empty: there was none."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "name": self.name,
            "run": self.run,
            "page": str(self.path),
            "pictures": self.pictures,
            "evaluated": list(self.evaluated),
            **({"no_results": self.no_results} if self.no_results else {}),
            **({"aside": self.aside} if self.aside else {}),
        }


def report(config: ReportConfig, progress: Progress = silent) -> Report:
    """Write the report of a run or a family; runs without an evaluation are evaluated first, and nothing is
    trained.

    The same files give the same page. An earlier page of this name with other content is renamed.

    Raises:
        MissingArtifact: there is no such run.
        FlamesError: as `gather`, or the page cannot be written.
    """
    gathered = gather(config, progress)
    page = render_document(_make_document(gathered, progress))
    results = gathered.results
    name = config.name or _default_name(config, gathered)
    path = report_file(config.workspace, name)
    with in_turn(path.parent):
        same = path.is_file() and path.read_bytes() == page.encode("utf-8")
        aside = None if same else set_aside(path)
        if not same:
            write_text(path, page)
    return Report(
        name=name,
        run=gathered.name,
        path=path,
        pictures=gathered.pictures,
        evaluated=results.comparison.evaluated if results else (),
        no_results=gathered.no_results,
        aside=aside.name if aside else "",
    )


def _default_name(config: ReportConfig, gathered: Gathered) -> str:
    named = default_name(CompareConfig(runs=(gathered.name, *config.compare)))
    return f"{named}-data" if config.data else named


def _make_document(gathered: Gathered, progress: Progress) -> Document:
    partition = gathered.partition.name if gathered.partition else None
    sections: list[Section] = []
    for done, make in enumerate(SECTIONS):
        progress("report", done, len(SECTIONS))
        if partition is None:
            sections.append(make(gathered))
        else:
            with reading_partition(gathered.workspace, partition):
                sections.append(make(gathered))
    progress("report", len(SECTIONS), len(SECTIONS))
    against = gathered.results.runs[1:] if gathered.results else []
    compared = f", compared with {', '.join(against)}" if against else ""
    return Document(
        title=f"{gathered.name}: FLAMES report",
        subtitle=f"Federated tumour segmentation, run {gathered.name}{compared}",
        lead=summarise_run(gathered),
        sections=[section for section in sections if section.blocks],
        notices=_notices(gathered),
        runs=sorted({gathered.name, *against, *(run.folder.name for run in gathered.runs)}),
        foot=f"Made by flames {__version__}. The page needs no other file and no network.",
    )


def _notices(gathered: Gathered) -> list[str]:
    first = gathered.first
    notices = [WITH_PICTURES if gathered.pictures else WITHOUT_PICTURES]
    if gathered.private:
        notices[0] = "This page contains nothing about single clients, since a run has differential privacy."
    if not all(run.is_finished for run in gathered.runs):
        unfinished = [run.folder.name for run in gathered.runs if not run.is_finished]
        notices.append(
            f"Not finished: {', '.join(unfinished)} ({first.rounds_done} of {first.config.rounds} rounds)."
            if not gathered.is_family
            else f"Not finished: {', '.join(unfinished)}."
        )
    return notices
