import json
import os
import shutil

import numpy as np
import pytest
import torch

from flames_cli.cli.render_evaluation import evaluation_notes
from flames_cli.config import EvaluateConfig, PartitionConfig
from flames_cli.core.scores.metrics import case_metrics, count_pixels
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.learn.data import ShardDataset, iterate_batches
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.cases import SetInfo
from flames_cli.store.checkpoint import load_state
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import read_partition
from flames_cli.store.workspace import partition_file, partition_folder
from tests.support.asserts import read_csv
from tests.support.datasets import write_noise
from tests.support.stages import evaluate_run, federate_config

VALUES = ("iou", "dice", "pixel_accuracy", "majority_accuracy", "hausdorff_px", "tp", "fp", "fn", "tn")


def cases_of(result, **wanted):
    """Return {(model, case, metric): value} of the rows of cases.csv whose columns contain these values."""
    rows = read_csv(result.folder / "cases.csv")
    chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return {
        (row["model"], row["case"], name): float(row[name]) for row in chosen for name in VALUES if row[name]
    }


def predictions(weights, data):
    """Return the masks of the model, by torch alone."""
    model = build_model("unet", seed=0, base_channels=4, depth=2).eval()
    load_weights(model, weights)
    with torch.no_grad():
        for images, _ in iterate_batches(data, range(len(data)), 8):
            yield from (model(images)[:, 0] > 0.5).to(torch.uint8).numpy()


def expected_of(label, weights, shard):
    """Return {(label, case, metric): value}, computed again."""
    data = ShardDataset(read_shard_sets(shard, "test", complete=True))
    found = {}
    for index, predicted in enumerate(predictions(weights, data)):
        truth, case = data.example(index)[1], data.case(index).case
        values, counts = case_metrics(predicted, truth), count_pixels(predicted, truth)
        pixels = (counts.true_positive, counts.false_positive, counts.false_negative, counts.true_negative)
        values |= dict(zip(("tp", "fp", "fn", "tn"), pixels, strict=True))
        if not data.case(index).selected:
            del values["hausdorff_px"]
        found |= {(label, case, name): values[name] for name in VALUES if name in values}
    return found


def test_metrics_are_those_of_each_clients_own_model_and_of_the_server_models(trained):
    result = evaluate_run(trained)
    state = load_state(trained / "runs" / "flames" / "checkpoints")
    made = read_partition(partition_file(trained))
    own, unseen = {}, {}
    for entry in made.clients:
        own |= expected_of(
            entry.name,
            state.final_model_for(entry.name, entry.modality),
            partition_folder(trained) / entry.shard,
        )
    for server in made.server:
        unseen |= expected_of(
            server.modality,
            state.final_server_model(server.modality, server.modality),
            partition_folder(trained) / server.shard,
        )
    assert cases_of(result, split="client_test") == own
    assert cases_of(result, split="server_test") == unseen
    assert len({value for (_, _, metric), value in own.items() if metric == "dice"}) > 3


def test_every_test_image_counts_once(trained):
    result = evaluate_run(trained)
    made = read_partition(partition_file(trained))
    assert {row.label: row.n for row in result.clients} == {
        entry.name: entry.images["test"] for entry in made.clients
    }
    organs = {(row.label, row.organ): row.n for row in result.server}
    for server in made.server:
        for dataset, images in server.images.items():
            assert organs[server.modality, server.organs[dataset]] == images
    assert organs["US", "all organs"] == sum(made.server[-1].images.values())
    assert all(row.metrics["dice"].n == row.n for row in (*result.clients, *result.server))


def test_a_modality_of_several_organs_is_pooled_over_its_cases(trained):
    result = evaluate_run(trained)
    dice = [
        value
        for (_, _, metric), value in cases_of(result, split="server_test", modality="US").items()
        if metric == "dice"
    ]
    pooled = next(row for row in result.server if row.organ == "all organs")
    assert pooled.label == pooled.modality == "US"
    assert pooled.metrics["dice"].mean == pytest.approx(np.mean(dice), rel=1e-12)
    assert [row.organ for row in result.server] == ["brain", "all organs", "breast", "ovary"]


def test_each_test_set_is_decoded_once_for_all_models(trained, monkeypatch):
    read = []

    def count_reads(path, set_name, complete):
        read.append((path.name, set_name))
        return read_shard_sets(path, set_name, complete)

    monkeypatch.setattr("flames_cli.stages.evaluate.models_under_test.read_shard_sets", count_reads)
    evaluate_run(trained, "local")
    assert sorted(read) == sorted(set(read))


def test_all_models_are_pooled_at_the_end_of_the_table_by_size(trained):
    result = evaluate_run(trained)
    for split, label in (("client_test", "all clients"), ("server_test", "all models")):
        *rows, pooled = result.tables.splits[split].lesions
        assert (pooled.label, pooled.modality, pooled.organ) == (label, "", "all organs")
        whole = {row.label: row for row in reversed(rows)}.values()  # the first line of each model
        assert pooled.sizes["all"].dice.n == sum(row.sizes["all"].dice.n for row in whole)
        assert pooled.sizes["all"].found.lesions == sum(row.sizes["all"].found.lesions for row in whole)
    assert [row.organ for row in result.tables.splits["server_test"].lesions] == [
        *(row.organ for row in result.server),
        "all organs",
    ]


