"""Evaluation of a family: the runs of several seeds, on the same test sets."""

import csv
import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest

from flames_cli.cli.render_evaluation import evaluation_notes
from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.errors import FlamesError
from flames_cli.fed.events import ignore
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.stage import federate
from tests.support.stages import evaluate_run, federate_config

pytestmark = pytest.mark.federated


@pytest.fixture(scope="module")
def trained(tiny):
    """Return a workspace with the families flames and fedavg of the seeds 0 and 1, and one run of seed 2."""
    root = tiny()
    for strategy in ("flames", "fedavg"):
        config = federate_config(root, rounds=1, strategy=strategy, seeds=(0, 1))
        list(federate_all(config, lambda _: nullcontext(ignore)))
    federate(federate_config(root, rounds=1, run="alone", seed=2))
    return root


def read_cases(result, run, seed, split="client_test"):
    with (result.folder / "cases.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["client"], row["case"]): float(row["value"])
            for row in csv.DictReader(file)
            if (row["run"], row["seed"], row["split"], row["metric"]) == (run, str(seed), split, "dice")
        }


def test_a_family_is_scored_as_its_runs_are_alone(trained):
    pooled = evaluate_run(trained, "flames")
    assert (pooled.seeds, pooled.folder) == ((0, 1), trained / "runs" / "flames" / "evaluation")
    for seed in (0, 1):
        alone = evaluate_run(trained, f"flames-seed-{seed}")
        assert read_cases(pooled, "flames", seed) == read_cases(alone, f"flames-seed-{seed}", seed)
    for row in pooled.clients:
        if row.organ == "all organs":
            continue
        values = [
            [dice for (client, _), dice in read_cases(pooled, "flames", seed).items() if client == row.label]
            for seed in (0, 1)
        ]
        assert row.by_seed == pytest.approx(np.mean(values, axis=1).tolist())
        assert row.metrics["dice"].mean == pytest.approx(np.mean(values))
        assert row.metrics["dice"].sd == pytest.approx(np.mean(values, axis=1).std(ddof=1))
        assert row.intervals["dice"].mean == pytest.approx(np.mean(values))


def test_the_output_says_whose_pictures_they_are_and_there_are_no_curves(trained):
    drawn = evaluate_run(trained, "flames", overlays=True)
    assert drawn.pictures_of == "flames-seed-0"
    assert "pictures: those of flames-seed-0, the first seed" in evaluation_notes(drawn)
    chosen = [note for note in evaluation_notes(drawn) if ": round 1, " in note]
    assert [note.partition(":")[0] for note in chosen] == ["flames-seed-0, flames-seed-1"]
    assert not (drawn.folder / "rounds.png").exists()


def test_families_of_the_same_seeds_are_paired_by_seed(trained):
    result = evaluate_run(trained, "flames", compare="fedavg", client_test=True)
    summary = json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["seeds"] == summary["compared_seeds"] == [0, 1]
    assert summary["paired_by"] == "seed and case"
    assert set(summary["models"]) == {f"{run}-seed-{seed}" for run in ("flames", "fedavg") for seed in (0, 1)}
    for row in result.clients:
        assert row.gain_interval.mean == pytest.approx(np.mean(row.gain_by_seed))
    with (result.folder / "clients.csv").open(encoding="utf-8", newline="") as file:
        for row, line in zip(result.clients, csv.DictReader(file), strict=True):
            assert (int(line["seeds"]), int(line["patients"])) == (2, row.intervals["dice"].n_patients)
            limits = (line["dice_low"], line["dice_high"], line["dice_gain_low"])
            expected = (row.intervals["dice"].low, row.intervals["dice"].high, row.gain_interval.low)
            assert [float(limit) for limit in limits] == pytest.approx(list(expected), nan_ok=True)


def test_a_family_and_a_run_of_another_seed_are_paired_by_case(trained):
    result = evaluate_run(trained, "flames", compare="alone", client_test=True)
    summary = json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["compared_seeds"], summary["paired_by"]) == ([2], "case")
    row = result.clients[0]
    ours = [list(read_cases(result, "flames", seed).values())[: row.n] for seed in (0, 1)]
    theirs = [list(read_cases(result, "alone", 2).values())[: row.n]]
    assert row.dice_gain.mean == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert row.gain_by_seed == []
    expected = bootstrap_interval(ours, [str(number) for number in range(row.n)], 0, minus=theirs)
    assert row.gain_interval.mean == pytest.approx(expected.mean)


def test_runs_that_are_not_finished_are_left_out_and_named(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "space")
    shutil.rmtree(root / "runs" / "flames-seed-1")
    result = evaluate_run(root, "flames", client_test=True)
    assert result.seeds == (0,)
    assert result.untested["flames-seed-1"] == "not started"
    alone = evaluate_run(root, "flames-seed-0", client_test=True)
    assert [row.metrics for row in result.clients] == [row.metrics for row in alone.clients]
    federate(federate_config(root, rounds=2, seeds=(0, 1)).members[1])
    result = evaluate_run(root, "flames", client_test=True)
    assert (result.seeds, result.untested["flames-seed-0"]) == ((1,), "1 of 2 rounds")


def test_runs_that_differ_in_more_than_their_seed_are_not_pooled(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "space")
    config = root / "runs" / "flames-seed-1" / "config.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("\nlr = 0.01\n", "\nlr = 0.02\n"), encoding="utf-8")
    with pytest.raises(FlamesError, match=r"other options than 'flames-seed-0' \(lr 0.01 → 0.02"):
        evaluate_run(root, "flames")
