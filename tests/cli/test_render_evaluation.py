import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from flames_cli.cli.render import print_evaluation
from flames_cli.cli.render_evaluation import (
    evaluation_notes,
    found_table,
    gain_table,
    healthy_table,
    lesion_table,
    metric_cell,
    score_table,
    seed_table,
)
from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE, SmallLesionRule
from flames_cli.core.scores.detection import LesionCounts
from flames_cli.core.scores.intervals import Interval
from flames_cli.core.scores.metrics import Summary
from flames_cli.stages.evaluate.files import Evaluation
from flames_cli.stages.evaluate.lesion_rows import SIZES, FalsePositives, LesionRow, SizeScores
from flames_cli.stages.evaluate.rows import Row

NAMES = ("fedavg", "fedavg-modality", "a-run-with-a-name-of-its-own-as-long-as-names-may-be-0123456789ab")
CELLS = ("0.120 (457)", "0.830 (1117)", "0.620 (1574)", "0.620 (1574)")
"""Of a line of the table by size."""
FOUND_CELLS = (*["0.82 (1480/1802)"] * 3, "0.91")
"""Of a line of the table of lesions found."""


def console_of(width=80):
    return Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)


def written(show, *args, width=80):
    console = console_of(width)
    show(console, *args)
    return console.file.getvalue()


def scores(n, hausdorff=None):
    values = {
        "iou": (0.70, 0.15),
        "dice": (0.78, 0.16),
        "pixel_accuracy": (0.99, 0.005),
        "majority_accuracy": (0.974, 0.02),
    }
    summaries = {name: Summary(*values[name], n=n, n_infinite=0) for name in values}
    return {**summaries, "hausdorff_px": hausdorff or Summary(123.44, 56.71, n=n - 61, n_infinite=61)}


def row_of(label, modality, organ, n=1574, compare=False, **kwargs):
    gain = Summary(-0.0123, 0.2, n=n, n_infinite=0)
    other = {"compared": scores(n), "dice_gain": gain} if compare else {}
    return Row(label, modality, organ, n, scores(n, **kwargs), **other)


def clients(compare):
    brains = [row_of(f"brats-{part}", "MRI", "brain", compare=compare) for part in (1, 2, 3)]
    return [
        *brains,
        row_of("busi", "US", "breast", compare=compare),
        row_of("otu2d", "US", "ovary", compare=compare),
    ]


def test_scores_of_five_clients_fit_80_columns():
    shown = written(lambda console: console.print(score_table("t", "client", clients(False), "flames", None)))
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown
    assert [line.split()[0] for line in lines[2:]] == ["brats-1", "brats-2", "brats-3", "busi", "otu2d"]
    assert lines[2].split() == [
        "brats-1", "brain", "MRI", "1574", "0.70±0.15", "0.78±0.16", "99.0±0.5", "123.4±56.7", "(1513)",
        "97.4",
    ]  # fmt: skip


@pytest.mark.parametrize("compare", NAMES)
@pytest.mark.parametrize("run", ["flames", NAMES[2]])
def test_scores_next_to_another_run_fit_80_columns_with_every_number(run, compare):
    rows = [*clients(True), row_of("US", "US", "all organs", compare=True)]
    shown = written(lambda console: console.print(score_table("t", "client", rows, run, compare)))
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 2 + 2 * len(rows)
    for ours, theirs in zip(lines[2::2], lines[3::2], strict=True):
        assert ours.split()[-1] == "-0.01"
        assert all("0.78±0.16" in line and "123.4±56.7 (1513)" in line for line in (ours, theirs))
    assert "brain MRI" in lines[3]
    wide = score_table("t", "client", rows, run, compare)
    assert compare in written(lambda console: console.print(wide), width=200)


def test_a_distance_without_a_finite_value_is_none():
    nothing = Summary(math.nan, math.nan, n=0, n_infinite=3)
    row = row_of("busi", "US", "breast", n=3, hausdorff=nothing)
    shown = written(lambda console: console.print(score_table("t", "client", [row], "flames", None)))
    assert shown.splitlines()[2].split()[-2] == "none"
    assert "nan" not in shown
    assert row.as_json()["metrics"]["hausdorff_px"] == {"mean": None, "sd": None, "n": 0, "n_infinite": 3}


def evaluation(folder, compare=None, **tables):
    shown = {"client_test": clients(False), **tables}
    return Evaluation("flames", "flames", 1, compare, {}, shown, folder)


def test_an_evaluation_names_who_is_in_no_table(tmp_path):
    made = replace(evaluation(tmp_path), untested={"lits-c2": "no test patients"})
    assert "not in the tables: lits-c2, no test patients\n" in written(print_evaluation, made)