def test_a_run_with_options_of_another_release_is_rejected_in_one_line(trained):
    config = trained / "runs" / "flames" / "config.toml"
    config.write_text(config.read_text().replace("[federate]", '[federate]\ncolour = "red"'))
    with pytest.raises(FlamesError, match=r"config\.toml: colour: extra inputs are not permitted"):
        evaluate_run(trained)


def test_every_client_model_of_a_local_run_meets_the_unseen_patients(trained):
    result = evaluate_run(trained, "local")
    state = load_state(trained / "runs" / "local" / "checkpoints")
    made = read_partition(partition_file(trained))
    for client in made.clients:
        server = next(entry for entry in made.server if entry.modality == client.modality)
        label = f"{client.modality} by {client.name}"
        expected = expected_of(
            label,
            state.final_server_model(client.name, client.modality),
            partition_folder(trained) / server.shard,
        )
        assert cases_of(result, model=label) == expected


def test_without_a_name_the_newest_run_is_taken(trained):
    config = EvaluateConfig(workspace=trained, device="cpu", overlays=False)
    assert evaluate(config).run == "local"
    os.utime(trained / "runs" / "fedavg" / "rounds.jsonl", (2**31 - 1, 2**31 - 1))
    assert evaluate(config).run == "fedavg"


def test_a_run_is_evaluated_on_its_own_partition_when_that_has_another_name(trained):
    before = cases_of(evaluate_run(trained, "flames"))
    partition(PartitionConfig(workspace=trained, seed=1, overwrite=True))
    again = evaluate_run(trained, "flames", name="again")
    assert cases_of(again) == before
    assert again.content.runs[0].partition == "default-old-1"


def test_a_run_whose_partition_is_gone_is_rejected(trained):
    partition(PartitionConfig(workspace=trained, seed=1, overwrite=True))
    shutil.rmtree(partition_folder(trained, "default-old-1"))
    with pytest.raises(
        FlamesError,
        match=r"was made on partition 'default' as it was before, which is not among the .* \(default\), and",
    ):
        evaluate_run(trained)
    assert not (trained / "evaluations").exists()


def test_a_run_that_is_not_there_is_named(trained):
    with pytest.raises(MissingArtifact, match="no run 'none' in"):
        evaluate_run(trained, "none")


