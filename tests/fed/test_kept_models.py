"""The models that a node keeps at its site: the final one, and the best so far."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from flames_cli.errors import FlamesError, NotWritten
from flames_cli.fed import best_so_far, kept_models
from flames_cli.fed.best_so_far import NEWEST, NOT_ENDED, PRIVATE, keep_best_so_far
from flames_cli.fed.client import make_client_app
from flames_cli.fed.engines.inline import InlineGrid, make_contexts
from flames_cli.fed.final_model import (
    KEEP,
    FinalModel,
    StoredModel,
    pack_final_model,
    pack_stored,
    unpack_final_model,
    unpack_stored,
)
from flames_cli.fed.messages import REPORT, TrainRequest, TrainTask, pack_task
from flames_cli.fed.node import SHARD_SEPARATOR, NodeSettings, read_profile
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.predict import Validation
from flames_cli.learn.train_options import TrainOptions
from flames_cli.learn.use import open_model
from flames_cli.store.h5 import read_shard_summary
from flames_cli.store.models import read_model
from flames_cli.store.seen import find_seen
from flames_cli.store.weights import hash_weights
from flames_cli.store.workspace import partition_folder
from tests.support.asserts import assert_same

pytestmark = pytest.mark.usefixtures("identity")

OPTIONS = {"base_channels": 4, "depth": 2}
WEIGHTS = to_weights(build_model("unet", seed=1, **OPTIONS))
COLOUR = {**OPTIONS, "in_channels": 3}
COLOUR_WEIGHTS = to_weights(build_model("unet", seed=1, **COLOUR))
RUN = "00112233445566ff"
REQUEST = TrainRequest(
    round=5,
    seed=3,
    client="busi",
    training=TrainOptions(batch_size=4),
    model="unet",
    model_options=json.dumps({**OPTIONS, "in_channels": 1}),
    run=RUN,
    run_name="trial",
    strategy="flames",
    rounds=6,
)


def made(weights=WEIGHTS, sha256="", why="the last round", **changes):
    task = TrainTask(replace(REQUEST, **changes), weights)
    return FinalModel(task, sha256 or hash_weights(weights), why)


@pytest.fixture(scope="module")
def shard(workspace):
    return partition_folder(workspace()) / "shards" / "busi.h5"


@pytest.fixture
def models(tmp_path):
    return tmp_path / "site" / "models"


@pytest.fixture
def settings(shard, models):
    return NodeSettings((shard,), device="cpu", precision="fp32", models=models)


@pytest.fixture
def keep(shard, models):
    """keep(model): the answer of a node to the message with it."""
    node = {"shard": SHARD_SEPARATOR.join([str(shard)]), "device": "cpu", "precision": "fp32"}

    def send(message, folder=models, **options):
        config = {**node, "models": str(folder) if folder else "", **options}
        grid = InlineGrid(make_client_app(), make_contexts({2: config}))
        (reply,) = grid.send_and_receive([message])
        if reply.has_error():
            raise FlamesError(reply.error.reason)
        return unpack_stored(reply)

    return send


def test_a_model_comes_back_from_its_message_to_the_last_bit():
    found = unpack_final_model(pack_final_model(made(), 2))
    assert (found.sha256, found.why, found.task.request) == (made().sha256, made().why, REQUEST)
    assert_same(found.task.weights, WEIGHTS)


def test_the_reason_is_one_line_whatever_a_server_sends():
    found = unpack_final_model(pack_final_model(made(why="a\nb\x1b[2J" + "x" * 9999), 2))
    assert found.why.isprintable()
    assert len(found.why) <= 500


@pytest.mark.parametrize("sha256", ["", "x" * 64, "0" * 63, 7, "A" * 64])
def test_a_message_or_an_answer_without_a_checksum_is_rejected(sha256):
    message = pack_final_model(made(), 2)
    answer = pack_stored(StoredModel("busi", 5, "0" * 64), message)
    message.content[KEEP] = ConfigRecord({"sha256": sha256, "why": ""})
    answer.content.config_records[REPORT]["sha256"] = sha256
    for unpack, broken in ((unpack_final_model, message), (unpack_stored, answer)):
        with pytest.raises(ValueError, match="SHA-256"):
            unpack(broken)


def test_a_message_without_facts_is_none():
    with pytest.raises(KeyError):
        unpack_final_model(pack_task(made().task, 2, "evaluate.keep"))
    with pytest.raises(KeyError):
        unpack_stored(Message(RecordDict(), reply_to=pack_final_model(made(), 2)))


def test_a_node_stores_its_model_and_answers_with_the_checksum(keep, models, shard):
    assert keep(pack_final_model(made(), 2)) == StoredModel("busi", 5, hash_weights(WEIGHTS))
    info, weights = read_model(models / "trial")
    assert_same(weights, WEIGHTS)
    assert (info.name, info.input.modality, info.input.organs, info.input.size) == (
        "trial",
        "US",
        ("breast",),
        32,
    )
    training = info.training
    assert (training.kind, training.client, training.round, training.rounds) == ("client", "busi", 5, 6)
    assert (training.token, training.why) == (RUN, "the last round")
    assert [one.client for one in training.clients] == ["busi"]
    assert set(info.validation) == {"dice", "images", "patients"}
    assert info.privacy == {}
    assert info.seen == find_seen([shard])
    assert info.seen.n_images == read_shard_summary(shard).images["train"]
    assert "busi" in (models / "trial" / "README.md").read_text(encoding="utf-8")
    images = np.zeros((2, 32, 32), np.float32)
    assert open_model(info, weights, "cpu", "fp32").probabilities(images).shape == (2, 32, 32)


def test_a_model_of_a_private_run_has_its_privacy_and_no_numbers_of_images(keep, models):
    keep(pack_final_model(made(clip=1.0, epsilon=3.5, delta=1e-5), 2))
    info, _ = read_model(models / "trial")
    assert info.privacy == {"epsilon": 3.5, "delta": 1e-5}
    assert (info.training.clients, info.validation, info.seen) == ((), {}, None)


def test_the_model_of_another_run_of_the_same_name_is_set_aside(keep, models):
    keep(pack_final_model(made(), 2))
    keep(pack_final_model(made(run="ff" * 8), 2))
    assert read_model(models / "trial-old-1")[0].training.token == RUN
    assert read_model(models / "trial")[0].training.token == "ff" * 8


def spoiled(change):
    weights = {name: array.copy() for name, array in WEIGHTS.items()}
    change(weights)
    return weights


def _negative(weights):
    name = next(name for name in weights if name.endswith("running_var"))
    weights[name][0] = -1


FIRST = next(iter(WEIGHTS))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (made(client="brats"), "the model of client 'brats', expected that of busi"),
        (made(client="b\x1b[2J\nx"), r"of client 'b\[2J x'"),
        (made(run=""), "the run's token is ''"),
        (made(run="../../../../etc"), "the run's token is"),
        (made(run_name=""), "without the name of its run"),
        (made(run_name="../trial"), r"names the run '\.\./trial', expected"),
        (made(run_name="."), "names the run"),
        (made(run_name="a/b"), "names the run"),
        (made(run_name="x" * 65), "names the run"),
        (made(strategy="s" * 999), "strategy is not a name"),
        (made(sha256="0" * 64), "has the checksum .*the server states 000000000000"),
        (made(spoiled(lambda w: w.pop(FIRST))), "weights do not fit the model: missing"),
        (made(spoiled(lambda w: w.update(more=np.zeros(2)))), "weights do not fit the model: unknown more"),
        (made(spoiled(lambda w: w.update({FIRST: np.zeros((9, 9), np.float32)}))), "has shape"),
        (made(spoiled(lambda w: w.update({FIRST: w[FIRST].astype(np.float64)}))), "is float64, expected"),
        (made(spoiled(lambda w: w[FIRST].fill(np.nan))), "not finite"),
        (made(spoiled(lambda w: w[FIRST].fill(np.inf))), "not finite"),
        (made(spoiled(_negative)), "negative variance"),
        (made(rounds=-1), "rounds -1"),
        (made(epsilon=float("nan")), "epsilon nan"),
        (made(model="no-such-model"), "no-such-model"),
        (made(COLOUR_WEIGHTS, model_options=json.dumps(COLOUR)), "in_channels = 3, but the images have 1"),
    ],
)
def test_a_model_that_is_not_right_is_rejected_and_nothing_is_written(model, says, keep, models):
    with pytest.raises(FlamesError, match=says):
        keep(pack_final_model(model, 2))
    assert not models.exists() or not [path for path in models.iterdir() if path.is_dir()]


def test_a_node_without_a_folder_keeps_nothing(keep, tmp_path):
    with pytest.raises(FlamesError, match="keeps no models"):
        keep(pack_final_model(made(), 2), folder=None)


def test_a_run_cannot_make_a_simulated_node_write_models(keep, shard, tmp_path):
    """Only the node's own configuration names the folder."""
    from types import SimpleNamespace

    from flames_cli.fed.node import settings_of
    from flames_cli.store.runs import write_nodes

    write_nodes(tmp_path / "nodes.json", [{"shard": str(shard), "models": str(tmp_path / "m")}])
    context = SimpleNamespace(
        node_config={"partition-id": 0}, run_config={"nodes": str(tmp_path / "nodes.json")}
    )
    assert settings_of(context).models is None


