"""Tables of a comparison in the terminal: numbers are complete at 80 columns."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from flames_cli.cli.render_comparison import legend, print_comparison, run_blocks
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.compare.files import Comparison
from flames_cli.stages.compare.samples import pool_scores
from flames_cli.stages.compare.tables import make_tables
from flames_cli.store.evaluations import EvaluatedRun, EvaluationFile
from tests.support.evaluations import MISSED, case_score

LONG = "fedavg-modality-with-a-very-long-name-for-a-table-of-80-columns"


def evaluation_of(run, seeds):
    members = tuple(
        EvaluatedRun(f"{run}-seed-{seed}", "flames", seed, None, 2, 2, "last", "why", "default", "ab", "cd")
        for seed in seeds
    )
    units = {"client_test": {"busi": "patient"}, "server_test": {"busi": "patient"}}
    return EvaluationFile(run, run, members, {}, {}, units, {})


def compare_stubs(runs, n_clients=2, seeds=(0,), metrics=("dice",), by=None):
    """Return the comparison of runs that differ by a hundredth of Dice each."""
    pools = []
    for index in range(len(runs)):
        scores = []
        for seed in seeds:
            facts = {"seed": seed, "hd95_px": MISSED if index == 1 else 100.0 + index}
            for client in range(n_clients):
                name = f"hospital-{client}"
                scores += [
                    case_score(f"{client}-{n}", 0.3 + n / 10 + index / 100, model=name, **facts)
                    for n in range(3)
                ]
            scores += [
                case_score(f"s{n}", 0.5 + index / 100, split="server_test", model="US", **facts)
                for n in range(2)
            ]
        pools.append(pool_scores(scores))
    tables = make_tables(pools, by, metrics[0], 0, metrics)
    evaluations = tuple(evaluation_of(run, seeds) for run in runs)
    return Comparison("mine", Path("comparisons/mine"), evaluations, tables, metrics, by=by)


def printed(result, detail=False, width=80):
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        print_comparison(console, result, detail)
    return capture.get()


def test_ten_clients_and_six_runs_are_readable_at_80_columns():
    runs = ["flames", "fedavg", "local", "centralised", "flames-adaptive", LONG]
    text = printed(compare_stubs(runs, n_clients=10))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert f"F {LONG}" in text
    for client in range(10):
        (line,) = re.findall(rf"^hospital-{client} .*$", text, re.M)
        assert re.findall(r"0\.\d{3}", line) == [f"0.4{index}0" for index in range(6)]
    assert len(text.splitlines()) < 50


def test_short_names_are_in_the_header():
    text = printed(compare_stubs(["flames", "fedavg"]))
    assert re.search(r"^client +images +n +flames +fedavg$", text.replace(" \n", "\n"), re.M)
    assert "A flames" not in text


@settings(max_examples=8)
@given(
    st.lists(st.from_regex(r"[a-z][a-z-]{0,40}", fullmatch=True), min_size=2, max_size=9, unique=True),
    st.booleans(),
)
def test_no_number_is_lost_whatever_the_names_are(runs, detail):
    result = compare_stubs(runs, metrics=("dice", "hd95"), seeds=(0, 1))
    text = printed(result, detail)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for one in result.tables.of("dice", "clients"):
        if one.line.kind == "model":
            rows = re.findall(rf"^{one.line.label} .*$", text, re.M)
            for mean in one.means:
                assert any(f"{mean.mean:.3f}" in row for row in rows)
    for run in runs:
        assert run in text


def test_missed_cases_are_counted_and_cost_the_diagonal():
    text = printed(compare_stubs(["flames", "fedavg"], metrics=("hd95",)))
    (line,) = re.findall(r"^hospital-0 .*$", text, re.M)
    assert line.split()[-3:] == ["100.0", "50.0", "(3)"]
    assert "a distance is the diagonal of the image" in text


def test_the_best_run_is_bold():
    console = Console(width=80, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        print_comparison(console, compare_stubs(["flames", "fedavg"]), detail=False)
    assert re.findall(r"\x1b\[1m *(0\.\d{3})", capture.get())[:2] == ["0.410", "0.410"]


def test_detail_has_all_lines_and_tests():
    short, full = (
        printed(compare_stubs(["flames", "fedavg"], seeds=(0, 1)), detail) for detail in (False, True)
    )
    assert "p Wilcoxon" in full
    assert "p Wilcoxon" not in short
    assert "0.410 ± 0.000" in full
    assert "range of clients" in full


def test_later_blocks_repeat_the_reference():
    header = ["client", "images", "n", *(f"run{number}" for number in range(9))]
    table = TextTable("t", header, [["a", "b", "1", *["0.500 ± 0.100"] * 9]], 2)
    blocks, letters = run_blocks(table, 80)
    assert not letters
    assert [block[0] for block in blocks] == [3] * len(blocks)
    assert sorted(column for block in blocks for column in block[1:]) == [*range(4, 12)]


def test_a_legend_has_a_line_for_as_many_names_as_fit():
    assert legend(["a" * 30, "b" * 30, "c"], 70).splitlines() == [f"A {'a' * 30}   B {'b' * 30}", "C c"]


@pytest.mark.parametrize("runs", [["flames"], ["flames", "fedavg"]])
def test_notes_on_differences_are_for_several_runs(runs):
    assert ("sign-flip" in printed(compare_stubs(runs))) == (len(runs) > 1)


def test_values_of_a_column_have_a_table():
    text = printed(compare_stubs(["flames", "fedavg"], by="organ"))
    assert "Dice: clients' models on their own test sets, by organ" in text
    assert re.search(r"^breast .*0\.400 +0\.410", text, re.M)
