"""Every figure of every table is computed again from cases.csv and volumes.csv, by numpy alone."""

import shutil

import numpy as np
import pytest

from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.stages.evaluate.tables import NAME_OF
from tests.support.asserts import read_csv
from tests.support.stages import evaluate_run

NAMES = {"model", "modality", "organ", "dataset", "site", "unseen_site", "lesion"}
NAN = float("nan")


@pytest.fixture(scope="module", params=["flames", "local"])
def folder(request, finished_runs, tmp_path_factory):
    """Return the folder of an evaluation: for reading only."""
    space = shutil.copytree(finished_runs, tmp_path_factory.mktemp(request.param) / "space")
    return evaluate_run(space, request.param).folder


def number(cell):
    return float(cell) if cell else NAN


def column(rows, name):
    return np.array([number(row[name]) for row in rows])


def belongs(row, line, split):
    """Return whether a line of cases.csv or volumes.csv counts in a line of a table."""
    organ = line["organ"].partition(",")[0]
    return (
        row["split"] == split
        and line["model"] in (row["model"], "all clients", "all models")
        and organ in (row["organ"], "all organs")
        and line["dataset"] in (row["dataset"], "")
        and row["unseen_site"] == line["unseen_site"]
    )


def has_size(row, size):
    return {"all": True, "lesion": row["lesion"] != "none"}.get(size, row["lesion"] == size)


def people(rows):
    return [f"{row['collection'] or row['dataset']}/{row['patient']}" for row in rows]


def mean_sd(values):
    finite = values[np.isfinite(values)]
    if not finite.size:
        return NAN, NAN, 0
    return finite.mean(), finite.std(ddof=1) if finite.size > 1 else 0.0, finite.size


def summaries(rows, ratios, distances):
    expected = {}
    ill = [row for row in rows if int(row["tp"]) + int(row["fn"])]
    for name in (*ratios, *distances):
        source = name.removeprefix("abs_")
        values = column(ill if name in distances else rows, source)
        values = np.abs(values) if source != name else values
        expected |= dict(zip((f"{name}_{end}" for end in ("mean", "sd", "n")), mean_sd(values), strict=True))
    for name in distances:
        values = column(ill, name)
        if name == "hausdorff_px":
            largest = np.sqrt(2 * sum(column(ill, outcome) for outcome in ("tp", "fp", "fn", "tn")))
        else:
            largest = column(ill, f"diagonal_{name[-2:]}")
        known = ~np.isnan(values)
        filled = np.where(np.isinf(values), largest, values)[known]
        expected |= {
            f"{name}_penalised": filled.mean() if known.any() else NAN,
            f"{name}_penalised_n": known.sum(),
        }
    return expected


def limits(rows, names):
    found = {name: bootstrap_interval(column(rows, name), people(rows), seed=0) for name in names}
    return {f"{name}_{end}": getattr(one, end) for name, one in found.items() for end in ("low", "high")}


def lesions(rows, unit):
    n, predicted, matched = (
        int(column(rows, name).sum()) for name in ("lesions", "lesions_predicted", "lesions_matched")
    )
    return {
        "lesions": n,
        "lesions_predicted": predicted,
        "lesions_matched": matched,
        "recall": matched / n if n else NAN,
        "precision": matched / predicted if predicted else NAN,
        "f1": 2 * matched / (n + predicted) if n + predicted else NAN,
        f"false_lesions_per_{unit}": (predicted - matched) / len(rows) if rows else NAN,
    }


def assert_same(line, expected):
    assert set(line) - NAMES == set(expected)
    found = {name: number(line[name]) for name in expected}
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, nan_ok=True)


def counts(rows):
    return {"n": len(rows), "patients": len(set(people(rows)))}


@pytest.mark.parametrize("split", NAME_OF)
def test_tables_of_images_follow_from_the_selected_cases(folder, split):
    cases = [row for row in read_csv(folder / "cases.csv") if row["selected"] == "1"]
    lines = read_csv(folder / f"{NAME_OF[split]}.csv")
    assert len({line["model"] for line in lines}) > 1
    for line in lines:
        rows = [row for row in cases if belongs(row, line, split)]
        dice = column(rows, "dice").mean()
        expected = counts(rows) | {"seeds": 1, "dice_by_seed": dice}
        expected |= summaries(
            rows,
            ("iou", "dice", "pixel_accuracy", "majority_accuracy"),
            ("hausdorff_px", "hd95_px", "hd95_mm", "assd_px", "assd_mm"),
        )
        assert_same(line, expected | limits(rows, ("iou", "dice", "pixel_accuracy")))


