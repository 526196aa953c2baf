"""Tables as Markdown and as LaTeX, for papers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "≥": r"$\geq$",
    "μ": r"$\mu$",
}


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of texts: some columns of names, then columns of numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Cells of each row, as many as the header has."""
    names: int = 1
    """Number of columns, from the left, that have names, not numbers."""
    bold: frozenset[tuple[int, int]] = frozenset()
    """Row and column of the cells to print bold."""
    rules: frozenset[int] = frozenset()
    """Rows with a line above them."""
    notes: Sequence[str] = field(default_factory=tuple)
    """Sentences below the table."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(
                f"got rows of {sorted({len(row) for row in self.rows})} cells, "
                f"expected {len(self.header)}, as many as the header has"
            )


def to_markdown(table: TextTable) -> str:
    """Return the table in Markdown, with its title above and its notes below."""
    align = ["---" if column < table.names else "---:" for column in range(len(table.header))]
    lines = [
        _markdown_row([_plain(cell) for cell in table.header]),
        _markdown_row(align),
        *(
            _markdown_row(
                [
                    f"**{_plain(cell)}**" if (number, column) in table.bold else _plain(cell)
                    for column, cell in enumerate(row)
                ]
            )
            for number, row in enumerate(table.rows)
        ),
    ]
    notes = [f"\n{_plain(note)}" for note in table.notes]
    return "\n".join([f"{_plain(table.title)}\n", *lines, *notes]) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(cell: str) -> str:
    """Return a text whose characters Markdown does not interpret."""
    return "".join(f"\\{letter}" if letter in r"\`*_[]<>|" else letter for letter in cell)


def to_latex(table: TextTable, label: str) -> str:
    """Return the table as a LaTeX float with the rules of the package booktabs."""
    columns = "l" * table.names + "r" * (len(table.header) - table.names)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escape_latex(table.title)}}}",
        f"  \\label{{tab:{label}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {_latex_row([escape_latex(cell) for cell in table.header])}",
        r"    \midrule",
    ]
    for number, row in enumerate(table.rows):
        if number in table.rules:
            lines.append(r"    \midrule")
        cells = [
            f"\\textbf{{{escape_latex(cell)}}}" if (number, column) in table.bold else escape_latex(cell)
            for column, cell in enumerate(row)
        ]
        lines.append(f"    {_latex_row(cells)}")
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    lines += [rf"  \par\smallskip {{\footnotesize {escape_latex(note)}}}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def escape_latex(text: str) -> str:
    """Return `text` such that LaTeX prints it unchanged."""
    return "".join(_LATEX.get(letter, letter) for letter in text)
