import tomllib
from dataclasses import replace

import numpy as np
import pytest

from flames_cli.config import ExportConfig
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.segment import Segmenter
from flames_cli.learn.use import open_model
from flames_cli.stages.export.making import list_models, make_model, name_model
from flames_cli.stages.export.source_runs import read_source_run
from flames_cli.stages.export.stage import export
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.clients import read_clients, write_clients
from flames_cli.store.h5 import read_preprocessed_cases, read_shard_sets
from flames_cli.store.model_formats import read_formats
from flames_cli.store.models import read_model
from flames_cli.store.runs import run_folder
from flames_cli.store.seen import find_seen
from flames_cli.store.workspace import model_folder
from tests.support.stages import SMALL_MODEL, federate_config


def run_export(workspace, **options):
    return export(ExportConfig(workspace=workspace, **{"run": "flames", "model": "MRI", **options}))


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_server_s_model_has_the_weights_and_statistics_that_are_evaluated(trained):
    made = run_export(trained)
    info, weights = read_model(made.folder)
    assert made.folder == model_folder(trained, "flames-MRI")
    assert info == made.info
    state = load_state(run_folder(trained, "flames").checkpoints, info.training.round)
    expected = state.final_server_model("MRI", "MRI")
    assert all(np.array_equal(weights[name], array) for name, array in expected.items())
    assert (info.training.kind, info.input.modality, info.training.client) == ("server", "MRI", "")
    assert [one.modality for one in info.training.clients] == ["MRI"] * len(info.training.clients)
    model = build_model(info.architecture.model, norm=info.architecture.norm, **info.architecture.options)
    load_weights(model, weights)


def test_a_client_s_model_is_its_personalised_one(trained):
    (client,) = [name for name in list_models(read_source_run(trained, "flames", None)) if "busi" in name]
    made = run_export(trained, model=client)
    info, weights = read_model(made.folder)
    state = load_state(run_folder(trained, "flames").checkpoints, info.training.round)
    expected = state.final_model_for("busi", "US", "US")
    assert all(np.array_equal(weights[name], array) for name, array in expected.items())
    assert (info.training.kind, info.training.client, info.input.organs) == ("client", "busi", ("breast",))
    assert info.validation.keys() == {"dice", "images", "patients"}


def test_an_exported_model_predicts_what_is_evaluated(trained):
    made = run_export(trained, model="client:busi")
    info, weights = read_model(made.folder)
    run = read_source_run(trained, "flames", None)
    (shard,) = [one.shard for one in run.clients if one.name == "busi"]
    data = ShardDataset(read_shard_sets(shard, "test"))
    images = np.stack([data.example(index)[0] for index in range(len(data))])
    state = load_state(run_folder(trained, "flames").checkpoints, info.training.round)
    segmenter = Segmenter("unet", {**SMALL_MODEL, "in_channels": 1}, "cpu", "fp32", 8)
    evaluated = list(segmenter.masks(state.final_model_for("busi", "US", "US"), data))
    predicted = open_model(info, weights, "cpu", "fp32").probabilities(images) > info.threshold
    np.testing.assert_array_equal(predicted, np.stack(evaluated).astype(bool))


def test_a_model_whose_style_stays_at_the_clients_predicts_without_it(trained):
    options = {"model": "sdnet", "model_options": {"base_channels": 2, "depth": 1}, "share": "content"}
    federate(federate_config(trained, run="content", rounds=1, **options))
    info, weights = read_model(run_export(trained, run="content", model="client:busi").folder)
    size = info.input.size
    images = derive_rng(0, "content").random((2, size, size)).astype(np.float32)
    own = open_model(info, weights, "cpu", "fp32").probabilities(images)
    style = {name for name in weights if name.startswith(("style.", "renderer."))}
    assert style
    other = {name: array + 1 if name in style else array for name, array in weights.items()}
    np.testing.assert_array_equal(open_model(info, other, "cpu", "fp32").probabilities(images), own)


def test_every_model_of_every_strategy_can_be_exported(trained):
    for name in ("flames", "fedavg", "local"):
        run = read_source_run(trained, name, None)
        for model in list_models(run):
            info, weights = make_model(run, model)
            assert weights
            assert info.training.strategy == name
            assert info.input.size == run.size


def test_the_same_model_is_left_as_it_is_and_another_is_renamed(trained):
    first = run_export(trained)
    before = files_of(first.folder)
    again = run_export(trained)
    assert (first.is_new, again.is_new, again.aside) == (True, False, "")
    other = run_export(trained, threshold=0.3)
    assert (other.is_new, other.aside) == (True, "flames-MRI-old-1")
    assert files_of(model_folder(trained, "flames-MRI-old-1")) == before
    assert tomllib.loads((other.folder / "model.toml").read_text())["threshold"] == 0.3


def test_a_folder_that_is_no_model_is_renamed_too(trained):
    folder = model_folder(trained, "flames-MRI")
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    assert run_export(trained).aside == "flames-MRI-old-1"
    assert files_of(model_folder(trained, "flames-MRI-old-1")) == {"notes.txt": b"mine"}


def test_a_folder_names_no_patient_and_no_path_of_this_machine(trained):
    made = run_export(trained, model="client:busi")
    text = "".join(path.read_text(errors="replace") for path in made.folder.iterdir())
    assert str(trained) not in text
    for dataset in trained.glob("preprocessed/*.h5"):
        _, sets = read_preprocessed_cases(dataset)
        patients = {case.patient for cases in sets.values() for case in cases}
        assert patients
        assert not [patient for patient in patients if patient in text]