@pytest.mark.parametrize("compare", [None, "fedavg-of-a-long-name"])
def test_an_unseen_site_s_name_is_wrapped_before_a_number_is_cut(compare):
    organ = "colon, a hospital of a long name (unseen)"
    made = row_of("Endoscopy", "Endoscopy", organ, compare=bool(compare))
    rows = [replace(made, unseen="a hospital of a long name")]
    shown = written(lambda console: console.print(score_table("t", "model", rows, "flames", compare)))
    assert max(map(len, shown.splitlines())) <= 80
    assert "0.78±0.16" in shown
    assert "123.4±56.7 (1513)" in shown


def test_an_evaluation_reports_what_it_scored_and_where_its_files_are(tmp_path):
    shown = written(print_evaluation, evaluation(tmp_path))
    assert shown.startswith("clients, own test sets: flames (flames, 1 round)")
    assert "server models" not in shown
    assert "gain" not in shown
    assert shown.endswith(f"→ {tmp_path}\n")
    rows = [row_of("US", "US", "breast", compare=True)]
    both = written(print_evaluation, evaluation(tmp_path, server_test=rows, compare="fedavg"))
    assert "gain: mean of the paired differences in DSC, flames − fedavg" in both
    assert "server models, unseen patients: flames (flames, 1 round)" in both


def by_size(dice=(0.12, 0.83, 0.62, 0.62), n=(457, 1117, 1574, 1574), lesions=(1802, 1480, 1000, 910)):
    return {
        size: SizeScores(Summary(mean, 0.2, cases, 0), LesionCounts(*lesions), 40)
        for size, mean, cases in zip(SIZES, dice, n, strict=True)
    }


def gains_of(low=-0.0123, patients=1234):
    return dict.fromkeys(SIZES, Interval(0.0345, low, 0.0812, 1574, patients))


def lesion_row(label, modality="MRI", organ="brain", compare=False, **changes):
    other = {"compared": by_size(), "gains": gains_of()} if compare else {}
    return LesionRow(label, modality, organ, **{"sizes": by_size(), **other, **changes})


def of_five_clients(compare):
    rows = [lesion_row(f"brats-{part}", compare=compare) for part in (1, 2, 3)]
    rows += [lesion_row("busi", "US", "breast", compare), lesion_row("otu2d", "US", "ovary", compare)]
    return [*rows, lesion_row("all clients", "", "all organs", compare)]


def shown_lesions(rows, run="flames", compare=None, width=80):
    made = Evaluation(run, "flames", 1, compare, {}, {}, None)
    return written(lambda console: console.print(lesion_table("t", "client", rows, made)), width=width)


def shown_found(rows, run="flames", compare=None, width=80, **seeds):
    made = Evaluation(run, "flames", 1, compare, {}, {}, None, **seeds)
    return written(lambda console: console.print(found_table("t", "client", rows, made)), width=width)


def shown_gains(rows, width=80):
    return written(lambda console: console.print(gain_table("t", "client", rows)), width=width)


def test_dice_by_size_of_five_clients_fits_80_columns():
    shown = shown_lesions(of_five_clients(False))
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert shown.splitlines()[1].split() == ["client", "images", *SIZES]
    for cell in CELLS:
        assert shown.count(cell) >= 6
    wide = shown_lesions(of_five_clients(False), width=120).splitlines()
    assert wide[2].split() == ["brats-1", "brain", "MRI", *" ".join(CELLS).split()]
    assert wide[-1].startswith("all clients all organs ")


@pytest.mark.parametrize("compare", NAMES)
@pytest.mark.parametrize("run", ["flames", NAMES[2]])
def test_dice_by_size_next_to_another_run_fits_80_columns_with_every_number(run, compare):
    rows = of_five_clients(True)
    shown = shown_lesions(rows, run, compare)
    assert max(map(len, shown.splitlines())) <= 80
    for cell in CELLS:
        assert shown.count(cell) >= len(rows)
    assert shown.count(" 0.620 ") >= 2 * len(rows)
    wide = shown_lesions(rows, run, compare, width=250)
    assert [line.split()[0] for line in wide.splitlines()[2::2]] == [
        "brats-1",
        "brats-2",
        "brats-3",
        "busi",
        "otu2d",
        "all",
    ]
    assert run in wide
    assert compare in wide


@pytest.mark.parametrize("compare", [None, *NAMES])
def test_lesions_found_fit_80_columns_and_keep_every_number(compare):
    rows = of_five_clients(bool(compare))
    shown = shown_found(rows, compare=compare)
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.splitlines()[1].split()[-4:] == ["small", "large", "lesion", "prec."]
    assert shown.count("0.82 (1480/1802)") == 3 * len(rows)
    if compare:  # how many lesions there are stands in the first of a row's lines
        assert shown.count("0.82 (1480) ") == 3 * len(rows)


