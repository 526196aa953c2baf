import json
import shutil
import tomllib
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord

from flames_cli.config import FederateConfig, PartitionConfig
from flames_cli.core.federated.best_round import score_rounds
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.preparation import Preparation
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.client import make_client_app
from flames_cli.fed.events import (
    ClientJoined,
    Estimated,
    FederationStarted,
    FinalModelsExamined,
    LineLogged,
    ReportReceived,
    RoundDone,
    StepDone,
)
from flames_cli.fed.jobs import Job
from flames_cli.fed.messages import Profile, TrainRequest
from flames_cli.fed.participation import ALL_AT_ONCE
from flames_cli.fed.records import message_bytes
from flames_cli.learn import devices
from flames_cli.learn.train_options import TrainOptions
from flames_cli.stages.federate import engines, stage
from flames_cli.stages.federate.planning import encoder_weights_of
from flames_cli.stages.federate.resuming import options_as_run
from flames_cli.stages.federate.run_files import make_client_saver
from flames_cli.stages.federate.server_app import open_job
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.checkpoint import list_rounds, load_state
from flames_cli.store.clients import read_clients
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import read_shard_cases
from flames_cli.store.partition import read_partition, write_partition
from flames_cli.store.runs import RunFolder, list_runs, read_config
from flames_cli.store.workspace import partition_file, partition_folder
from tests.support.asserts import assert_same_state, without_timings
from tests.support.federation import make_profile
from tests.support.packed import entries_in
from tests.support.stages import evaluate_run, federate_config

pytestmark = pytest.mark.federated


def differ(one, other):
    return any(
        not np.array_equal(array, other.server[name][entry])
        for name, model in one.server.items()
        for entry, array in model.items()
    )


def state_of(result):
    return load_state(result.folder / "checkpoints")


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_seed_gives_other_weights(tiny):
    root = tiny()
    one, other = (federate(federate_config(root, rounds=1, seed=seed, run=f"seed-{seed}")) for seed in (0, 1))
    assert differ(state_of(one), state_of(other))


def test_models_move_and_modalities_part(tiny):
    root = tiny()
    first, second = (state_of(federate(federate_config(root, rounds=rounds))) for rounds in (1, 2))
    assert differ(first, second)
    assert not np.array_equal(
        second.server["MRI"]["encoders.0.0.weight"], second.server["US"]["encoders.0.0.weight"]
    )