def test_errors_of_a_real_node_stay_in_its_log(keep):
    with pytest.raises(FlamesError, match="the reason is in the node's own log"):
        keep(pack_final_model(made(sha256="0" * 64), 2), private=True)


def test_a_full_disk_leaves_no_half_model(keep, models, monkeypatch):
    def fail(*_):
        raise NotWritten("the disk is full")

    monkeypatch.setattr("flames_cli.store.models.write_text", fail)
    with pytest.raises(NotWritten):
        keep(pack_final_model(made(), 2))
    assert not [path for path in models.iterdir() if not path.name.endswith(".lock")]


def best(settings, models, round_, dice, client="busi", **changes):
    request = replace(REQUEST, round=round_, **changes)
    validation = None if dice is None else Validation(0.5, dice, 3, 2)
    weights = spoiled(lambda w: w[FIRST].fill(round_))
    keep_best_so_far(request, settings, read_profile(settings), validation, lambda: weights)
    folder = models / "trial-best-so-far"
    return read_model(folder)[0].training.round if folder.exists() else None


def test_the_best_model_so_far_is_kept_by_the_sites_own_validation(settings, models):
    found = [
        best(settings, models, round_, dice) for round_, dice in ((2, 0.3), (3, 0.2), (4, 0.5), (5, 0.5))
    ]
    assert found == [1, 1, 3, 3]
    info, weights = read_model(models / "trial-best-so-far")
    assert (info.training.why, info.validation["dice"]) == (NOT_ENDED, 0.5)
    assert weights[FIRST].flat[0] == 4