def test_a_run_without_a_checkpoint_names_the_command(trained):
    for path in sorted((trained / "runs" / "flames" / "checkpoints").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(MissingArtifact, match="make it with `flames federate`"):
        evaluate_run(trained)


def test_a_missing_shard_names_the_command(trained):
    (partition_folder(trained) / "shards" / "server-US.h5").unlink()
    with pytest.raises(
        MissingArtifact, match=r"server-US\.h5 does not exist; make it with `flames partition"
    ):
        evaluate_run(trained)


def test_progress_counts_every_model(trained):
    told = []
    config = EvaluateConfig(workspace=trained, run="flames", device="cpu", overlays=False)
    evaluate(config, lambda *step: told.append(step))
    assert told == [
        *(("evaluate client_test", done, 5) for done in range(1, 6)),
        *(("evaluate server_test", done, 2) for done in range(1, 3)),
    ]


CENTRES = {
    "client_train": [
        (f"{site}-{n}", f"{site}-{n}", 2, site) for site in ("C1", "C2", "C6") for n in range(3)
    ],
    "client_test": [("t", "t", 3, "C1"), ("u", "u", 2, "C6")],
    "server_test": [("v", "v", 2, "C2"), ("w", "w", 1, "C6"), ("x", "x", 1, "C5")],
}
KIDNEYS = {"client_train": [("k", "k", 3), ("l", "l", 3)], "server_test": [("m", "m", 2)]}
LIVER = SetInfo("lits", "CT", "liver", 32, 255)


@pytest.fixture
def centres(tmp_path):
    """Return centres("C6"): livers of several centres, with these held out, and kidneys; with a run per
    strategy."""

    def make(*sites, strategies=("fedavg",), modality="CT"):
        kidney = SetInfo("kits", modality, "kidney", 32, 255)
        write_noise(tmp_path / "preprocessed" / "lits.h5", CENTRES, LIVER)
        write_noise(tmp_path / "preprocessed" / "kits.h5", KIDNEYS, kidney)
        split = {"kits": 1, "lits": "site"}
        partition(PartitionConfig(workspace=tmp_path, split=split, hold_out_site={"lits": sites}))
        for strategy in strategies:
            federate(federate_config(tmp_path, strategy=strategy, rounds=1))
        return tmp_path

    return make


def test_unseen_sites_have_rows_of_their_own_after_the_others(centres):
    result = evaluate_run(centres("C6", "C5"), "fedavg", overlays=True)
    assert [(row.label, row.organ, row.unseen, row.n) for row in result.server] == [
        ("CT", "all organs", "", 4),
        ("CT", "kidney", "", 2),
        ("CT", "liver", "", 2),
        ("CT", "liver, C5 (unseen)", "C5", 1),
        ("CT", "liver, C6 (unseen)", "C6", 9),
    ]
    rows = read_csv(result.folder / "cases.csv")
    assert {row["site"] for row in rows if row["split"] == "client_test"} == {"C1"}
    assert {row["site"] for row in rows if row["split"] == "server_test"} == {"", "C2", "C5", "C6"}
    lines = json.loads((result.folder / "evaluation.json").read_text())["tables"]["server"]
    assert [line["unseen_site"] for line in lines] == ["", "", "", "C5", "C6"]
    lines = read_csv(result.folder / "server.csv")
    assert [line["organ"] for line in lines] == [row.organ for row in result.server]
    unseen = [
        (row.label, row.organ, row.unseen)
        for row in result.tables.splits["server_test"].lesions
        if row.unseen
    ]
    assert unseen[-1] == ("all models", "liver, C5, C6 (unseen)", "C5, C6")
    assert unseen[:-1] == [("CT", f"liver, {site} (unseen)", site) for site in ("C5", "C6")]


def test_a_client_without_test_patients_is_named_and_passed_over(centres):
    result = evaluate_run(centres("C6"), "fedavg")
    assert [row.label for row in result.clients] == ["lits-c1"]
    assert result.content.untested == {"kits": "no test patients", "lits-c2": "no test patients"}
    assert json.loads((result.folder / "evaluation.json").read_text())["untested"] == result.content.untested


def test_a_modality_without_clients_is_scored_by_a_model_of_all_else_listed_as_untested(centres):
    space = centres("C1", "C2", "C5", "C6", strategies=("fedavg", "flames"), modality="MRI")
    assert [row.organ for row in evaluate_run(space, "fedavg").server] == [
        "kidney",
        *(f"liver, {site} (unseen)" for site in ("C1", "C2", "C5", "C6")),
    ]
    alone = evaluate_run(space, "flames")
    assert [row.organ for row in alone.server] == ["kidney"]
    assert alone.content.untested["CT"].startswith("no client of this modality trained a model; --on tests")
    found = evaluate_run(space, "flames", on=("ct",), model="mri")
    assert [(row.label, row.modality, row.organ, row.unseen) for row in found.server] == [
        ("MRI", "CT", "liver", "unseen modality")
    ]
    assert found.server[0].n == 27
    assert found.folder.name == "flames-MRI-on-CT"
    assert (found.clients, found.content.untested) == ((), {})
    assert found.content.options["on"] == ["CT"]
    rows = read_csv(found.folder / "cases.csv")
    assert {row["unseen_site"] for row in rows} == {"unseen modality"}
    assert {row["site"] for row in rows} == {"C1", "C2", "C5", "C6"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on": ("US",)}, "--on names 'US', expected a modality of the server's test sets: CT; correct it"),
        ({"on": ("CT",), "model": "US"}, "--model names 'US', expected a server model of run 'fedavg': CT"),
        ({"model": "CT"}, "--model CT chooses the model for --on, which is missing"),
        (
            {"on": ("CT",), "client_test": True},
            "--on tests server models, and --client-test those of clients",
        ),
    ],
)
def test_a_model_or_modality_that_does_not_exist_is_rejected_with_those_that_do(options, message, centres):
    with pytest.raises(FlamesError, match=message):
        evaluate_run(centres("C6"), "fedavg", **options)


def test_a_run_of_real_nodes_is_tested_at_the_server_alone(trained):
    config = trained / "runs" / "flames" / "config.toml"
    config.write_text(config.read_text().replace('engine = "inline"', 'engine = "superlink"'))
    result = evaluate_run(trained, "flames")
    assert result.clients == ()
    assert result.server
    with pytest.raises(FlamesError, match=r"test at their own sites, and their reports are in .*tests\.json"):
        evaluate_run(trained, "flames", client_test=True)


def test_a_modality_without_clients_is_left_out(trained):
    index = trained / "runs" / "flames" / "checkpoints" / "round-00002" / "state.json"
    content = json.loads(index.read_text())
    del content["server"]["US"], content["index_sha256"]
    index.write_text(json.dumps(content))
    result = evaluate_run(trained, "flames", server_test=True)
    assert {row.modality for row in result.server} == {"MRI"}


def test_volumes_of_which_slices_are_missing_have_images_only_and_a_note(trained, monkeypatch):
    monkeypatch.setattr(
        "flames_cli.stages.evaluate.models_under_test.read_shard_sets",
        lambda path, name, complete: read_shard_sets(path, name),  # as if an earlier release had stored it
    )
    result = evaluate_run(trained)
    assert result.content.incomplete == ("brats",)
    assert read_csv(result.folder / "volumes.csv") == []
    assert not [name for name in result.content.tables if name.startswith("volumes")]
    assert "MRI" in {row.label for row in result.server}
    (note,) = (note for note in evaluation_notes(result) if note.startswith("volumes of brats"))
    assert "`flames preprocess --overwrite`" in note
