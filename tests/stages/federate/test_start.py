"""`federate --start-from`: where the initial weights come from, and what they may not have seen."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from flames_cli.config import ExportConfig, PartitionConfig
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.jobs import Job
from flames_cli.fed.participation import ALL_AT_ONCE
from flames_cli.fed.plan import with_model_groups
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.report.model_card import write_card
from flames_cli.stages.export.stage import export
from flames_cli.stages.federate.inputs import find_images
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.federate.run_files import read_initial
from flames_cli.stages.federate.server_app import open_job
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.federate.start import read_start
from flames_cli.stages.federate.start_warnings import drawn_models
from flames_cli.stages.partition.stage import partition
from flames_cli.store.checkpoint import load_state
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.models import read_model, write_model
from flames_cli.store.runs import RunFolder, read_config
from flames_cli.store.weights import write_safetensors
from flames_cli.store.workspace import partition_file
from tests.support.asserts import assert_same, assert_same_state
from tests.support.federation import make_profile
from tests.support.stages import SMALL_MODEL, evaluate_run, federate_config

pytestmark = pytest.mark.federated


def run(root, **options):
    """A federation of one round by default."""
    return federate(federate_config(root, **{"rounds": 1, **options}))


def start(root, **options):
    """The start of a run that is not made."""
    config = federate_config(root, **{"run": "next", **options})
    return read_start(config, find_images(config))


def facts_of(result):
    return read_config(result.folder / "config.toml")["run"]


@pytest.fixture(scope="module")
def source(tiny):
    """A workspace with a finished run of FLAMES."""
    root = tiny()
    federate(federate_config(root, rounds=2, run="first"))
    return root


@pytest.fixture
def root(source, tmp_path):
    return shutil.copytree(source, tmp_path / "workspace")


@pytest.fixture(scope="module")
def state(source):
    return load_state(source / "runs" / "first" / "checkpoints")


def test_each_modality_starts_from_its_model_with_the_final_statistics(root, state):
    made = run(root, strategy="fedavg-modality", run="second", start_from="first")
    stored = read_initial(RunFolder(made.folder), facts_of(made)).by_model
    assert sorted(stored) == ["MRI", "US"]
    for modality, weights in stored.items():
        assert_same(weights, state.final_server_model(modality, modality))
    facts = facts_of(made)["start"]
    assert (facts["kind"], facts["name"], facts["round"]) == ("run", "first", 2)
    exported = export(ExportConfig(workspace=root, run="second", model="US"))
    began = f"run first, round 2 (sha256 {facts['sha256']})"
    assert exported.info.training.start == began
    assert f"| started from | {began} |" in (exported.folder / "README.md").read_text()
    card = write_card(replace(exported.info, privacy={"epsilon": 1.0, "delta": 1e-5}))
    assert "It does not cover the patients on whom its start was trained." in card
    assert facts["partitions"] == [hash_file(partition_file(root))]
    assert facts["sha256"] == hash_file(root / "runs/first/checkpoints/round-00002/state.json")
    assert any("start from run 'first', round 2" in note for note in made.notes)


def test_a_local_client_starts_from_its_own_model_or_else_from_that_of_its_modality(root, state):
    made = start(root, strategy="local", start_from="first")
    by_model = made.initial.by_model
    for client, modality in (("brats-1", "MRI"), ("brats-2", "MRI"), ("busi", "US")):
        assert_same(by_model[f"client:{client}"], state.final_model_for(client, modality, modality))
    assert_same(by_model["US"], state.final_server_model("US", "US"))
    assert any("brats-1, brats-2, busi from their own models" in note for note in made.notes)


def test_an_earlier_round_can_be_chosen(root, source):
    made = start(root, strategy="fedavg-modality", start_from="first", start_round=1)
    first = load_state(source / "runs/first/checkpoints", 1)
    assert_same(made.initial.by_model["US"], first.final_server_model("US", "US"))


def test_a_resumed_run_has_the_same_bits_although_the_source_is_gone(root):
    whole = run(root, strategy="fedavg-modality", run="whole", start_from="first", rounds=2)
    run(root, strategy="fedavg-modality", run="parts", start_from="first", rounds=1)
    shutil.rmtree(root / "runs" / "first")
    parts = run(root, strategy="fedavg-modality", run="parts", start_from="first", rounds=2)
    assert parts.resumed_from == 1
    assert_same_state(*(load_state(one.folder / "checkpoints") for one in (whole, parts)))


def test_damaged_initial_weights_are_named_on_resume(root):
    made = run(root, strategy="fedavg-modality", run="second", start_from="first")
    (made.folder / "starts" / "1.safetensors").write_bytes(b"x")
    with pytest.raises(FlamesError, match=r"1\.safetensors is missing or damaged"):
        run(root, strategy="fedavg-modality", run="second", start_from="first", rounds=2)


def test_one_model_cannot_start_from_several(root):
    with pytest.raises(FlamesError, match=r"has 2 models \(MRI, US\), and this strategy has one"):
        start(root, strategy="fedavg", run="second", start_from="first")


def test_a_model_of_all_clients_starts_those_of_each_modality(root):
    one = run(root, strategy="fedavg", run="one")
    state = load_state(one.folder / "checkpoints")
    made = start(root, strategy="fedavg-modality", start_from="one")
    assert_same(made.initial.by_model["US"], state.final_server_model("all", "US"))
    again = start(root, strategy="fedavg", start_from="one")
    assert_same(again.initial.every, state.final_server_model("all", ""))


def test_models_of_single_clients_start_only_these_clients(root):
    run(root, strategy="local", run="alone")
    with pytest.raises(FlamesError, match=r"run 'alone' has no model from which MRI can start"):
        start(root, start_from="alone")
    made = start(root, strategy="local", start_from="alone")
    assert {"client:brats-1", "client:brats-2", "client:busi"} <= made.initial.by_model.keys()


def test_clients_that_do_not_take_part_give_no_model(root):
    made = start(root, strategy="local", clients=("busi",), start_from="first")
    assert sorted(made.initial.by_model) == ["MRI", "US", "client:busi"]
    assert made.notes[0].endswith(": busi from their own models of that round")
    every = start(root, strategy="local", start_from="first", partition="default")
    assert every.notes[0].endswith(": brats-1, brats-2, busi from their own models of that round")


def test_options_that_differ_are_named_in_one_message(root):
    with pytest.raises(
        FlamesError, match=r"norm batch → group; model option base_channels 4 → 2\), expected"
    ):
        run(
            root,
            run="second",
            start_from="first",
            norm="group",
            model_options={"base_channels": 2, "depth": 2},
        )
    with pytest.raises(FlamesError, match=r"model unet → utnet\)"):
        start(root, start_from="first", model="utnet", model_options={})


def test_a_default_option_is_the_same_whether_it_was_given_or_not(root):
    options = {**SMALL_MODEL, "dropout": 0.0}
    made = start(root, strategy="fedavg-modality", start_from="first", model_options=options)
    assert made.facts["start"]["name"] == "first"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_from": "nobody"}, "is neither a run nor a model folder"),
        ({"start_round": 1}, "without --start-from"),
        ({"start_from": "first", "start_round": 9}, "stores the rounds 1, 2"),
        ({"start_from": "first", "encoder_weights": "x.pth"}, "expected one of the two"),
    ],
)
def test_wrong_options_are_named_and_nothing_is_written(root, options, message):
    with pytest.raises(FlamesError, match=message):
        run(root, run="next", **options)
    assert not (root / "runs" / "next").exists()


@pytest.fixture
def us_only(root):
    """The same workspace with another partition, of the US client alone and the same patients in its sets."""
    partition(PartitionConfig(workspace=root, name="us", datasets=("busi",)))
    return root


def test_a_model_folder_starts_the_models_of_its_modality(us_only, state):
    exported = export(ExportConfig(workspace=us_only, run="first", model="US", name="us"))
    made = start(us_only, start_from="us", partition="us")
    assert_same(made.initial.by_model["US"], state.final_server_model("US", "US"))
    facts = made.facts["start"]
    assert (facts["kind"], facts["name"], facts["sha256"]) == ("model", "us", exported.info.sha256)
    # Its run is in the workspace, so its patients are known.
    assert facts["partitions"] == [hash_file(partition_file(us_only))]
    with pytest.raises(FlamesError, match=r"modality US → MRI"):
        start(us_only, start_from=str(us_only / "models" / "us"))


def test_a_model_folder_from_elsewhere_leads_to_a_note_on_its_patients(us_only):
    exported = export(ExportConfig(workspace=us_only, run="first", model="US", name="us"))
    info, weights = read_model(exported.folder)
    training = replace(info.training, run="elsewhere")
    write_model(us_only / "models" / "other", replace(info, name="other", training=training), weights, "card")
    made = start(us_only, start_from="other", partition="us")
    assert any("its run 'elsewhere' is not in this workspace" in note for note in made.notes)


def test_a_file_of_weights_starts_all_models(root, tmp_path):
    weights = to_weights(build_model("unet", seed=7, in_channels=1, **SMALL_MODEL))
    write_safetensors(tmp_path / "all.safetensors", weights)
    made = start(root, strategy="fedavg", start_from=str(tmp_path / "all.safetensors"))
    assert_same(made.initial.every, weights)
    facts = made.facts["start"]
    assert (facts["kind"], facts["name"]) == ("file", "all.safetensors")
    assert facts["sha256"] == hash_file(tmp_path / "all.safetensors")
    assert any("a file of weights does not say who trained it" in note for note in made.notes)


def test_weights_that_are_not_finite_are_rejected(root, tmp_path):
    weights = to_weights(build_model("unet", seed=7, in_channels=1, **SMALL_MODEL))
    weights["head.bias"][:] = np.nan
    write_safetensors(tmp_path / "nan.safetensors", weights)
    with pytest.raises(FlamesError, match="not finite"):
        start(root, start_from=str(tmp_path / "nan.safetensors"))


def test_a_run_that_trained_on_test_patients_of_this_partition_is_refused(root):
    partition(PartitionConfig(workspace=root, name="f1", split={"brats": 2}, fold="1/3"))
    with pytest.raises(
        FlamesError, match=r"run 'first' was trained on partition 'default', which has \d+ test"
    ):
        run(root, run="second", start_from="first", partition="f1")


def test_a_run_on_a_partition_that_is_gone_leads_to_a_note(root):
    partition(PartitionConfig(workspace=root, name="f1", split={"brats": 2}, fold="1/3"))
    run(root, run="early", partition="f1")
    partition_file(root, "f1").unlink()
    made = start(root, start_from="early")
    assert any("a partition of its training is not in this workspace" in note for note in made.notes)


def test_patients_of_a_chain_of_starts_are_known(root):
    partition(PartitionConfig(workspace=root, name="f1", split={"brats": 2}, fold="1/3"))
    other = hash_file(partition_file(root, "f1"))
    config = root / "runs" / "first" / "config.toml"
    config.write_text(config.read_text() + f'\n[run.start]\npartitions = ["{other}"]\nunknown = ""\n')
    with pytest.raises(FlamesError, match=r"run 'first' was trained on partition 'f1'"):
        start(root, start_from="first")


def test_each_run_of_a_family_starts_from_the_one_with_its_seed(root):
    list(federate_all(federate_config(root, rounds=1, run="some", seeds=(0, 1)), watch))
    names = [start(root, seed=seed, start_from="some").facts["start"]["name"] for seed in (0, 1)]
    assert names == ["some-seed-0", "some-seed-1"]
    with pytest.raises(FlamesError, match="of which 0 have seed 5"):
        start(root, seed=5, start_from="some")


def watch(title):
    return nullcontext(lambda event: None)


def test_an_empty_workspace_says_that_there_is_no_source(tiny):
    with pytest.raises(MissingArtifact, match="neither a run nor a model folder"):
        start(tiny(), start_from="first")


@pytest.mark.parametrize("share", ["all", "content"])
def test_disentangled_models_start_from_a_run(tiny, share):
    root = tiny()
    model = {"model": "sdnet", "model_options": {"base_channels": 2, "depth": 1}, "share": share}
    first = run(root, run="first", **model)
    made = start(root, start_from="first", **model)
    state = load_state(first.folder / "checkpoints")
    assert_same(made.initial.by_model["US"], state.final_server_model("US", "US"))
    assert any("the style of each client starts" in note for note in made.notes) == (share == "content")


def test_privacy_does_not_cover_the_patients_of_the_start(root):
    pytest.importorskip("dp_accounting")
    made = start(root, strategy="fedavg-modality", start_from="first", dp_noise=1.0, dp_clip=1.0)
    assert any("covers the rounds of this run only" in note for note in made.notes)


def test_models_without_a_start_are_named_when_their_clients_have_joined():
    plan = SimpleNamespace(draws_others=True, starts={"US": {}})
    assert drawn_models(plan, (("a", "US", 3),)) == ""
    assert "no model for b (MRI)" in drawn_models(plan, (("a", "US", 3), ("b", "MRI", 3)))


def test_one_client_can_be_tuned_alone(root, state):
    made = run(root, strategy="local", run="tuned", start_from="first", clients=("brats-2",))
    assert list(load_state(made.folder / "checkpoints").server) == ["brats-2"]
    tables = evaluate_run(root, "tuned", client_test=True).content
    assert tables.untested == {"brats-1": "it took no part in the run", "busi": "it took no part in the run"}
    with pytest.raises(FlamesError, match=r"--clients names 'brats-9', expected clients of partition"):
        run(root, run="other", clients=("brats-9",))


def test_a_client_that_took_no_part_is_tested_with_the_model_of_its_modality(tiny):
    root = tiny()
    run(root, run="less", clients=("brats-1", "busi"))
    found = evaluate_run(root, "less", client_test=True).content
    assert {line["model"] for line in found.tables["clients"]} >= {"brats-1", "brats-2", "busi"}
    info = export(ExportConfig(workspace=root, run="less", model="MRI")).info
    assert [one.client for one in info.training.clients] == ["brats-1"]


def test_clients_of_a_run_are_those_with_which_it_resumes(root):
    run(root, strategy="local", run="tuned", clients=("brats-2",))
    with pytest.raises(FlamesError, match=r"clients \['brats-2'\] → \[\]"):
        run(root, strategy="local", run="tuned", rounds=2)


def test_the_server_s_process_reads_the_start_from_the_folder_of_the_run(root):
    made = run(root, strategy="local", run="second", start_from="first")
    expected = start(root, strategy="local", start_from="first").initial
    shutil.rmtree(root / "runs" / "first")
    plan = open_job(Job(made.folder, ALL_AT_ONCE)).plan
    assert plan.starts.keys() == expected.by_model.keys()
    for name, weights in plan.starts.items():
        assert_same(weights, expected.by_model[name])
    profiles = [make_profile("brats-1"), make_profile("new", "US"), make_profile("other", "CT")]
    began = with_model_groups(None, plan, profiles).server
    assert_same(began["brats-1"], expected.by_model["client:brats-1"])
    assert_same(began["new"], expected.by_model["US"])
    assert_same(began["other"], plan.initial)