def test_lesions_found_have_both_totals_where_the_numbers_of_seeds_differ():
    """Lesions are counted over all seeds, so 14 found of 42 and 14 of 14 must not look alike."""
    shown = shown_found(of_five_clients(True), compare="fedavg", seeds=(0, 1, 2), compared_seeds=(0,))
    assert shown.count("0.82 (1480/1802)") == 6 * len(of_five_clients(True))
    assert max(map(len, shown.splitlines())) <= 80


def test_models_without_a_comparison_are_named():
    rows = [row_of("MRI", "MRI", "brain"), row_of("US", "US", "breast", compare=True)]
    made = Evaluation("flames", "flames", 1, "local", {}, {"server_test": rows}, None, compared_seeds=(0,))
    assert [note for note in evaluation_notes(made) if note.startswith("no comparison for")] == [
        "no comparison for MRI: local has no such model, or several; "
        "--run local --compare flames compares each of several"
    ]


def test_a_distance_that_one_seed_does_not_have_is_none():
    assert metric_cell("hausdorff_px", Summary(25.0, 0.0, n=0, n_infinite=7), 7) == "none"


def test_a_model_without_a_counterpart_has_no_second_run():
    shown = shown_lesions(
        [lesion_row("MRI by a"), lesion_row("US", compare=True)], compare="local", width=120
    )
    assert shown.count("flames") == 2
    assert shown.count("local") == 1


def test_what_there_is_none_of_is_none():
    nothing = {"sizes": by_size((math.nan,) * 4, (0,) * 4, (0, 0, 0, 0))}
    shown = shown_lesions([lesion_row("busi", **nothing)])
    assert shown.splitlines()[2].split() == ["busi", "brain", "MRI", *["none"] * 4]
    assert shown_found([lesion_row("busi", **nothing)]).splitlines()[2].split()[-4:] == ["none"] * 4


def test_gains_of_five_clients_fit_80_columns_with_their_intervals():
    rows = of_five_clients(True)
    shown = shown_gains(rows)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["client", *SIZES]
    assert len(lines) == 2 + 2 * len(rows)
    for first, second in zip(lines[2::2], lines[3::2], strict=True):
        assert first.count("+0.035 (1234)") == second.count("[-0.012, +0.081]") == len(SIZES)
    assert lines[3].startswith("brain MRI ")


def test_a_gain_without_patients_to_draw_from_has_no_interval():
    alone = gains_of(math.nan, 1) | {"small": Interval(math.nan, math.nan, math.nan, 0, 0)}
    lines = shown_gains([lesion_row("busi", compare=True, gains=alone)]).splitlines()
    assert lines[2].split() == ["busi", "none", *["+0.035", "(1)"] * 3]
    assert lines[3].split() == ["brain", "MRI"]


@pytest.mark.parametrize(
    ("show", "cells"),
    [
        (shown_lesions, CELLS),
        (lambda rows: shown_lesions(rows, compare="fedavg"), CELLS),
        (shown_found, FOUND_CELLS),
        (shown_gains, ["+0.035 (1234)"]),
    ],
)
def test_unseen_sites_of_long_names_are_wrapped_before_a_number_is_cut(show, cells):
    organ = "colon, a hospital of a long name, another one (unseen)"
    row = lesion_row("all models", "Endoscopy", organ, compare=True, unseen="a hospital, another one")
    shown = show([row])
    assert max(map(len, shown.splitlines())) <= 80
    assert all(cell in shown for cell in cells)


def test_an_evaluation_shows_every_split_by_size_and_explains_it(tmp_path):
    rows = {"client_test": of_five_clients(False), "server_test": [lesion_row("MRI")]}
    server = [row_of("MRI", "MRI", "brain")]
    made = replace(
        evaluation(tmp_path, server_test=server),
        lesions=rows,
        small=dict.fromkeys("ab", DEFAULT_RULE),
    )
    shown = written(print_evaluation, made)
    assert max(map(len, shown.removesuffix(f"→ {tmp_path}\n").splitlines())) <= 80
    titles = [
        "clients, own test sets: flames",
        "clients, own test sets: DSC (cases) by size of lesion",
        "clients, own test sets: lesions found",
        "server models, unseen patients: flames",
        "server models, unseen patients: DSC (cases) by size of lesion",
        "server models, unseen patients: lesions found",
    ]
    assert sorted(titles, key=shown.index) == titles
    assert "small: image area / lesion area ≥ 100\n" in shown
    assert "found: lesions that the prediction touches" in shown
    assert "gain" not in shown
    of_two = written(
        print_evaluation,
        replace(made, small={"a": DEFAULT_RULE, "b": SmallLesionRule("area", 1000, 1000)}),
    )
    assert "small: a: image area / lesion area ≥ 100; b: image area / lesion area ≥ 1000\n" in of_two


