"""Evaluation of a family: the runs of several seeds, on the same test sets."""

import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from flames_cli.cli.render_evaluation import evaluation_notes
from flames_cli.config import PartitionConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.events import ignore
from flames_cli.learn.data import ShardDataset, iterate_batches
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.stage import Planned, federate
from flames_cli.stages.partition.stage import make_partitions
from flames_cli.store.checkpoint import load_state
from flames_cli.store.evaluations import read_case_scores
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.workspace import partition_folder
from tests.support.asserts import read_csv
from tests.support.stages import SMALL_MODEL, evaluate_run, federate_config

pytestmark = pytest.mark.federated


@pytest.fixture(scope="module")
def trained(tiny):
    """Return a workspace with the family flames of the seeds 0 and 1."""
    root = tiny()
    config = federate_config(root, rounds=1, strategy="flames", seeds=(0, 1))
    list(federate_all(config, lambda _: nullcontext(ignore)))
    return root


def read_dice(result, run, split="client_test"):
    scores = read_case_scores(result.folder / "cases.csv")
    return {(one.model, one.case): one.dice for one in scores if (one.run, one.split) == (run, split)}


def test_a_family_is_scored_as_its_runs_are_alone(trained):
    pooled = evaluate_run(trained, "flames")
    assert (pooled.seeds, pooled.folder) == ((0, 1), trained / "evaluations" / "flames")
    assert pooled.content.is_family
    names = [f"flames-seed-{seed}" for seed in (0, 1)]
    assert [run.name for run in pooled.content.runs] == names
    for name in names:
        assert read_dice(pooled, name) == read_dice(evaluate_run(trained, name), name)
    for row in pooled.clients:
        if row.organ == "all organs":
            continue
        values = [
            [dice for (client, _), dice in read_dice(pooled, name).items() if client == row.label]
            for name in names
        ]
        assert row.by_seed == pytest.approx(np.mean(values, axis=1).tolist())
        assert row.metrics["dice"].mean == pytest.approx(np.mean(values))
        assert row.metrics["dice"].sd == pytest.approx(np.mean(values, axis=1).std(ddof=1))
        assert row.intervals["dice"].mean == pytest.approx(np.mean(values))


def test_the_output_says_whose_pictures_they_are(trained):
    drawn = evaluate_run(trained, "flames", overlays=True)
    assert "pictures: those of flames-seed-0, the first run" in evaluation_notes(drawn)
    chosen = [note for note in evaluation_notes(drawn) if ": round 1, " in note]
    assert [note.partition(":")[0] for note in chosen] == ["flames-seed-0, flames-seed-1"]


def test_runs_that_are_not_finished_are_left_out_and_named(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "space")
    shutil.rmtree(root / "runs" / "flames-seed-1")
    result = evaluate_run(root, "flames", client_test=True)
    assert result.seeds == (0,)
    assert result.content.untested["flames-seed-1"] == "not started"
    assert result.content.is_family
    alone = evaluate_run(root, "flames-seed-0", client_test=True)
    assert [row.metrics for row in result.clients] == [row.metrics for row in alone.clients]
    member = federate_config(root, rounds=2, run="flames-seed-1", seed=1)
    federate(member, planned=Planned(seeds=(0, 1)))
    result = evaluate_run(root, "flames", client_test=True)
    assert (result.seeds, result.content.untested["flames-seed-0"]) == ((1,), "1 of 2 rounds")


def test_runs_that_differ_in_more_than_their_seed_are_not_pooled(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "space")
    config = root / "runs" / "flames-seed-1" / "config.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("\nlr = 0.01\n", "\nlr = 0.02\n"), encoding="utf-8")
    with pytest.raises(FlamesError, match=r"other options than 'flames-seed-0' \(lr 0.01 → 0.02"):
        evaluate_run(root, "flames")


@pytest.fixture(scope="module")
def folded(tiny):
    """Return a workspace with the family flames of three folds, and their partitions."""
    root = tiny()
    made = make_partitions(PartitionConfig(workspace=root, split={"brats": 2}, folds=3))
    config = federate_config(root, rounds=1, folds="")
    list(federate_all(config, lambda _: nullcontext(ignore)))
    return root, made


def test_folds_test_every_patient_of_the_clients_once_and_the_servers_patients_in_each(folded):
    root, made = folded
    result = evaluate_run(root, "flames")
    assert [(run.name, run.fold, run.partition) for run in result.content.runs] == [
        (f"flames-fold-{k}", k, f"fold-{k}") for k in (1, 2, 3)
    ]
    rows = read_csv(result.folder / "cases.csv")
    for client in made[0].partition.clients:
        own = [row for row in rows if (row["model"], row["split"]) == (client.name, "client_test")]
        tested = [row["patient"] for row in own]
        assert len(tested) == len(set(tested)) == sum(client.images.values())
        assert next(row for row in result.clients if row.label == client.name).n == len(tested)
    for k, one in enumerate(made, start=1):
        own = [row for row in rows if row["fold"] == str(k) and row["split"] == "client_test"]
        assert {row["run"] for row in own} == {f"flames-fold-{k}"}
        assert len(own) == sum(client.images["test"] for client in one.partition.clients)
    server = [(row["case"], row["fold"]) for row in rows if row["split"] == "server_test"]
    assert sorted(server) == sorted((case, str(k)) for case in {one for one, _ in server} for k in (1, 2, 3))


