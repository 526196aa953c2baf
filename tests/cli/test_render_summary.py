import re
from dataclasses import replace

import pytest

from flames_cli.cli.render import print_evaluation
from flames_cli.core.scores.metrics import Summary
from flames_cli.stages.evaluate.cross_site import CrossCell, CrossSite
from flames_cli.stages.evaluate.summary import SummaryRow
from flames_cli.stages.evaluate.tables import SplitTables
from tests.cli.test_render_evaluation import RUN, evaluation, written


def row(label="brats-1", split="client_test", dice=0.5, **changes):
    made = SummaryRow(
        split=split,
        label=label,
        modality="MRI",
        organ="brain",
        unseen="",
        datasets=("brats",),
        protocol="volumes",
        n=14,
        n_patients=12,
        dice=Summary(dice, 0.16, 14, 0),
        unit="mm",
        hd95=Summary(23.44, 6.7, 12, 0),
        penalised=Summary(123.44, 50.0, 14, 0),
    )
    return replace(made, **changes)


def screen(tmp_path, clients, server=(), cross=None, **changes):
    splits = {"client_test": SplitTables((), (), summary=clients)}
    if server:
        splits["server_test"] = SplitTables((), (), summary=server)
    made = evaluation(tmp_path, splits, **changes)
    return written(print_evaluation, replace(made, cross_site=cross))


def test_a_line_has_patients_volumes_dice_distance_with_penalty_and_missed_cases(tmp_path):
    text = screen(tmp_path, [row()])
    assert re.search(r"brats-1 brain MRI +12 \(14 volumes\) 0.50±0.16 123.4 mm +2 *\n", text)
    assert "clients, own test patients: flames (flames, round 1)" in text


def test_patients_that_are_unknown_are_counted_as_images(tmp_path):
    images = row(protocol="images", datasets=("busi",), n=21, n_patients=20)
    assert "20 (21 images)" in screen(tmp_path, [images])
    units = {"client_test": {"busi": "image"}}
    assert re.search(r"MRI +21 images", screen(tmp_path, [images], units=units))


def test_one_volume_has_no_standard_deviation(tmp_path):
    alone = replace(row(), n=1, dice=Summary(0.5, 0.0, 1, 0))
    assert re.search(r" 0.50 +123.4", screen(tmp_path, [alone]))


def test_ten_clients_and_five_server_models_are_one_screen_without_a_cut_number(tmp_path):
    clients = [
        row(f"university-hospital-{number}", dice=number / 10, organ="head-and-neck", modality="MRI-T1")
        for number in range(10)
    ]
    server = [row(f"MRI by university-hospital-{number}", "server_test") for number in range(5)]
    untested = {f"hospital-{number}": "no test patients" for number in range(9)}
    text = screen(tmp_path, clients, server, untested=untested, incomplete=("lits-slices",))
    lines = text.splitlines()
    table = [line for line in lines if str(tmp_path) not in line]
    assert max(map(len, table)) <= 80
    assert "…" not in text
    assert len(re.findall(r"123\.4 mm", text)) == 15
    assert len(re.findall(r"0\.\d\d±0\.16", text)) == 15


def test_a_screen_of_short_names_has_at_most_35_lines(tmp_path):
    clients = [row(f"site-{number}") for number in range(30)]
    server = [row(f"M{number}", "server_test") for number in range(10)]
    text = screen(tmp_path, clients, server)
    assert len(text.splitlines()) <= 35
    assert re.search(r"16 more +see --detail", text)


def test_the_mean_over_clients_has_the_worst_and_the_best(tmp_path):
    text = screen(tmp_path, [row(dice=0.2), row("busi", dice=0.6)])
    assert re.search(r"mean +worst 0.20, best 0.60 +0.40±0.28", text)


def test_there_are_at_most_three_notes_and_warnings_come_first(tmp_path):
    stale = (replace(RUN, stale_statistics=True, asked="best"),)
    spent = {"epsilon": 4.7, "delta": 1e-5}
    text = screen(tmp_path, [row()], runs=stale, privacy=spent, untested={"x": "y"}, incomplete=("lits",))
    notes = text.splitlines()[3:-1]
    assert [note.split(":")[0].split(" ")[0] for note in notes] == ["statistics", "lits", "privacy"]


@pytest.mark.parametrize("picture", ["cross-site.png", "overlays-client.png", "overlays-server.png"])
def test_the_picture_to_open_is_named_if_there_is_one(picture, tmp_path):
    assert "open:" not in screen(tmp_path, [row()])
    (tmp_path / picture).touch()
    assert f"open: {tmp_path / picture}\n" in screen(tmp_path, [row()])


def test_cross_site_means_are_a_note_and_a_table_with_detail(tmp_path):
    cells = [
        CrossCell(model, "MRI", client, "MRI", "volumes", 3, 3, 0.75 if model == client else 0.25, 0.1)
        for model in "ab"
        for client in "ab"
    ]
    made = evaluation(tmp_path, {"client_test": SplitTables((), (), summary=[row()])})
    made = replace(made, cross_site=CrossSite((), cells))
    assert "cross-site Dice: own 0.75, same modality 0.25\n" in written(print_evaluation, made)
    detail = written(print_evaluation, made, True)
    assert re.search(r"a +MRI +0.75 \(1\) +0.25 \(1\) +none", detail)


def test_fairness_is_a_note_with_detail(tmp_path):
    fair = {"n": 2, "dice_mean": 0.4, "dice_sd": 0.28, "worst": "a", "worst_dice": 0.2, "best": "b"}
    made = evaluation(tmp_path, {}, fairness={**fair, "best_dice": 0.6, "spread": 0.4})
    text = " ".join(written(print_evaluation, made, True).split())
    assert "mean Dice of 2 clients 0.400±0.280, worst a 0.200, best b 0.600, spread 0.400" in text


def family(folds, seeds):
    return tuple(
        replace(RUN, name=f"flames-fold-{fold}-seed-{seed}", fold=fold, seed=seed)
        for fold in folds
        for seed in seeds
    )


@pytest.mark.parametrize(
    ("runs", "options", "words"),
    [
        ((RUN,), {}, "volumes or images; mean: over clients"),
        (family((None,), (0, 1)), {}, "seeds; mean: over clients"),
        (family((1, 2), (0,)), {}, "volumes or images; server models: folds; mean: over clients"),
        (family((1, 2), (0, 1)), {}, "seeds; server models: seeds and folds; mean: over clients"),
        (family((1, 2), (0, 1)), {"ensemble": True}, "volumes or images; mean: over clients"),
    ],
)
def test_the_note_says_what_standard_deviations_are_over(runs, options, words, tmp_path):
    made = {"runs": runs, "options": options}
    text = screen(tmp_path, [row(), row("busi")], [row("MRI", "server_test")], **made).replace(" \n", " ")
    assert f"±: standard deviation over {words}\n" in text
    alone = screen(tmp_path, [row()], **made)
    assert "mean: over clients" not in alone


def test_an_earlier_evaluation_that_is_set_aside_is_named(tmp_path):
    made = replace(evaluation(tmp_path, {}), aside="flames-old-1")
    for detail in (False, True):
        text = written(print_evaluation, made, detail)
        assert f"the earlier evaluation '{tmp_path.name}', which is of other models or options" in text
        assert "is called 'flames-old-1' now" in text
