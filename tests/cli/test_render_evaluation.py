import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from flames_cli.cli.render import print_evaluation
from flames_cli.cli.render_evaluation import (
    found_table,
    healthy_table,
    lesion_table,
    metric_cell,
    score_table,
    seed_table,
    volume_table,
)
from flames_cli.core.scores.detection import LesionMatches
from flames_cli.core.scores.intervals import Interval
from flames_cli.core.scores.metrics import Summary
from flames_cli.stages.evaluate.files import Evaluation
from flames_cli.stages.evaluate.lesion_rows import SIZES, FalsePositives, LesionRow, SizeScores
from flames_cli.stages.evaluate.rows import Row
from flames_cli.stages.evaluate.tables import SplitTables, Tables, VolumeRow
from flames_cli.store.evaluations import EvaluatedRun, EvaluationFile

CELLS = ("0.120 (457)", "0.830 (1117)", "0.620 (1574)", "0.620 (1574)")
"""Of a line of the table by size."""
FOUND_CELLS = (*["0.82 (1480/1802)"] * 3, "0.91", "0.86")
"""Of a line of the table of lesions found."""
LONG = "colon, a hospital of a long name, another one (unseen)"


def written(show, *args, width=80):
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    show(console, *args)
    return console.file.getvalue()


def shown(table):
    return written(lambda console: console.print(table))


def row_of(label, modality, organ, n=1574, hausdorff=None, **changes):
    values = {
        "iou": (0.70, 0.15),
        "dice": (0.78, 0.16),
        "pixel_accuracy": (0.99, 0.005),
        "majority_accuracy": (0.974, 0.02),
        **{"sensitivity": (0.81, 0.1), "precision": (0.77, 0.1), "volume_error_ml": (-123.44, 40.0)},
        **{"nsd_2mm": (0.61, 0.1)},
    }
    metrics = {name: Summary(*value, n=n, n_infinite=0) for name, value in values.items()}
    metrics["hausdorff_px"] = hausdorff or Summary(123.44, 56.71, n=n - 61, n_infinite=61)
    metrics["hd95_mm"] = Summary(23.44, 6.71, n=n - 61, n_infinite=61)
    penalised = {"hd95_mm": Summary(101.5, 6.71, n=n, n_infinite=0)}
    dice = Interval(0.7812, 0.7123, 0.8343, n, 1117)
    row = Row(label, modality, organ, "", "", "", n, n, metrics, penalised, {"dice": dice}, [0.781])
    return replace(row, **changes)


def clients():
    return [
        *(row_of(f"brats-{part}", "MRI", "brain") for part in (1, 2, 3)),
        row_of("busi", "US", "breast"),
        row_of("otu2d", "US", "ovary"),
    ]


def false_positives(n=1234):
    return FalsePositives(n, n, 0.5, 0.01234, LesionMatches(0, 2 * n, 0, n))


def lesion_row(label, modality="MRI", organ="brain", healthy=None, unseen=""):
    dice = dict(zip(SIZES, ((0.12, 457), (0.83, 1117), (0.62, 1574), (0.62, 1574)), strict=True))
    found = LesionMatches(1802, 1626, 1480, 1574)
    sizes = {size: SizeScores(Summary(mean, 0.1, n, 0), n, found) for size, (mean, n) in dice.items()}
    return LesionRow(label, modality, organ, "", unseen, sizes, healthy)


def of_five_clients(healthy=None):
    rows = [lesion_row(f"brats-{part}", healthy=healthy) for part in (1, 2, 3)]
    others = (("busi", "breast"), ("otu2d", "ovary"))
    return [*rows, *(lesion_row(label, "US", organ, healthy=healthy) for label, organ in others)]


RUN = EvaluatedRun("flames", "flames", 0, None, 1, 1, "last", "the last round", "default", "a", "b")


def evaluation(folder, splits, **changes):
    content = EvaluationFile("flames", "flames", (RUN,), {}, {"a": "area:100:100"}, {}, {})
    return Evaluation(replace(content, **changes), Tables(splits), folder)


def test_scores_of_five_clients_fit_80_columns():
    lines = shown(score_table("t", "client", clients())).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[2:]] == ["brats-1", "brats-2", "brats-3", "busi", "otu2d"]
    assert lines[2].split() == [
        "brats-1", "brain", "MRI", "1574", "0.70±0.15", "0.78±0.16", "99.0±0.5", "123.4±56.7", "(1513)",
        "97.4",
    ]  # fmt: skip


def test_volumes_show_what_is_left_out_of_a_mean_and_the_mean_with_a_penalty():
    rows = [VolumeRow(row, LesionMatches(), None) for row in clients()]
    lines = shown(volume_table("t", "client", rows)).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == [
        "brats-1", "brain", "MRI", "1574", "0.78", "0.81", "0.77", "-123.4", "23.4", "(1513)|101.5", "0.61"
    ]  # fmt: skip


def test_patients_of_several_volumes_are_counted_next_to_them():
    row = VolumeRow(row_of("brats", "MRI", "brain", n_patients=1117), LesionMatches(), None)
    assert "1117 (1574)" in shown(volume_table("t", "client", [row]))