def test_gains_are_shown_where_there_is_another_run(tmp_path):
    rows = {"client_test": of_five_clients(True)}
    made = replace(evaluation(tmp_path, compare="fedavg"), lesions=rows, small={"a": DEFAULT_RULE})
    shown = written(print_evaluation, made)
    assert "clients, own test sets: gain in DSC (patients)" in shown
    assert "[…]: 95 % bootstrap interval over patients" in shown
    assert "patients unknown" not in shown
    mixed = replace(made, units={"client_test": {"brats": "patient", "busi": "image", "otu2d": "image"}})
    shown = written(print_evaluation, mixed)
    assert "clients, own test sets: gain in DSC (patients and images)" in shown
    assert "[…]: 95 % bootstrap interval over patients and images" in shown
    assert "images: busi, otu2d (patients unknown)\n" in shown
    without = {"client_test": of_five_clients(False)}
    assert "[…]" not in written(print_evaluation, replace(made, lesions=without))


def false_positives(n=1234, marked=617, parts=2468, area=0.01234):
    scores = SizeScores(Summary(0.5, 0.5, n, 0), LesionCounts(0, 0, parts, 0), n)
    return FalsePositives(scores, marked, area)


@pytest.mark.parametrize("compare", [None, *NAMES])
def test_false_positives_fit_80_columns_and_name_only_rows_with_such_images(compare):
    rows = [replace(row, healthy=false_positives()) for row in of_five_clients(bool(compare))]
    if compare:
        rows = [replace(row, compared_healthy=false_positives(marked=0, parts=0, area=0.0)) for row in rows]
    made = Evaluation("flames", "flames", 1, compare, {}, {}, None)
    rows[1] = replace(rows[1], healthy=None)
    shown = written(lambda console: console.print(healthy_table("t", "client", rows, made)))
    assert max(map(len, shown.splitlines())) <= 80
    assert "brats-2" not in shown
    assert shown.count("0.50 (617)") == shown.count("2.00") == shown.count("1.23 ") == len(rows) - 1
    assert shown.count("0.00 (0)") == (len(rows) - 1 if compare else 0)


def test_an_evaluation_with_images_without_a_lesion_has_their_table_and_words(tmp_path):
    healthy = lesion_row("US", "US", "breast", healthy=false_positives())
    made = replace(evaluation(tmp_path), lesions={"server_test": [healthy]})
    shown = " ".join(written(print_evaluation, made, width=120).split())
    assert "images without a lesion" in shown
    assert "marked: share (number) of images with any prediction" in shown
    plain = replace(made, lesions={"server_test": [lesion_row("US", "US", "breast")]})
    assert "without a lesion" not in written(print_evaluation, plain, width=120)


def seed_rows(compare=False):
    interval = Interval(0.7812, 0.7123, 0.8343, 1574, 1117)
    return [
        replace(row, intervals={"dice": interval}, by_seed=[0.771, 0.792, 0.781])
        for row in [*clients(compare), row_of("US", "US", "all organs", compare=compare)]
    ]


def test_the_table_by_seed_fits_80_columns_with_every_number():
    shown = written(lambda console: console.print(seed_table("t", "client", seed_rows())))
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    for line in shown.splitlines()[2:]:
        assert line.split()[-8:] == ["1574", "1117", "0.781", "[0.712,", "0.834]", "0.771", "0.792", "0.781"]


def test_many_seeds_are_wrapped_before_a_number_is_cut():
    rows = [replace(row, by_seed=[0.111 * seed for seed in range(10)]) for row in seed_rows()]
    shown = written(lambda console: console.print(seed_table("t", "client", rows)))
    assert max(map(len, shown.splitlines())) <= 80
    assert all(shown.count(f"{0.111 * seed:.3f}") >= len(rows) for seed in range(10))


def test_several_seeds_are_named_with_what_the_intervals_are_over(tmp_path):
    made = replace(evaluation(tmp_path, client_test=seed_rows()), seeds=(0, 1, 5))
    shown = " ".join(written(print_evaluation, made).split())
    assert "flames (flames, 1 round, 3 seeds)" in shown
    assert "DSC by seed 0, 1, 5" in shown
    assert "mean±sd over seeds of the mean over n cases" in shown
    assert "and seeds, too narrow for fewer than some 20" in shown


def test_runs_of_other_seeds_are_said_to_be_paired_by_case(tmp_path):
    made = evaluation(tmp_path, compare="fedavg", client_test=seed_rows(compare=True))
    different = replace(made, seeds=(0, 1), compared_seeds=(3,))
    assert "gains are paired by case only" in " ".join(written(print_evaluation, different).split())
    same = replace(made, seeds=(0, 1), compared_seeds=(0, 1))
    assert "paired by case only" not in " ".join(written(print_evaluation, same).split())