@pytest.mark.parametrize("split", NAME_OF)
def test_tables_of_volumes_follow_from_the_volumes(folder, split):
    volumes = read_csv(folder / "volumes.csv")
    lines = read_csv(folder / f"volumes-{NAME_OF[split]}.csv")
    assert lines
    for line in lines:
        rows = [row for row in volumes if belongs(row, line, split)]
        healthy = [row for row in rows if not int(row["tp"]) + int(row["fn"])]
        expected = counts(rows) | {"seeds": 1, "dice_by_seed": column(rows, "dice").mean()}
        expected |= summaries(
            rows,
            (
                *("dice", "sensitivity", "precision", "nsd_2mm", "volume_ml", "predicted_ml"),
                *("volume_error_ml", "abs_volume_error_ml"),
            ),
            ("hd95_mm", "assd_mm"),
        )
        expected |= limits(rows, ("dice",)) | lesions(rows, "volume") | {"healthy": len(healthy)}
        expected |= {
            "false_positive_rate": np.mean(column(healthy, "fp") > 0) if healthy else NAN,
            "false_ml": column(healthy, "predicted_ml").mean() if healthy else NAN,
        }
        assert_same(line, expected)


@pytest.mark.parametrize("split", NAME_OF)
def test_tables_of_lesions_follow_from_the_selected_cases(folder, split):
    cases = [row for row in read_csv(folder / "cases.csv") if row["selected"] == "1"]
    lines = read_csv(folder / f"lesions-{NAME_OF[split]}.csv")
    assert {line["lesion"] for line in lines} >= {"small", "large", "lesion", "all"}
    for line in lines:
        of_model = [row for row in cases if belongs(row, line, split)]
        rows = [row for row in of_model if has_size(row, line["lesion"])]
        mean, sd, _ = mean_sd(column(rows, "dice"))
        rate = area = NAN
        if line["lesion"] == "none":
            mean = sd = NAN
            rate = np.mean(column(rows, "fp") > 0)
            area = 1 - column(rows, "pixel_accuracy").mean()
        expected = counts(rows) | {"dice_mean": mean, "dice_sd": sd} | lesions(rows, "image")
        assert_same(line, expected | {"false_positive_rate": rate, "false_area": area})


def test_counts_give_the_overlaps_of_every_line(folder):
    for name in ("cases.csv", "volumes.csv"):
        rows = read_csv(folder / name)
        tp, fp, fn, tn = (column(rows, outcome) for outcome in ("tp", "fp", "fn", "tn"))
        assert column(rows, "dice") == pytest.approx((2 * tp + 1e-6) / (2 * tp + fp + fn + 1e-6))
        if name == "cases.csv":
            assert column(rows, "iou") == pytest.approx((tp + 1e-6) / (tp + fp + fn + 1e-6))
            assert column(rows, "pixel_accuracy") == pytest.approx((tp + tn) / (tp + fp + fn + tn))
            assert column(rows, "majority_accuracy") == pytest.approx((tn + fp) / (tp + fp + fn + tn))
        else:
            predicted, truth = column(rows, "predicted_ml"), column(rows, "volume_ml")
            assert column(rows, "volume_error_ml") == pytest.approx(predicted - truth)


def test_a_volume_is_the_sum_of_its_slices(folder):
    cases = read_csv(folder / "cases.csv")
    for volume in read_csv(folder / "volumes.csv"):
        keys = ("run", "seed", "split", "model", "unseen_site", "dataset", "volume")
        slices = [row for row in cases if all(row[key] == volume[key] for key in keys)]
        assert len(slices) == int(volume["slices"])
        for outcome in ("tp", "fp", "fn", "tn"):
            assert column(slices, outcome).sum() == int(volume[outcome])
