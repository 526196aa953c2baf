"""Tables as Markdown and LaTeX."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.report.text_tables import TextTable, escape_latex, to_latex, to_markdown

TABLE = TextTable(
    "Dice: clients",
    ["client", "flames_1", "fedavg"],
    [["a & b_1", "0.50", "0.40"], ["mean", "0.5 ± 0.1", "0.4"]],
    bold=frozenset({(0, 1)}),
    rules=frozenset({1}),
    notes=["n: 5 % of all"],
)


def test_markdown_has_bold_numbers_to_the_right():
    assert to_markdown(TABLE).splitlines() == [
        "Dice: clients",
        "",
        "| client | flames\\_1 | fedavg |",
        "| --- | ---: | ---: |",
        "| a & b\\_1 | **0.50** | 0.40 |",
        "| mean | 0.5 ± 0.1 | 0.4 |",
        "",
        "n: 5 % of all",
    ]


def test_latex_has_the_rules_of_booktabs_and_escapes_names():
    text = to_latex(TABLE, "clients-dice")
    for part in (
        r"\begin{tabular}{lrr}",
        r"client & flames\_1 & fedavg \\",
        r"a \& b\_1 & \textbf{0.50} & 0.40 \\",
        "    \\midrule\n    mean & 0.5 $\\pm$ 0.1 & 0.4 \\\\\n    \\bottomrule",
        r"\label{tab:clients-dice}",
        r"n: 5 \% of all",
    ):
        assert part in text
    assert [text.count(word) for word in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 2, 1]


@given(st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=20))
def test_no_special_character_of_a_name_reaches_latex(text):
    escaped = escape_latex(text)
    commands = (
        r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl)\{\}"
    )
    assert not re.search(r"(?<!\\)[&%$#_{}~^]", re.sub(commands, "", escaped))


def test_a_row_with_other_cells_than_the_header_is_rejected():
    with pytest.raises(ValueError, match=r"got rows of \[1\] cells, expected 2"):
        TextTable("t", ["a", "b"], [["1"]])