def test_without_validation_patients_the_newest_is_kept(settings, models):
    assert [best(settings, models, round_, None) for round_ in (2, 3, 5)] == [1, 2, 4]
    assert read_model(models / "trial-best-so-far")[0].training.why == NEWEST


def test_a_private_run_keeps_the_newest_without_its_validation(settings, models):
    found = [best(settings, models, round_, dice, clip=1.0) for round_, dice in ((2, 0.9), (3, 0.1))]
    info, _ = read_model(models / "trial-best-so-far")
    assert (found, info.training.why, info.validation) == ([1, 2], PRIVATE, {})


def test_the_initial_model_and_one_that_is_not_finite_are_not_kept(settings, models, monkeypatch):
    assert best(settings, models, 1, 0.9) is None
    monkeypatch.setattr(best_so_far, "find_not_finite", lambda weights: "nan")
    assert best(settings, models, 2, 0.9) is None


def test_a_simulated_node_keeps_no_model_and_makes_no_weights(settings, models):
    request = replace(REQUEST, round=3)

    def fail():
        raise AssertionError

    for one in (replace(settings, models=None), settings):
        asked = request if one.models is None else replace(request, run_name="")
        keep_best_so_far(asked, one, read_profile(settings), None, fail)
    assert not models.exists()


def test_weights_are_made_only_for_a_better_model(settings, models):
    best(settings, models, 3, 0.5)

    def fail():
        raise AssertionError

    validation = Validation(0.5, 0.4, 3, 2)
    keep_best_so_far(replace(REQUEST, round=4), settings, read_profile(settings), validation, fail)


@pytest.mark.parametrize("error", [NotWritten, OSError])
def test_a_fault_costs_the_round_nothing(error, settings, models, monkeypatch, capsys):
    def fail(*_, **__):
        raise error("the disk is full")

    monkeypatch.setattr(best_so_far, "keep_model", fail)
    assert best(replace(settings, private=True), models, 2, 0.5) is None
    assert "could not be kept: the disk is full" in capsys.readouterr().err


def test_the_final_model_takes_the_place_of_the_best_so_far(settings, models, keep):
    best(settings, models, 3, 0.5)
    keep(pack_final_model(made(), 2))
    assert [path.name for path in models.iterdir() if path.is_dir()] == ["trial"]


def test_the_log_names_the_folder_and_the_command(settings, models, capsys):
    from flames_cli.fed.dataset_cache import DatasetCache

    real = replace(settings, private=True)
    kept_models.keep_final_model(made(), real, read_profile(real), DatasetCache())
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("FLAMES: ") for line in lines)
    assert lines[-1] == f"FLAMES:   flames predict --model {models / 'trial'} IMAGES --out masks"
