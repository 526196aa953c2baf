"""Page of several sections, each a list of blocks: texts, tables, charts, pictures and commands.

A stage decides what a section says; the templates decide how each kind of block looks. A template has a macro
for each kind, of the name of its class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from flames_cli.report.bar_chart import BarChart
from flames_cli.report.templating import render
from flames_cli.report.text_tables import TextTable

if TYPE_CHECKING:
    from flames_cli.report.inline_svg import Drawing
    from flames_cli.report.pictures import Picture


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A text of one or more sentences."""

    text: str
    tone: Literal["", "faint", "warning"] = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of short texts."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands to type, one a line."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts side by side, where there is room."""

    charts: Sequence[BarChart]


@dataclass(frozen=True, slots=True)
class Drawings:
    """Line drawings side by side, where there is room."""

    drawings: Sequence["Drawing"]


@dataclass(frozen=True, slots=True)
class Scan:
    """A bitmap that is drawn on white, as a file of a figure has it."""

    source: str
    """Address that contains the image (`pictures.png_address`)."""
    label: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Small pictures of cases in a row, with a title."""

    title: str
    pictures: Sequence["Picture"]


Block = Paragraph | Heading | Bullets | Commands | Charts | Drawings | Scan | Gallery | TextTable


@dataclass(frozen=True, slots=True)
class Section:
    """Part of a page with a heading."""

    id: str
    """Name of the section in links to it."""
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Document:
    """A page."""

    title: str
    subtitle: str
    lead: Sequence[str]
    """Sentences that say what matters most."""
    sections: Sequence[Section]
    """Sections with at least one block."""
    notices: Sequence[str] = field(default_factory=tuple)
    """Sentences above everything else, such as that the page has pictures of patients."""
    foot: str = ""
    runs: Sequence[str] = ()
    """Names of the runs and families that it was made from, by which `flames runs rm` finds it."""


def render_document(document: Document) -> str:
    """Return the HTML of a page, which needs no other file."""
    return render("report.html", document=document)