def test_a_distance_without_a_finite_value_is_none():
    nothing = Summary(math.nan, math.nan, n=0, n_infinite=3)
    text = shown(score_table("t", "client", [row_of("busi", "US", "breast", n=3, hausdorff=nothing)]))
    assert text.splitlines()[2].split()[-2] == "none"
    assert "nan" not in text
    assert metric_cell("dice", nothing, 3) == "none"


@pytest.mark.parametrize("table", [lesion_table, found_table])
def test_the_tables_of_lesions_fit_80_columns_with_every_number(table):
    lines = shown(table("t", "client", of_five_clients())).splitlines()
    assert max(map(len, lines)) <= 80
    cells = CELLS if table is lesion_table else FOUND_CELLS
    assert all(cell in lines[2] for cell in cells)


@pytest.mark.parametrize(
    "table",
    [
        lambda: score_table("t", "model", [row_of("Endoscopy", "Endoscopy", LONG, unseen="two")]),
        lambda: lesion_table("t", "model", [lesion_row("all models", "Endoscopy", LONG, unseen="two")]),
        lambda: found_table("t", "model", [lesion_row("all models", "Endoscopy", LONG, unseen="two")]),
        lambda: seed_table("t", "model", [row_of("Endoscopy", "Endoscopy", LONG, by_seed=[0.111] * 10)]),
    ],
)
def test_long_names_are_wrapped_before_a_number_is_cut(table):
    text = shown(table())
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_a_line_of_one_data_set_names_it():
    rows = [
        row_of("Endoscopy", "Endoscopy", "colon"),
        row_of("Endoscopy", "Endoscopy", "colon", dataset="cvc"),
    ]
    assert "– cvc" in shown(score_table("t", "model", rows))


def test_false_positives_are_shown_for_rows_with_such_images_only():
    rows = of_five_clients(false_positives())
    rows[1] = replace(rows[1], healthy=None)
    text = shown(healthy_table("t", "client", rows))
    assert max(map(len, text.splitlines())) <= 80
    assert "brats-2" not in text
    assert text.count("0.50") == text.count("2.00") == text.count("1.23 ") == len(rows) - 1


def test_the_table_by_seed_has_every_number():
    rows = [replace(row, by_seed=[0.771, 0.792, 0.781]) for row in clients()]
    text = shown(seed_table("t", "client", rows))
    assert max(map(len, text.splitlines())) <= 80
    for line in text.splitlines()[2:]:
        assert line.split()[-8:] == ["1574", "1117", "0.781", "[0.712,", "0.834]", "0.771", "0.792", "0.781"]


def test_an_evaluation_shows_every_split_and_explains_it(tmp_path):
    splits = {
        "client_test": SplitTables(clients(), of_five_clients()),
        "server_test": SplitTables(
            [row_of("MRI", "MRI", "brain")],
            [lesion_row("MRI", healthy=false_positives())],
            [VolumeRow(row_of("MRI", "MRI", "brain"), LesionMatches(), None)],
        ),
    }
    text = written(print_evaluation, evaluation(tmp_path, splits), True)
    titles = [
        "clients, own test sets: flames",
        "clients, own test sets: Dice (cases) by size of lesion",
        "clients, own test sets: lesions found",
        "server models, unseen patients: complete volumes: flames",
        "server models, unseen patients: flames",
        "server models, unseen patients: lesions found",
        "server models, unseen patients: images without a lesion",
    ]
    plain = " ".join(text.split())
    assert sorted(titles, key=plain.index) == titles
    assert "small: image area / lesion area ≥ 100\n" in text
    assert "found: lesions matched one to one" in text
    assert "marked: share of images with any prediction" in text


def test_notes_name_who_is_in_no_table_and_what_is_incomplete(tmp_path):
    made = evaluation(
        tmp_path,
        {"client_test": SplitTables(clients(), of_five_clients())},
        untested={"lits-c2": "no test patients"},
        incomplete=("lits-slices",),
        units={"client_test": {"brats": "patient", "busi": "image", "otu2d": "image"}},
        small={"a": "area:100:100", "b": "area:1000:1000"},
    )
    text = " ".join(written(print_evaluation, made, True, width=120).split())
    assert "not in the tables: lits-c2, no test patients" in text
    assert "volumes of lits-slices: slices are missing" in text
    assert "images: busi, otu2d (patients unknown)" in text
    assert "small: a: image area / lesion area ≥ 100; b: image area / lesion area ≥ 1000" in text


def test_several_seeds_are_named_with_what_the_intervals_are_over(tmp_path):
    runs = tuple(replace(RUN, name=f"flames-seed-{seed}", seed=seed) for seed in (0, 1, 5))
    rows = [replace(row, by_seed=[0.1, 0.2, 0.3]) for row in clients()]
    made = evaluation(tmp_path, {"client_test": SplitTables(rows, of_five_clients())}, runs=runs)
    text = " ".join(written(print_evaluation, made, True).split())
    assert "flames (flames, 1 round, 3 seeds)" in text
    assert "Dice by seed 0, 1, 5" in text
    assert "mean±sd over seeds of the mean over n cases" in text
    assert "and seeds, too narrow for fewer than some 20" in text