def test_a_round_can_be_chosen(trained):
    assert run_export(trained, round=1).info.training.round == 1
    assert run_export(trained, round="last", name="last").info.training.round == 2


def test_a_model_that_is_not_named_or_not_known_is_an_error_with_the_list(trained):
    with pytest.raises(FlamesError, match=r"got no model of run 'flames' to export; .*MRI, US, client:brats"):
        run_export(trained, model=None)
    for wanted in ("mri", "client:gone"):
        with pytest.raises(FlamesError, match=f"found no model '{wanted}', expected a model of run 'flames'"):
            run_export(trained, model=wanted)


def test_one_of_several_server_models_of_a_modality_must_be_named(trained):
    run = read_source_run(trained, "local", None)
    several = [name for name in list_models(run) if name.startswith("MRI by ")]
    assert len(several) > 1
    with pytest.raises(FlamesError, match=f"'MRI' is {len(several)} models of run 'local'"):
        make_model(run, "MRI")
    assert make_model(run, several[0])[0].input.modality == "MRI"


def test_weights_that_are_not_finite_are_not_exported(trained, monkeypatch):
    def broken(run, wanted):
        info, weights = make_model(run, wanted)
        name = next(iter(weights))
        return info, {**weights, name: np.full_like(weights[name], np.nan)}

    monkeypatch.setattr("flames_cli.stages.export.stage.make_model", broken)
    with pytest.raises(FlamesError, match="MRI of run 'flames' cannot be exported"):
        run_export(trained)
    assert not model_folder(trained, "flames-MRI").exists()


def test_facts_of_single_clients_are_left_out_with_differential_privacy(trained):
    run = read_source_run(trained, "fedavg", None)
    private = replace(run, config=run.config.model_copy(update={"dp_noise": 1.0, "dp_clip": 1.0}))
    for model in ("MRI", "client:busi"):
        assert make_model(run, model)[0].training.clients
        info, _ = make_model(private, model)
        assert (info.training.clients, info.validation, info.seen) == ((), {}, None)


def test_a_model_states_the_ranges_of_the_images_that_are_here(trained):
    run = read_source_run(trained, "flames", None)
    info, _ = make_model(run, "client:busi")
    shard = next(one.shard for one in run.clients if one.name == "busi")
    assert info.seen == find_seen([shard])
    elsewhere = tuple(replace(one, shard=None) for one in run.clients)
    assert make_model(replace(run, clients=elsewhere), "client:busi")[0].seen is None


def test_a_run_whose_data_are_elsewhere_is_exported_by_its_records(trained):
    here = read_source_run(trained, "flames", None)
    expected = make_model(here, "client:busi")[1]
    (trained / "partitions").rename(trained / "gone")
    run = read_source_run(trained, "flames", None)
    assert {one.name for one in run.clients} == {one.name for one in here.clients}
    assert {one.images for one in run.clients} == {one.images for one in here.clients}
    info, weights = make_model(run, "client:busi")
    assert info.training.clients[0].patients == 0
    assert info.seen is None
    assert all(np.array_equal(weights[name], array) for name, array in expected.items())


def test_clients_at_real_nodes_are_those_that_joined_not_those_of_a_partition_here(trained):
    run = run_folder(trained, "flames")
    text = run.config.read_text(encoding="utf-8")
    run.config.write_text(text.replace('engine = "inline"', 'engine = "superlink"'), encoding="utf-8")
    joined = read_clients(run.joined_clients)
    changed = [replace(one, organ="organ, another") if one.client == "busi" else one for one in joined]
    write_clients(run.joined_clients, [one for one in changed if one.client != "otu2d"])
    read = read_source_run(trained, "flames", None)
    assert "client:otu2d" not in list_models(read)
    info, _ = make_model(read, "US")
    assert info.input.organs == ("another", "organ")
    assert [(one.client, one.patients) for one in info.training.clients] == [("busi", 0)]
    assert info.seen is None


def test_a_zip_has_the_files_and_the_same_model_gives_the_same_bytes(trained):
    made = run_export(trained, zip=True)
    before = made.archive.read_bytes()
    assert run_export(trained, zip=True).archive.read_bytes() == before
    other = run_export(trained, zip=True, threshold=0.3)
    assert (
        other.archive.read_bytes() != before == (other.archive.parent / "flames-MRI-old-1.zip").read_bytes()
    )
    assert not [path for path in other.archive.parent.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("MRI", "run-MRI"),
        ("client:a", "run-a"),
        ("PET/CT by x y", "run-PET-CT-by-x-y"),
        ("m" * 99, "run-" + "m" * 60),
    ],
)
def test_a_model_s_name_is_one_of_a_folder(model, name):
    assert name_model("run", model) == name


def test_files_for_other_programs_are_checked_on_validation_images_of_the_model_s_clients(trained):
    made = run_export(trained, formats=("torch-export",))
    (written,) = made.formats
    assert (made.folder / "model.pt2").is_file()
    assert written.real_images > 0
    assert written.largest_difference <= 1e-4
    assert written.weights_sha256 == made.info.sha256
    assert made.as_json()["formats"][0]["path"] == "model.pt2"


def test_a_second_export_adds_a_file_and_leaves_the_others(trained):
    pytest.importorskip("onnxscript")
    first = run_export(trained, formats=("torch-export",))
    before = (first.folder / "model.pt2").read_bytes()
    again = run_export(trained, formats=("onnx",))
    assert (first.is_new, again.is_new, again.aside) == (True, False, "")
    assert (first.folder / "model.pt2").read_bytes() == before
    assert sorted(read_formats(first.folder)) == ["onnx", "torch-export"]
