"""Runs with secure aggregation, from shards to their results: they equal plain runs within rounding."""

import csv
import json
import shutil

import numpy as np
import pytest

from flames_cli.core.federated.summed_preferences import from_arrays
from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import PREFERENCE
from flames_cli.stages.export.making import list_models, make_client_model
from flames_cli.stages.export.source_runs import read_source_run
from flames_cli.stages.federate import run_files
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.rounds import choose_round, load_round, read_run_rounds
from flames_cli.store.checkpoint import load_state
from flames_cli.store.client_state import load_client_state_of
from flames_cli.store.runs import RunFolder, read_rounds
from tests.support.once import make_once
from tests.support.secure_runs import make_six
from tests.support.stages import evaluate_run, federate_config

CLIENTS = {f"{name}-{n}": group for name, group in (("brats", "MRI"), ("busi", "US")) for n in (1, 2, 3)}
SMALLEST = {"model_options": {"base_channels": 2, "depth": 1}, "optimiser": "sgd", "lr": 0.05}
"""SGD, since Adam makes equal steps of the smallest differences: BatchNorm removes a bias before it."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory, one_thread):
    """pair(strategy): a workspace with the plain and the secure run of a strategy."""

    def get(strategy):
        def make(root):
            make_six(root)
            for secure in (False, True):
                options = {**SMALLEST, "strategy": strategy, "secure_aggregation": secure}
                federate(federate_config(root, run="secure" if secure else "plain", **options))

        return make_once(tmp_path_factory, f"secure-{strategy}", make)

    return get


def loaded(root, name):
    """Return a run and its last state, with the models that its clients store."""
    run, config = RunFolder(root / "runs" / name), federate_config(root)
    return run, load_round(run, choose_round(read_run_rounds(run, config), "last"))


def assert_close(found, expected, atol=1e-5):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=0, atol=atol, err_msg=name)


@pytest.mark.federated
@pytest.mark.parametrize("strategy", ["flames", "flames-adaptive", "fedavg"])
def test_every_client_uses_the_model_of_the_plain_run(pair, strategy):
    root = pair(strategy)
    (_, plain), (run, secure) = (loaded(root, name) for name in ("plain", "secure"))
    for client, modality in CLIENTS.items():
        group = "all" if strategy == "fedavg" else modality
        own = secure.final_model_for(client, group, modality)
        assert_close(own, plain.final_model_for(client, group, modality))
    assert not any("personal" in file.name for file in run.checkpoints.rglob("*.safetensors"))


@pytest.mark.federated
def test_the_server_pools_the_statistics_of_sums(pair):
    (_, plain), (_, secure) = (loaded(pair("fedavg"), name) for name in ("plain", "secure"))
    for modality in ("MRI", "US"):
        assert_close(secure.final_server_model("all", modality), plain.final_server_model("all", modality))
    assert load_state(RunFolder(pair("fedavg") / "runs" / "secure").checkpoints).statistics.clients == {}


@pytest.mark.federated
@pytest.mark.parametrize("strategy", ["flames", "fedavg"])
def test_the_records_have_the_plain_run_s_numbers_of_each_model_and_none_of_a_client(pair, strategy):
    root = pair(strategy)
    plain, secure = (
        [json.loads(line) for line in (root / "runs" / name / "rounds.jsonl").read_text().splitlines()]
        for name in ("plain", "secure")
    )
    finals = [
        json.loads((root / "runs" / name / "final-models.json").read_text()) for name in ("plain", "secure")
    ]
    for before, line, key in (
        *((one, other, "received_val_dice") for one, other in zip(plain, secure, strict=True)),
        (*finals, "val_dice"),
    ):
        assert {*line["clients"][0]} <= {"client", "modality", "seconds"}
        for group, numbers in line["groups"].items():
            own = [one for one in before["clients"] if group in ("all", one["modality"])]
            n = sum(one["n_val"] for one in own)
            dice = sum(one[key] * one["n_val"] for one in own) / n
            assert (numbers["clients"], numbers["n_val"]) == (len(own), n)
            assert numbers[key] == pytest.approx(dice, abs=1e-4)


@pytest.mark.federated
def test_the_clients_models_are_evaluated_and_exported(pair):
    root = pair("flames")
    dice = {}
    for name in ("plain", "secure"):
        table = evaluate_run(root, name).folder / "clients.csv"
        rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
        dice[name] = {row["model"]: float(row["dice_mean"]) for row in rows}
    assert dice["secure"] == pytest.approx(dice["plain"], abs=1e-3)
    source = read_source_run(root, "secure", None)
    assert "client:brats-1" in list_models(source)
    info, weights = make_client_model(source, "brats-1")
    assert (info.training.kind, info.validation) == ("client", {})
    assert_close(weights, make_client_model(read_source_run(root, "plain", None), "brats-1")[1])


@pytest.mark.federated
def test_a_report_that_is_missing_on_this_machine_is_an_error_by_name(pair, tmp_path):
    root = shutil.copytree(pair("flames"), tmp_path / "workspace")
    run, state = loaded(root, "secure")
    (folder,) = run.clients.glob("*/busi-2")
    shutil.rmtree(folder / "round-00002")
    assert state.final_model_for("busi-1", "US", "US")
    with pytest.raises(FlamesError, match=r"the report of round 2 is not in .*busi-2, expected it"):
        state.final_model_for("busi-2", "US", "US")


@pytest.mark.federated
def test_models_that_never_left_their_sites_are_named_and_not_replaced_by_others(pair, tmp_path):
    root = shutil.copytree(pair("flames"), tmp_path / "workspace")
    config = root / "runs" / "secure" / "config.toml"
    config.write_text(config.read_text().replace('engine = "inline"', 'engine = "superlink"'))
    source = read_source_run(root, "secure", None)
    assert list_models(source) == ["MRI", "US"]
    with pytest.raises(FlamesError, match="own model of client brats-1 has never left its site, since"):
        make_client_model(source, "brats-1")


@pytest.mark.federated
def test_clients_that_choose_have_the_results_of_the_plain_run_in_their_own_state(pair):
    root = pair("flames-adaptive")
    (_, plain), (run, secure) = (loaded(root, name) for name in ("plain", "secure"))
    assert (secure.preferences, [len(one.preferences) for one in secure.sums]) == ({}, [5, 5])
    for client, expected in plain.preferences.items():
        (folder,) = run.clients.glob(f"*/{client}")
        found = from_arrays(load_client_state_of(folder, 2)[PREFERENCE])
        assert (found.n_examples, found.patients) == (expected.n_examples, expected.patients)
        assert found.gains == pytest.approx(expected.gains, abs=1e-3)
    for record in (root / "runs" / "secure" / "rounds.jsonl").read_text().splitlines():
        assert not any(word in record for word in ("pick", "candidates"))


@pytest.mark.long
@pytest.mark.federated
def test_a_run_without_a_client_s_report_goes_back_and_an_interrupted_pass_is_made_again(
    pair, tmp_path, monkeypatch
):
    root = shutil.copytree(pair("flames"), tmp_path / "workspace")
    (folder,) = RunFolder(root / "runs" / "secure").clients.glob("*/busi-2")
    shutil.rmtree(folder / "round-00002")
    config = federate_config(root, run="secure", rounds=3, secure_aggregation=True, **SMALLEST)

    def stop(*_):
        raise FlamesError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(run_files, "save_statistics", stop)
        with pytest.raises(FlamesError, match="the disk is full"):
            federate(config)
    notes = federate(config).notes
    assert [one["round"] for one in read_rounds(RunFolder(root / "runs" / "secure").rounds)] == [1, 2, 3]
    assert not any("did not" in note for note in notes)
    plain = federate(federate_config(root, run="plain", rounds=3, **SMALLEST))
    _, secure = loaded(root, "secure")
    _, expected = loaded(root, plain.run)
    for client, group in CLIENTS.items():
        assert_close(
            secure.final_model_for(client, group, group),
            expected.final_model_for(client, group, group),
            atol=1e-4,
        )