def test_runs_on_folds_of_different_cross_validations_are_not_pooled(tiny):
    root = tiny()
    make_partitions(PartitionConfig(workspace=root, split={"brats": 2}, folds=2))
    list(federate_all(federate_config(root, rounds=1, folds=""), lambda _: nullcontext(ignore)))
    make_partitions(PartitionConfig(workspace=root, split={"brats": 2}, folds=2, seed=1, name="cv"))
    member = federate_config(root, rounds=1, run="flames-fold-2", partition="cv-fold-2", fresh=True)
    federate(member, planned=Planned(folds=(1, 2)))
    where = "'fold-1' and run 'flames-fold-2' on 'cv-fold-2', expected runs of one set"
    with pytest.raises(FlamesError, match=where):
        evaluate_run(root, "flames")


def probabilities_of(root, run, data):
    """Return the probabilities of the server's MRI model of a run, by torch alone."""
    model = build_model("unet", seed=0, **SMALL_MODEL).eval()
    load_weights(model, load_state(root / "runs" / run / "checkpoints").final_server_model("MRI", "MRI"))
    with torch.no_grad():
        maps = [model(images)[:, 0].numpy() for images, _ in iterate_batches(data, range(len(data)), 8)]
    return np.concatenate(maps)


def test_an_ensemble_is_the_mean_probability_of_all_runs(trained):
    result = evaluate_run(trained, "flames", ensemble=True, overlays=True)
    assert result.folder == trained / "evaluations" / "flames-ensemble"
    assert set(result.tables.splits) == {"server_test"}
    scores = [one for one in read_case_scores(result.folder / "cases.csv") if one.model == "MRI"]
    assert {(one.run, one.seed, one.fold) for one in scores} == {("flames", 0, None)}
    shard = partition_folder(trained) / "shards" / "server-MRI.h5"
    data = ShardDataset(read_shard_sets(shard, "test", complete=True))
    maps = [probabilities_of(trained, f"flames-seed-{seed}", data) for seed in (0, 1)]
    masks = np.mean(maps, axis=0) > 0.5
    assert [one.case for one in scores] == [data.case(index).case for index in range(len(data))]
    assert [one.tp + one.fp for one in scores] == [np.count_nonzero(mask) for mask in masks]
    assert all(len(row.by_seed) == 1 for row in result.server)
    assert "ensemble: the mean probability of 2 runs" in evaluation_notes(result)
    assert (result.folder / "overlays-server.png").is_file()


@pytest.mark.parametrize(
    ("run", "options", "message"),
    [
        ("flames-seed-0", {}, "one finished run of 'flames-seed-0', expected several"),
        ("flames", {"client_test": True}, "expected the server's test patients alone"),
        ("flames", {"cross_site": True}, "leave --cross-site out"),
        ("flames", {"on": ("US",)}, "got --ensemble with --on, expected models on the modality"),
        ("flames", {"threshold": "auto"}, "--ensemble with --threshold auto, which chooses on validation"),
        ("flames", {"postprocess": "auto"}, "leave --postprocess auto out"),
    ],
)
def test_what_does_not_fit_an_ensemble_is_rejected(run, options, message, trained):
    with pytest.raises(FlamesError, match=message):
        evaluate_run(trained, run, ensemble=True, **options)


def test_folds_are_pooled_over_a_clients_patients_and_are_rows_of_the_servers(folded):
    root, _ = folded
    result = evaluate_run(root, "flames")
    scores = [one for one in read_case_scores(result.folder / "cases.csv") if one.selected]
    for row in result.clients:
        own = [one for one in scores if (one.split, one.model) == ("client_test", row.label)]
        assert {one.fold for one in own} == {1, 2, 3}
        assert len({one.case for one in own}) == len(own) == row.n
        assert row.metrics["dice"].mean == pytest.approx(np.mean([one.dice for one in own]))
        assert len(row.by_seed) == 1
    server = {row.label: row for row in result.server if row.organ in ("brain", "all organs")}
    for label, row in server.items():
        own = [one for one in scores if (one.split, one.model) == ("server_test", label)]
        by_fold = [np.mean([one.dice for one in own if one.fold == fold]) for fold in (1, 2, 3)]
        assert row.n == len({one.case for one in own}) == len(own) / 3
        assert row.by_seed == pytest.approx(by_fold)
    ensemble = evaluate_run(root, "flames", ensemble=True)
    assert {row.label: row.n for row in ensemble.server} == {row.label: row.n for row in result.server}