def test_the_centralised_bound_trains_on_all_cases_of_a_modality(tiny):
    root = tiny()
    (record,) = federate(federate_config(root, strategy="centralised", rounds=1)).records
    images: dict[str, int] = {}
    for entry in read_partition(partition_file(root)).clients:
        images[entry.modality] = images.get(entry.modality, 0) + entry.images["train"]
    assert {entry["client"]: entry["n_examples"] for entry in record["clients"]} == images
    assert all(entry["n_steps"] == -(-entry["n_examples"] // 8) for entry in record["clients"])


def test_a_local_client_is_untouched_by_the_others(tiny):
    every, few = tiny(), tiny()
    partition(PartitionConfig(workspace=few, datasets=("busi",), overwrite=True))
    together = state_of(federate(federate_config(every, strategy="local")))
    apart = state_of(federate(federate_config(few, strategy="local")))
    assert set(apart.server) == {"busi"}
    for name, model in apart.server.items():
        assert all(np.array_equal(array, together.server[name][entry]) for entry, array in model.items())


@pytest.fixture(scope="module")
def uninterrupted(tiny):
    """{strategy: (state, records) after three rounds without a stop}."""
    results = [
        federate(federate_config(tiny(), strategy=strategy, rounds=3)) for strategy in ("flames", "fedavg")
    ]
    return {result.run: (state_of(result), without_timings(result.records)) for result in results}


@pytest.mark.parametrize("strategy", ["flames", "fedavg"])
def test_a_resumed_run_ends_like_one_that_never_stopped(strategy, tiny, uninterrupted):
    root = tiny()
    federate(federate_config(root, strategy=strategy, rounds=1))
    resumed = federate(federate_config(root, strategy=strategy, rounds=3))
    state, records = uninterrupted[strategy]
    assert resumed.resumed_from == 1
    assert_same_state(state_of(resumed), state)
    assert without_timings(resumed.records) == records


class PulledPlug(Exception):
    """Exception that the program does not expect."""


def stop_at(wanted):
    """Return a listener that ends the program at the first event that `wanted` accepts."""

    def listen(event):
        if wanted(event):
            raise PulledPlug

    return listen


def test_a_line_cut_short_by_a_crash_is_written_again(tiny, uninterrupted):
    root = tiny()
    rounds = federate(federate_config(root, rounds=2)).folder / "rounds.jsonl"
    with rounds.open("a") as file:
        file.write('{"round": 3, "sec')
    assert without_timings(federate(federate_config(root, rounds=3)).records) == uninterrupted["flames"][1]


def test_a_finished_run_is_not_changed(tiny):
    root, events = tiny(), []
    folder = federate(federate_config(root)).folder
    before = files_of(folder)
    again = federate(federate_config(root), events.append)
    assert (again.resumed_from, len(again.records), events) == (2, 2, [])
    assert files_of(folder) == before
    assert federate(federate_config(root, rounds=1)).resumed_from == 2


def test_other_options_are_rejected_with_every_difference(tiny):
    root = tiny()
    before = files_of(federate(federate_config(root, rounds=1)).folder)
    changed = federate_config(root, lr=0.5, batch_size=2, seed=4, lr_by_modality={"US": 0.1}, run="flames")
    with pytest.raises(FlamesError, match="run 'flames' was made with other options") as caught:
        federate(changed)
    for difference in ("batch_size 8 → 2", "lr 0.01 → 0.5", "seed 0 → 4", "lr_by_modality {} → {'US': 0.1}"):
        assert difference in str(caught.value)
    assert str(caught.value).endswith(
        "pass --fresh to start it again, or another --run NAME, "
        "or --resume flames to continue it as it was made"
    )
    assert "rounds" not in str(caught.value)
    assert files_of(root / "runs" / "flames") == before


def test_a_run_of_an_earlier_release_without_a_newer_option_continues_with_its_default(tiny):
    root = tiny()
    file = federate(federate_config(root, rounds=1)).folder / "config.toml"
    lines = file.read_text(encoding="utf-8").splitlines()
    newer = ("fraction =", "ema =", "norm =")
    older = [line for line in lines if not line.startswith(newer)]
    assert len(older) == len(lines) - 3
    file.write_text("\n".join(older), encoding="utf-8")
    with pytest.raises(FlamesError, match=r"made with other options \(ema 0\.0 → 0\.5\)"):
        federate(federate_config(root, ema=0.5))
    assert federate(federate_config(root, rounds=2)).resumed_from == 1


def test_options_that_change_nothing_may_change(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    resumed = federate(federate_config(root, rounds=2, keep_rounds=1, precision="fp32"))
    assert resumed.resumed_from == 1
    assert list_rounds(resumed.folder / "checkpoints")[-1] == 2


def test_another_partition_is_rejected_and_the_old_one_continues_the_run(tiny, uninterrupted):
    root = tiny()
    federate(federate_config(root, rounds=1))
    partition(PartitionConfig(workspace=root, seed=1, split={"brats": 2}, overwrite=True))
    was = "'default' as it was before, which is called 'default-old-1' now"
    with pytest.raises(FlamesError, match=rf"\(partition {was} → 'default'\); .*, or --resume flames"):
        federate(federate_config(root, rounds=3))
    result = federate(federate_config(root, rounds=3, partition="default-old-1"))
    assert result.resumed_from == 1
    assert_same_state(state_of(result), uninterrupted["flames"][0])


def test_runs_and_evaluations_do_not_need_the_preprocessed_files(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    shutil.rmtree(root / "preprocessed")
    assert federate(federate_config(root, rounds=2)).resumed_from == 1
    assert evaluate_run(root, "flames").clients


def test_a_run_on_a_named_partition_is_not_continued_on_another(tiny):
    root = tiny()
    partition(PartitionConfig(workspace=root, name="other", seed=1, split={"brats": 2}))
    federate(federate_config(root, rounds=1, partition="other"))
    with pytest.raises(FlamesError, match=r"other options \(partition 'other' → 'default'\)"):
        federate(federate_config(root, rounds=2))
    shutil.rmtree(partition_folder(root, "other"))
    with pytest.raises(FlamesError, match="'other' as it was before, which is gone → 'default'") as caught:
        federate(federate_config(root, rounds=2))
    assert "--resume" not in str(caught.value)


def test_fresh_starts_again(tiny, uninterrupted):
    root = tiny()
    federate(federate_config(root, rounds=2, lr=0.5))
    (root / "runs" / "flames" / "evaluation").mkdir()
    fresh = federate(federate_config(root, rounds=3, fresh=True))
    state, records = uninterrupted["flames"]
    assert fresh.resumed_from == 0
    assert_same_state(state_of(fresh), state)
    assert without_timings(fresh.records) == records
    assert not (fresh.folder / "evaluation").exists()
    old = root / "runs" / "flames-old-1"
    assert fresh.notes[0].startswith("the earlier run 'flames' is called 'flames-old-1' now, and can still")
    assert (old / "evaluation").is_dir()
    assert list_rounds(old / "checkpoints") == [1, 2]


def test_a_renamed_run_is_evaluated_and_continued_under_its_new_name(tiny):
    root, options = tiny(), {"strategy": "scaffold", "optimiser": "sgd"}
    federate(federate_config(root, rounds=1, run="one", **options))
    federate(federate_config(root, rounds=1, run="one", lr=0.02, fresh=True, **options))
    evaluated = evaluate_run(root, "one-old-1")
    assert (evaluated.folder.name, evaluated.content.run) == ("one-old-1", "one-old-1")
    continued = federate(federate_config(root, rounds=2, run="one-old-1", **options))
    assert continued.resumed_from == 1
    alone = federate(federate_config(root, rounds=2, run="alone", **options))
    assert_same_state(state_of(continued), state_of(alone))
    assert read_config(continued.folder / "config.toml")["federate"]["run"] == "one-old-1"


def test_a_run_that_was_stopped_in_its_first_round_is_not_kept(tiny):
    root = tiny()
    folder = federate(federate_config(root, rounds=1)).folder
    shutil.rmtree(folder / "checkpoints")
    federate(federate_config(root, rounds=1, fresh=True))
    assert [path.name for path in list_runs(root)] == ["flames"]


@pytest.mark.parametrize("options", [{"model": "vgg"}, {"model_options": {"width": 3}}, {"strategy": "sgd"}])
def test_a_wrong_option_does_not_cost_the_run_that_fresh_replaces(options, tiny):
    root = tiny()
    before = files_of(federate(federate_config(root, rounds=1)).folder)
    with pytest.raises(FlamesError, match=r"unknown|not known"):
        federate(federate_config(root, run="flames", fresh=True, **options))
    assert files_of(root / "runs" / "flames") == before


def test_what_is_left_of_a_run_without_its_configuration_is_neither_mixed_in_nor_lost(tiny):
    root = tiny()
    folder = federate(federate_config(root, rounds=3)).folder
    (folder / "config.toml").unlink()
    with pytest.raises(FlamesError, match=r"contains files but no config\.toml of a run; pass --fresh"):
        federate(federate_config(root, rounds=1))
    assert list_rounds(folder / "checkpoints") == [2, 3]
    result = federate(federate_config(root, rounds=1, fresh=True))
    assert list_rounds(folder / "checkpoints") == [1]
    assert [record["round"] for record in result.records] == [1]
    assert list_rounds(folder.with_name(f"{folder.name}-old-1") / "checkpoints") == [2, 3]


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_checkpoints_and_the_best_one_are_kept(keep, tiny):
    result = federate(federate_config(tiny(), strategy="fedavg", rounds=3, keep_rounds=keep))
    best = score_rounds(result.records).best([1, 2])
    assert list_rounds(result.folder / "checkpoints") == sorted({best, *[1, 2, 3][-keep:]})


def test_a_missing_shard_or_partition_names_its_command(tiny, tmp_path):
    root = tiny()
    (partition_folder(root) / "shards" / "busi.h5").unlink()
    with pytest.raises(MissingArtifact, match=r"busi\.h5 does not exist; make it with `flames partition"):
        federate(federate_config(root))
    with pytest.raises(
        MissingArtifact, match=r"no partition 'default' in .*; make it with `flames partition"
    ):
        federate(federate_config(tmp_path))
    assert not (root / "runs").exists()


def test_a_shard_of_another_size_cannot_join(tiny):
    root = tiny()
    (partition_folder(root) / "shards" / "busi.h5").write_bytes(
        (partition_folder(tiny(size=48)) / "shards" / "busi.h5").read_bytes()
    )
    seal(root)
    with pytest.raises(FlamesError, match="client busi cannot join: its images are 48×48"):
        federate(federate_config(root))


def test_a_learning_rate_for_no_modality_is_rejected(tiny):
    with pytest.raises(
        FlamesError, match="--lr names 'CT', expected a modality or a client, one of MRI, US, "
    ):
        federate(federate_config(tiny(), lr_by_modality={"CT": 0.1}))
    with pytest.raises(FlamesError, match="--local-epochs names 'x', expected a modality or a client"):
        federate(federate_config(tiny(), local_epochs_by_modality={"x": 2}))


def test_a_client_and_a_modality_have_epochs_of_their_own(tiny):
    root = tiny()
    config = federate_config(root, rounds=1, keep_epoch="last", local_epochs_by_modality={"US": 2, "busi": 3})
    steps = {one["client"]: one["n_steps"] for one in federate(config).records[0]["clients"]}
    config = federate_config(root, rounds=1, keep_epoch="last", run="other")
    plain = {one["client"]: one["n_steps"] for one in federate(config).records[0]["clients"]}
    factors = {"busi": 3, "otu2d": 2}
    assert steps == {client: n * factors.get(client, 1) for client, n in plain.items()}


def test_a_run_with_a_cosine_schedule_continues_with_its_own_number_of_rounds_only(tiny):
    root = tiny()
    options = {"lr_schedule": "cosine", "warmup": 1}
    first = federate(federate_config(root, rounds=3, **options))
    with pytest.raises(FlamesError, match=r"from which --lr-schedule cosine .*, got --rounds 4"):
        federate(federate_config(root, rounds=4, **options))
    again = federate(federate_config(root, rounds=3, **options))
    assert again.records == first.records


def test_a_warm_up_of_all_rounds_is_rejected(tiny):
    with pytest.raises(FlamesError, match="got --warmup 2 with --rounds 2, so that no round has the full"):
        federate(federate_config(tiny(), rounds=2, warmup=2))


def test_the_learning_rate_of_a_modality_is_its_clients_alone(tiny):
    root = tiny()
    plain = state_of(federate(federate_config(root, rounds=1)))
    other = state_of(federate(federate_config(root, rounds=1, lr_by_modality={"US": 0.05}, run="other")))
    for group, alike in (("MRI", True), ("US", False)):
        assert np.array_equal(plain.server[group]["head.weight"], other.server[group]["head.weight"]) is alike


def test_test_sets_have_no_influence_at_all(tiny, uninterrupted):
    root = tiny()
    for shard in (partition_folder(root) / "shards").glob("*.h5"):
        scramble_test_set(shard)
    with pytest.raises(FlamesError, match=r"brats-1\.h5 has changed since `flames partition` wrote it"):
        federate(federate_config(root))
    seal(root)
    result = federate(federate_config(root, rounds=3))
    state, records = uninterrupted["flames"]
    assert_same_state(state_of(result), state)
    assert without_timings(result.records) == records


def seal(root):
    """Write the current checksums of the shards into the partition."""
    file = partition_file(root)
    made = read_partition(file)
    entries = {
        key: [replace(entry, sha256=hash_file(file.parent / entry.shard)) for entry in getattr(made, key)]
        for key in ("clients", "server")
    }
    write_partition(file, replace(made, **entries))


def test_a_run_on_two_devices_is_the_run_on_one(tiny, monkeypatch):
    """Two threads on the CPU take the places of two GPUs."""
    root, used = tiny(), []
    one = federate(federate_config(root, run="one"))
    monkeypatch.setattr(engines, "count_gpus", lambda: 2)
    monkeypatch.setattr(engines, "use_gpu", used.append)
    monkeypatch.setattr(devices, "_available", lambda: ["cpu"])
    two = federate(federate_config(root, run="two", device="auto"))
    assert used == [0, 1]
    assert_same_state(state_of(two), state_of(one))
    assert (two.final, two.chosen) == (one.final, one.chosen)
    assert without_timings(two.records) == without_timings(one.records)


def scramble_test_set(shard):
    """Replace every test image and mask with noise."""
    rng = derive_rng(0, shard.name)
    with h5py.File(shard, "r+") as file:
        groups = [file["test"]] if "image" in file["test"] else list(file["test"].values())
        for group in groups:
            group["image"][...] = rng.integers(0, 200, group["image"].shape)
            group["mask"][...] = rng.integers(0, 2, group["mask"].shape)


@pytest.fixture
def messages(monkeypatch):
    """Record every message to a client and its reply."""
    passed = []

    def record(on_event):
        app = make_client_app(on_event)

        def call(message, context):
            passed.append(message)
            passed.append(app(message, context))
            return passed[-1]

        return call

    monkeypatch.setattr(engines, "make_client_app", record)
    return passed


def test_only_weights_counts_and_means_leave_a_client(tiny, messages):
    root = tiny()
    result = federate(federate_config(root))
    model = {name: array.shape for name, array in state_of(result).server["MRI"].items()}
    kinds = (TrainRequest, TrainOptions, Profile)
    scalars = {entry.name for kind in kinds for entry in fields(kind)} - {"training"}
    statistics = {name for name in model if name.endswith(("running_mean", "running_var"))}
    assert len(messages) == 2 * 3 * 4  # profiles, two rounds, and the final models
    for message in messages:
        for record in message.content.values():
            if isinstance(record, ArrayRecord):
                shapes = {name: array.shape for name, array in entries_in(record).items()}
                assert shapes in (model, {name: model[name] for name in statistics})
            elif isinstance(record, ConfigRecord):
                assert set(record) <= scalars
            else:
                assert isinstance(record, MetricRecord)
                assert all(isinstance(value, int | float) for value in record.values())


def test_no_message_names_a_patient_or_a_case(tiny, messages):
    root = tiny()
    federate(federate_config(root, rounds=1))
    names = {
        name
        for shard in (partition_folder(root) / "shards").glob("*.h5")
        for _, cases in read_shard_cases(shard).values()
        for case in cases
        for name in (case.case, case.patient)
        if len(name) > 3
    }
    texts = [
        f"{key}={value}"
        for message in messages
        for record in (*message.content.config_records.values(), *message.content.metric_records.values())
        for key, value in record.items()
    ]
    assert names
    assert not [name for name in names if any(name in text for text in texts)]


def test_each_client_gets_one_model_a_round_and_sends_one(tiny, messages):
    records = federate(federate_config(tiny(), rounds=1)).records
    trained = [message for message in messages if message.metadata.message_type == "train"]
    sizes = [message_bytes(message) for message in trained if message.content.array_records]
    assert len(set(sizes)) == 1
    assert len(sizes) == 2 * 3
    assert [(record["bytes_down"], record["bytes_up"]) for record in records] == [(3 * sizes[0],) * 2]


def test_a_run_keeps_its_initial_options_and_facts(tiny):
    root = tiny()
    config = federate_config(root, rounds=1, lr_by_modality={"US": 0.002})
    folder = federate(config).folder
    written = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    assert FederateConfig(workspace=root, **written["federate"]) == config.model_copy(
        update={"run": "flames", "encoder_weights": "none"}
    )
    assert written["run"]["partition_sha256"] == hash_file(partition_file(root))
    assert (written["run"]["size"], written["run"]["device"]) == (32, "cpu")
    lines = (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1]


def test_encoder_weights_are_imagenets_only_where_the_model_has_them(tmp_path):
    assert encoder_weights_of(FederateConfig(workspace=tmp_path)) == "imagenet"
    assert encoder_weights_of(FederateConfig(workspace=tmp_path, model="unet")) == "none"
    assert encoder_weights_of(FederateConfig(workspace=tmp_path, encoder_weights="a.pth")) == "a.pth"


def test_listeners_receive_all_events(tiny):
    events = []
    result = federate(federate_config(tiny()), events.append)
    started = next(event for event in events if isinstance(event, FederationStarted))
    joined = [event.client for event in events[: events.index(started)] if isinstance(event, ClientJoined)]
    names = ["brats-1", "brats-2", "busi"]
    assert [name for name, _, _ in started.clients] == joined == names
    steps = sum(entry["n_steps"] for record in result.records for entry in record["clients"])
    assert sum(isinstance(event, StepDone) for event in events) == steps
    assert [event.record for event in events if isinstance(event, RoundDone)] == result.records
    assert sum(isinstance(event, ReportReceived) for event in events) == 6
    assert [event.seconds_left for event in events if isinstance(event, Estimated)][-1] == 0
    last = [event for event in events if not isinstance(event, LineLogged)][-1]
    assert isinstance(last, FinalModelsExamined)
    assert last.record == {key: result.final[key] for key in ("round", "clients", "missing", "earlier")}


def test_images_too_small_for_the_model_are_rejected_before_any_training(tiny):
    root = tiny()
    with pytest.raises(FlamesError, match=r"the images are 32×32, this unet needs 128×128; preprocess with"):
        federate(federate_config(root, model_options={"base_channels": 2, "depth": 7}))
    assert not (root / "runs").exists()


def test_a_workspace_may_have_a_colon_in_its_name(tiny, tmp_path):
    root = tmp_path / "12:30 Uhr"
    shutil.copytree(tiny(), root)
    result = federate(federate_config(root, strategy="centralised", rounds=1))
    assert [client["client"] for client in result.records[0]["clients"]] == ["MRI", "US"]


def test_a_run_stores_the_learning_rate_and_batch_size_that_its_model_decides():
    stored = options_as_run(FederateConfig(model="unet"))
    assert (stored["lr"], stored["batch_size"]) == (1e-3, 16)


def test_a_run_stores_its_clients_and_one_that_joins_later_is_added(tiny):
    root = tiny()
    run = RunFolder(federate(federate_config(root, rounds=1)).folder)
    joined = read_clients(run.joined_clients)
    entries = {one.name: one for one in read_partition(partition_file(root)).clients}
    assert {one.client: (one.modality, one.n_train, one.n_val) for one in joined} == {
        name: (one.modality, one.images["train"], one.images["val"]) for name, one in entries.items()
    }
    shards = partition_folder(root) / "shards"
    stated = {one.client: one.preparation.mask_resize for one in joined}
    assert stated == {
        name: (read_shard_cases(shards / f"{name}.h5")["train"][0].mask_resize,) for name in entries
    }
    save = make_client_saver(run, open_job(Job(run.path, ALL_AT_ONCE)).plan)
    late = make_profile("a-late-one", "CT", preparation=Preparation((IntensityRule((0.0, 1.0)),)))
    save([late])
    assert [one.client for one in read_clients(run.joined_clients)] == sorted(
        [*(one.client for one in joined), "a-late-one"]
    )
    assert read_clients(run.joined_clients)[0].preparation == late.preparation


def test_a_damaged_list_of_clients_is_set_aside_and_written_again(tiny):
    root = tiny()
    run = RunFolder(federate(federate_config(root, rounds=1)).folder)
    before = run.joined_clients.read_bytes()
    run.joined_clients.write_text("{", encoding="utf-8")
    federate(federate_config(root, rounds=2))
    assert run.joined_clients.read_bytes() == before
    assert run.joined_clients.with_name("clients-old-1.json").read_text(encoding="utf-8") == "{"


def test_a_run_records_each_machine_on_which_its_server_has_run(tiny, monkeypatch):
    root, own = tiny(), stage.describe_machine()
    federate(federate_config(root, rounds=1))
    config = root / "runs" / "flames" / "config.toml"
    assert read_config(config)["run"]["machines"] == [own]
    other = {**own, "cpu": "another processor"}
    monkeypatch.setattr(stage, "describe_machine", lambda: other)
    for rounds in (2, 3):
        federate(federate_config(root, rounds=rounds))
    assert read_config(config)["run"]["machines"] == [own, other]
