import shutil
from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.scores.calibration import EDGES, N_BINS
from flames_cli.errors import FlamesError
from flames_cli.stages.evaluate import choices, stage
from flames_cli.stages.evaluate.details import calibration_lines, reliability_curves, reliability_of
from flames_cli.stages.evaluate.gains import make_gains
from flames_cli.store.evaluation_details import CalibrationBin, FrocScore, OptionScore
from flames_cli.store.evaluations import read_case_scores, read_rows, read_volume_scores
from tests.support.asserts import read_csv
from tests.support.stages import evaluate_run


@pytest.fixture(scope="module")
def plain(finished_runs, tmp_path_factory):
    folder = shutil.copytree(finished_runs, tmp_path_factory.mktemp("plain") / "space")
    return evaluate_run(folder)


@pytest.fixture(scope="module")
def optional(finished_runs, tmp_path_factory):
    """Return an evaluation with all options, where two validation patients are enough."""
    folder = shutil.copytree(finished_runs, tmp_path_factory.mktemp("optional") / "space")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "ENOUGH_PATIENTS", 1)
        return evaluate_run(folder, threshold="auto", tta="flips", postprocess="auto")


def make_bins(model, counts, split="client_test", seed=0):
    facts = ("run", seed, None, split, model, "US", "")
    bins = zip(EDGES[:-1], EDGES[1:], counts, strict=True)
    return [
        CalibrationBin(*facts, low, high, pixels, pixels * (low + high) / 2, pixels // 2)
        for low, high, pixels in bins
    ]


def test_bins_of_runs_are_summed():
    one, two = [10] * (N_BINS + 1), list(range(N_BINS + 1))
    bins = [*make_bins("a", one), *make_bins("a", two, seed=1), *make_bins("b", two)]
    first, second = calibration_lines(bins)
    assert (first["model"], first["pixels"]) == ("a", 16 * 10 + sum(two))
    assert second["ece"] == reliability_of(make_bins("b", two)).ece()
    assert second["relevant_pixels"] == sum(two[1:])


def test_many_models_are_drawn_together_by_modality():
    ones = [100] * (N_BINS + 1)
    few = [one for name in "abc" for one in make_bins(name, ones)]
    assert [curve.name for curve in reliability_curves(few)] == ["a", "b", "c"]
    many = [one for name in "abcdefghi" for one in make_bins(name, ones)]
    curves = reliability_curves([*many, *make_bins("US", ones, "server_test")])
    assert [curve.name for curve in curves] == ["clients US", "server model US"]
    assert curves[0].counts[0] == 900


def test_a_bin_without_pixels_is_no_point():
    (curve,) = reliability_curves(make_bins("a", [0, 8, *[0] * (N_BINS - 1)]))
    assert (curve.counts, curve.shares) == ([8], [0.5])


def test_lines_of_calibration_add_up_to_the_pixels_of_the_images(plain):
    bins = read_rows(plain.folder / "calibration.csv", CalibrationBin)
    cases = read_case_scores(plain.folder / "cases.csv")
    pixels = {case.split: 0 for case in cases}
    tumour = dict(pixels)
    for case in cases:
        pixels[case.split] += case.tp + case.fp + case.fn + case.tn
        tumour[case.split] += case.tp + case.fn
    for split in pixels:
        own = [one for one in bins if one.split == split]
        assert sum(one.pixels for one in own) == pixels[split]
        assert sum(one.positives for one in own) == tumour[split]


def test_the_calibration_error_can_be_computed_from_its_file(plain):
    rows = read_csv(plain.folder / "calibration.csv")
    for name, split in (("clients", "client_test"), ("server", "server_test")):
        for line in plain.content.tables[f"calibration-{name}"]:
            own = [
                row
                for row in rows
                if (row["split"], row["model"], row["unseen_site"])
                == (split, line["model"], line["unseen_site"])
            ]
            gaps = [abs(float(row["positives"]) - float(row["probability_sum"])) for row in own]
            relevant = sum(int(row["pixels"]) for row in own[1:])
            assert line["relevant_ece"] == pytest.approx(sum(gaps[1:]) / relevant)


def test_lesions_at_one_half_are_those_of_the_cases(plain):
    points = [one for one in read_rows(plain.folder / "froc.csv", FrocScore) if one.threshold == 0.5]
    cases = [case for case in read_case_scores(plain.folder / "cases.csv") if case.selected]
    assert points
    for point in points:
        key = point.split, point.model, point.unseen_site
        own = [case for case in cases if (case.split, case.model, case.unseen_site) == key]
        assert point.images == len(own)
        assert point.lesions == sum(case.lesions for case in own)
        assert point.lesions_predicted == sum(case.lesions_predicted for case in own)
        assert point.lesions_matched == sum(case.lesions_matched for case in own)


def test_without_options_there_is_no_table_of_gains(plain):
    assert not [name for name in plain.content.tables if name.startswith(("gains", "choices"))]
    assert not (plain.folder / "options.csv").exists()
    assert plain.content.options["threshold"] == 0.5


def test_options_are_part_of_the_name(optional, plain):
    assert plain.folder.name == "flames"
    assert optional.folder.name == "flames-threshold-auto-tta-flips-postprocess-auto"
    assert optional.content.options["tta"] == "flips"


def test_every_model_has_its_choices_and_their_validation(optional):
    for name, rows in (("clients", optional.clients), ("server", optional.server)):
        lines = optional.content.tables[f"choices-{name}"]
        assert {line["model"] for line in lines} == {row.label for row in rows}
        for line in lines:
            assert line["option"] in ("threshold", "postprocess")
            assert line["validation_dice"] >= 0
            if line["option"] == "threshold":
                assert line["validation_dice"] >= line["validation_dice_default"] or not line["enough"]


def test_gains_can_be_computed_from_options_and_cases(optional):
    cases = [case for case in read_case_scores(optional.folder / "cases.csv") if case.selected]
    before = read_rows(optional.folder / "options.csv", OptionScore)
    dice = {(case.split, case.model, case.unseen_site, case.dataset, case.case): case.dice for case in cases}
    # The last option: its masks are those of cases.csv.
    last = [one for one in before if one.option == "postprocess"]
    for line in optional.content.tables["gains-clients"]:
        if (line["option"], line["protocol"]) != ("postprocess", "slices") or line["model"] == "all clients":
            continue
        own = [one for one in last if (one.split, one.model) == ("client_test", line["model"])]
        gains = []
        for one in own:
            key = one.split, one.model, one.unseen_site, one.dataset, one.case
            if key in dice:
                gains.append(dice[key] - (2 * one.tp + 1e-6) / (2 * one.tp + one.fp + one.fn + 1e-6))
        assert line["n"] == len(gains)
        assert line["gain"] == pytest.approx(np.mean(gains), abs=1e-9)


@pytest.mark.parametrize(("name", "split"), [("clients", "client_test"), ("server", "server_test")])
def test_all_tables_of_details_follow_from_the_files_beside_them(optional, name, split):
    folder, tables = optional.folder, optional.content.tables
    kinds = {"calibration": CalibrationBin, "options": OptionScore}
    bins, before = (
        [row for row in read_rows(folder / f"{file}.csv", kind) if row.split == split]
        for file, kind in kinds.items()
    )
    cases = [row for row in read_case_scores(folder / "cases.csv") if row.split == split]
    volumes = [row for row in read_volume_scores(folder / "volumes.csv") if row.split == split]
    assert calibration_lines(bins) == tables[f"calibration-{name}"]
    seed = optional.content.options["interval"]["seed"]
    # As text, in which NaN equals NaN.
    assert str(make_gains(cases, volumes, before, seed)) == str(tables[f"gains-{name}"])


def test_gains_of_all_options_add_up(optional, plain):
    lines = optional.content.tables["gains-clients"]
    assert list(dict.fromkeys(line["option"] for line in lines)) == ["tta", "threshold", "postprocess"]
    for row in optional.clients:
        if row.organ == "all organs" or row.dataset:
            continue
        own = [line for line in lines if line["model"] == row.label and line["protocol"] == "slices"]
        without = next(one for one in plain.clients if one.label == row.label)
        assert own[0]["dice_without"] == pytest.approx(without.metrics["dice"].mean)
        assert own[-1]["dice_with"] == pytest.approx(row.metrics["dice"].mean)
        total = sum(line["gain"] for line in own)
        assert total == pytest.approx(row.metrics["dice"].mean - without.metrics["dice"].mean)


def test_volumes_have_gains_of_their_own(optional):
    volumes = read_volume_scores(optional.folder / "volumes.csv")
    lines = [
        line
        for name in ("clients", "server")
        for line in optional.content.tables[f"gains-{name}"]
        if line["protocol"] == "volumes" and line["option"] == "postprocess"
    ]
    assert {line["model"] for line in lines} >= {one.model for one in volumes}
    for line in lines:
        own = [one.dice for one in volumes if one.model == line["model"]]
        if own:
            assert line["dice_with"] == pytest.approx(np.mean(own))


def test_a_threshold_of_the_user_changes_the_masks(finished_runs, tmp_path, plain):
    folder = shutil.copytree(finished_runs, tmp_path / "space")
    low = evaluate_run(folder, threshold=0.1)
    assert low.folder.name == "flames-threshold-0.1"
    predicted = [
        sum(case.tp + case.fp for case in read_case_scores(one.folder / "cases.csv")) for one in (low, plain)
    ]
    assert predicted[0] > predicted[1]
    # The probabilities are the same.
    assert (low.folder / "calibration.csv").read_bytes() == (plain.folder / "calibration.csv").read_bytes()
    assert "choices-clients" not in low.content.tables
    assert {line["option"] for line in low.content.tables["gains-clients"]} == {"threshold"}


def test_a_stricter_match_of_lesions_finds_fewer_and_changes_no_mask(finished_runs, tmp_path, plain):
    strict = evaluate_run(shutil.copytree(finished_runs, tmp_path / "space"), lesion_iou=0.9)
    assert strict.folder.name == "flames-lesion-iou-0.9"
    pairs = list(zip(*(read_case_scores(one.folder / "cases.csv") for one in (strict, plain)), strict=True))
    assert [ours.dice for ours, _ in pairs] == [theirs.dice for _, theirs in pairs]
    found = [sum(one.lesions_matched or 0 for one in column) for column in zip(*pairs, strict=True)]
    assert found[0] < found[1]
    points = [read_rows(one.folder / "froc.csv", FrocScore) for one in (strict, plain)]
    assert sum(one.lesions_matched for one in points[0]) < sum(one.lesions_matched for one in points[1])


@pytest.mark.parametrize(
    ("options", "named"),
    [({"threshold": "auto"}, "--threshold auto"), ({"postprocess": "auto"}, "--postprocess auto")],
)
def test_patients_at_real_nodes_choose_nothing(finished_runs, tmp_path, monkeypatch, options, named):
    folder = shutil.copytree(finished_runs, tmp_path / "space")

    def load_far(*arguments):
        loaded = load(*arguments)
        return replace(loaded, runs=[replace(run, at_sites=True) for run in loaded.runs])

    load = stage.load_all
    monkeypatch.setattr(stage, "load_all", load_far)
    with pytest.raises(
        FlamesError, match=f"{named} chooses on validation patients, and those of run 'flames'"
    ):
        evaluate_run(folder, **options)
    assert evaluate_run(folder, threshold=0.3).folder.name == "flames-threshold-0.3"


def test_few_validation_patients_keep_the_default(finished_runs, tmp_path, plain):
    folder = shutil.copytree(finished_runs, tmp_path / "space")
    result = evaluate_run(folder, threshold="auto", client_test=True)
    assert result.folder.name == "flames-client-test-threshold-auto"
    lines = result.content.tables["choices-clients"]
    assert {(line["chosen"], line["enough"]) for line in lines} == {(0.5, False)}
    assert {line["gain"] for line in result.content.tables["gains-clients"]} == {0.0}
