import copy
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict

from flames_cli.core.federated.final_statistics import statistics_of
from flames_cli.core.federated.wire import as_received, narrow, widen
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed import dataset_cache, training
from flames_cli.fed.client import make_client_app
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.engines.inline import InlineGrid, make_contexts
from flames_cli.fed.events import StepDone, ignore
from flames_cli.fed.messages import (
    TrainRequest,
    TrainTask,
    make_query,
    pack_task,
    unpack_profile,
    unpack_report,
)
from flames_cli.fed.node import SHARD_SEPARATOR, NodeSettings, read_profile, settings_of
from flames_cli.fed.records import message_bytes
from flames_cli.learn.data import ShardDataset, in_batches
from flames_cli.learn.devices import place
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, LocalRound, TrainOptions
from flames_cli.store.cases import SetInfo
from flames_cli.store.client_state import load_client_state
from flames_cli.store.h5 import Selection, read_shard_sets, read_shard_summary, write_shard
from flames_cli.store.workspace import partition_folder
from tests.support.asserts import assert_same
from tests.support.datasets import write_noise

pytestmark = pytest.mark.usefixtures("identity")

MODEL = {"base_channels": 4, "depth": 2}
WEIGHTS = to_weights(build_model("unet", seed=1, **MODEL))
RUN = "00112233445566ff"
TRAINING = TrainOptions(local_epochs=2, batch_size=3, lr=1e-2)


@pytest.fixture(scope="module")
def shards(workspace):
    return partition_folder(workspace()) / "shards"


def request(**changes):
    """Return a request, by default for round 2 after an accepted report of round 1."""
    changes = {"last_accepted_round": changes.get("round", 2) - 1, **changes}
    asked = TrainRequest(
        round=2,
        seed=3,
        client="busi",
        training=TRAINING,
        model="unet",
        model_options=json.dumps(MODEL),
        run=RUN,
    )
    options = {name: changes.pop(name) for name in asdict(TRAINING) if name in changes}
    return replace(asked, training=replace(TRAINING, **options), **changes)


def config(*shards, **options):
    return {"shard": SHARD_SEPARATOR.join(map(str, shards)), "device": "cpu", "precision": "fp32", **options}


def ask(node, message, on_event=ignore):
    (reply,) = InlineGrid(make_client_app(on_event), make_contexts({2: node})).send_and_receive([message])
    if reply.has_error():
        raise FlamesError(reply.error.reason)
    return reply


def train(node, on_event=ignore, **changes):
    return unpack_report(ask(node, pack_task(TrainTask(request(**changes), WEIGHTS), 2), on_event))


def sets(*paths, name):
    return ShardDataset([cases for path in paths for cases in read_shard_sets(path, name)])


def test_a_profile_describes_the_shard(shards):
    found = unpack_profile(ask(config(shards / "busi.h5"), make_query(2)))
    held = read_shard_summary(shards / "busi.h5")
    assert (found.client, found.modality, found.organ) == ("busi", "US", "breast")
    assert (found.size, found.channels) == (32, 1)
    assert (found.n_train, found.n_val) == (held.images["train"], held.images["val"])


def test_a_node_may_have_another_name(shards):
    assert unpack_profile(ask(config(shards / "busi.h5", client="clinic"), make_query(2))).client == "clinic"


def test_a_report_is_the_result_of_training(shards):
    report = train(config(shards / "busi.h5"))
    model = place(build_model("unet", seed=9, **MODEL), torch.device("cpu"), "fp32")
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in WEIGHTS.items()})
    local = LocalRound(3, 2, "busi", TRAINING)
    data = [sets(shards / "busi.h5", name=name) for name in ("train", "val")]
    expected = train_epochs(model, *data, local, torch.device("cpu"), "fp32")
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(report.weights[name], array)
    assert (report.n_examples, report.n_steps) == (expected.n_examples, expected.n_steps)
    assert report.metrics == {
        "train_loss": expected.train_loss,
        "best_epoch": expected.best_epoch,
        "trained_val_loss": expected.trained.loss,
        "trained_val_dice": expected.trained.dice,
        **expected.received.numbers("received_"),
    }


def test_pooled_shards_are_one_client(shards):
    both = shards / "busi.h5", shards / "otu2d.h5"
    found = unpack_profile(ask(config(*both, client="US"), make_query(2)))
    report = train(config(*both, client="US"), local_epochs=1)
    assert (found.client, found.modality, found.organ) == ("US", "US", "breast, ovary")
    assert found.n_train == report.n_examples == len(sets(*both, name="train"))
    assert report.n_steps == len(in_batches(range(found.n_train), 3, merge_lone=True))
    assert (report.client, report.modality) == ("US", "US")


def test_shards_of_two_modalities_cannot_be_one_client(shards):
    with pytest.raises(FlamesError, match=r"shards differ in modality \(MRI and US\)"):
        ask(config(shards / "busi.h5", shards / "brats-1.h5"), make_query(2))


def test_shards_of_two_sizes_cannot_be_one_client(shards, tiny):
    larger = partition_folder(tiny(size=48)) / "shards" / "busi.h5"
    with pytest.raises(FlamesError, match=r"shards differ in size \(32 and 48\)"):
        ask(config(shards / "busi.h5", larger), make_query(2))


@pytest.fixture
def colour(tmp_path):
    """Shard of a client with colour images."""
    info = SetInfo("kvasir", "US", "colon", 32, 255, channels=3)
    write_noise(tmp_path / "kvasir.h5", {"client_train": [("a", "a", 3), ("b", "b", 2)]}, info)
    rows = {"train": range(3), "val": range(3, 5), "test": []}
    chosen = {name: Selection(tmp_path / "kvasir.h5", {"client_train": own}) for name, own in rows.items()}
    write_shard(tmp_path / "shard.h5", "kvasir", "US", chosen)
    return tmp_path / "shard.h5"


def test_a_client_of_colour_images_says_so_and_trains_on_them(colour):
    assert unpack_profile(ask(config(colour), make_query(2))).channels == 3
    options = {**MODEL, "in_channels": 3}
    weights = to_weights(build_model("unet", seed=1, **options))
    asked = request(client="kvasir", model_options=json.dumps(options))
    report = unpack_report(ask(config(colour), pack_task(TrainTask(asked, weights), 2)))
    assert report.n_examples == 3
    assert report.weights["encoders.0.0.weight"].shape == (4, 3, 3, 3)


def test_a_client_with_colour_images_cannot_train_a_model_for_grey_ones(colour):
    with pytest.raises(FlamesError, match=r"\(\d, 3, 32, 32\), expected B×1×H×W"):
        train(config(colour))


def test_shards_of_grey_and_colour_images_cannot_be_one_client(shards, colour):
    with pytest.raises(FlamesError, match=r"shards differ in channels \(1 and 3\)"):
        ask(config(shards / "busi.h5", colour), make_query(2))


@pytest.mark.parametrize("node", [{}, {"shard": ""}])
def test_a_node_without_a_shard_says_how_to_give_one(node):
    with pytest.raises(FlamesError, match="names no shard, expected --node-config"):
        ask(node, make_query(2))


def test_a_missing_shard_names_the_command_that_makes_it(tmp_path):
    context = Context(1, 2, config(tmp_path / "gone.h5"), RecordDict(), {})
    with pytest.raises(MissingArtifact, match=r"gone\.h5 does not exist; make it with `flames partition`"):
        read_profile(settings_of(context))


def test_every_step_is_an_event(shards):
    events = []
    report = train(config(shards / "busi.h5"), events.append)
    steps = report.n_steps
    assert events == [StepDone("busi", 2, step, steps) for step in range(1, steps + 1)]


def test_weights_of_another_model_are_rejected(shards):
    with pytest.raises(FlamesError, match="weights do not fit the model"):
        train(config(shards / "busi.h5"), model_options='{"base_channels": 8, "depth": 2}')


@pytest.mark.parametrize("name", ["seed", "norm", "encoder_weights"])
def test_an_option_of_the_server_that_is_none_of_the_model_is_rejected_by_name(shards, name):
    with pytest.raises(FlamesError, match=f"unknown option '{name}' of model unet"):
        train(config(shards / "busi.h5"), model_options=json.dumps({name: 1}))


def test_the_test_set_is_never_read(shards, monkeypatch):
    opened = spy_on_reading(monkeypatch)
    ask(config(shards / "busi.h5"), make_query(2))
    train(config(shards / "busi.h5"))
    assert {name for _, name in opened} == {"train", "val"}


def spy_on_reading(monkeypatch):
    """[(shard, set)] of every set that clients read from here on."""
    opened = []

    def read(path, set_name):
        opened.append((path.name, set_name))
        return read_shard_sets(path, set_name)

    monkeypatch.setattr(dataset_cache, "read_shard_sets", read)
    return opened


def test_a_shard_is_decoded_once_while_it_fits(shards, monkeypatch):
    opened, cache = spy_on_reading(monkeypatch), DatasetCache()
    first = cache.load(NodeSettings((shards / "busi.h5",)), "train")
    assert cache.load(NodeSettings((shards / "busi.h5",)), "train") is first
    assert len(cache.load(NodeSettings((shards / "busi.h5",)), "val")) > 0
    assert opened == [("busi.h5", "train"), ("busi.h5", "val")]


def test_a_shard_that_was_written_again_is_read_again(shards, monkeypatch, tmp_path):
    shard = Path(shutil.copy(shards / "busi.h5", tmp_path / "busi.h5"))
    opened, cache = spy_on_reading(monkeypatch), DatasetCache()
    first = cache.load(NodeSettings((shard,)), "train")
    os.utime(shard, ns=(1, 1))
    second = cache.load(NodeSettings((shard,)), "train")
    assert second is not first
    assert cache.load(NodeSettings((shard,)), "train") is second
    assert len(opened) == 2


def test_a_shard_beyond_the_room_is_read_each_time(shards, monkeypatch):
    opened, cache = spy_on_reading(monkeypatch), DatasetCache()
    settings = NodeSettings((shards / "busi.h5",), cache_share=0)
    one, other = (cache.load(settings, "train") for _ in range(2))
    assert len(one) == len(other)
    assert len(opened) == 2


SDNET = {"base_channels": 2, "depth": 2}


@pytest.fixture
def memory(tmp_path):
    """Folder of the client state."""
    return tmp_path / "memory"


def kept_in(memory, client="busi"):
    """Return the current state of `client`, by kind."""
    return load_client_state(memory / RUN / client, 99999)


@pytest.fixture
def disentangled(shards, memory):
    """Rounds of one client with an sdnet: rounds(weights, share=…, …) → (its report, its client state)."""

    def run(weights, control=None, style=None, folder=memory, **changes):
        asked = request(
            model="sdnet", model_options=json.dumps(SDNET), local_epochs=1, initial_seed=9, **changes
        )
        message = pack_task(TrainTask(asked, weights, control, style), 2)
        return unpack_report(
            ask(config(shards / "busi.h5", **{"client-state": str(folder)}), message), lambda _: weights
        ), kept_in(folder)

    return run


def of_sdnet(seed=9):
    return build_model("sdnet", seed=seed, **SDNET)


def without(weights, names):
    return {name: array for name, array in weights.items() if name not in names}


def test_style_stays_at_the_client_and_is_used_again(disentangled, tmp_path):
    style = of_sdnet().style_entries()
    content = without(to_weights(of_sdnet()), style)
    report, memory = disentangled(content, share="content")
    assert set(report.weights) == set(content)
    assert set(memory["style"]) == set(style)
    again, later = disentangled(content, share="content", round=3)
    assert any(not np.array_equal(memory["style"][name], later["style"][name]) for name in style)
    # The same round from the same content: only the stored style differs.
    fresh, _ = disentangled(content, share="content", round=3, folder=tmp_path / "other")
    assert any(not np.array_equal(fresh.weights[name], again.weights[name]) for name in content)


def test_a_repeated_round_starts_from_the_client_state_before_it(disentangled):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    disentangled(content, share="content", round=1)
    first = disentangled(content, share="content", round=2)
    disentangled(content, share="content", round=3)
    again = disentangled(content, share="content", round=2)
    for one, other in ((first[0].weights, again[0].weights), (first[1]["style"], again[1]["style"])):
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


def test_client_state_of_a_report_that_was_not_accepted_is_not_used(disentangled):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    disentangled(content, share="content", round=1)
    disentangled(content, share="content", round=2)
    late = disentangled(content, share="content", round=3, last_accepted_round=1)
    again = disentangled(content, share="content", round=3, last_accepted_round=1)
    taken = disentangled(content, share="content", round=4, last_accepted_round=3)
    for name, array in late[1]["style"].items():
        np.testing.assert_array_equal(array, again[1]["style"][name])
    assert any(not np.array_equal(array, taken[1]["style"][name]) for name, array in late[1]["style"].items())


def test_a_missed_round_does_not_lose_the_client_state(disentangled, memory):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    _, kept = disentangled(content, share="content", round=1)
    with pytest.raises(FlamesError, match="weights do not fit"):
        disentangled({"w": np.zeros(1, np.float32)}, share="content", round=2)
    assert_same(kept_in(memory)["style"], kept["style"])


def test_two_runs_and_two_clients_of_one_machine_keep_apart(disentangled, shards, memory):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    _, kept = disentangled(content, share="content", round=1)
    disentangled(content, share="content", round=1, seed=8, run=RUN[::-1])
    node = config(shards / "busi.h5", client="../busi", **{"client-state": str(memory)})
    asked = request(model="sdnet", model_options=json.dumps(SDNET), local_epochs=1, share="content", seed=7)
    ask(node, pack_task(TrainTask(asked, content), 2))
    assert_same(kept_in(memory)["style"], kept["style"])
    assert sorted(path.name for path in memory.iterdir()) == sorted([RUN, RUN[::-1]])
    assert sorted(path.name for path in (memory / RUN).iterdir()) == ["%2E.%2Fbusi", "busi"]


def test_a_node_without_a_memory_takes_part_only_where_none_is_needed(shards):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    train(config(shards / "busi.h5"), local_epochs=1)
    asked = request(model="sdnet", model_options=json.dumps(SDNET), share="content")
    with pytest.raises(FlamesError, match="pass --node-config 'client-state="):
        ask(config(shards / "busi.h5"), pack_task(TrainTask(asked, content), 2))


def test_a_token_that_names_another_folder_is_rejected(disentangled, memory):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    with pytest.raises(FlamesError, match=r"run's token is '\.\./\.\.', expected 16 hex digits"):
        disentangled(content, share="content", run="../..")
    assert not memory.exists()


@pytest.mark.parametrize("wire", ["fp16", "bf16"])
def test_client_state_is_exact_whatever_the_wire_type(wire, disentangled):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    report, kept = disentangled(content, share="content", wire_dtype=wire)
    style = [array for array in kept["style"].values() if array.dtype == np.float32]
    assert any(not np.array_equal(array, as_carried(array, wire)) for array in style)
    for array in statistics_of(report.weights).values():
        assert not np.array_equal(array, as_carried(array, wire))


def test_what_reports_in_8_bits_leave_out_is_in_the_client_state_and_in_the_next_report(shards, tmp_path):
    weights = as_received(WEIGHTS, "int8")

    def ask_for(wire, round_, accepted=0):
        asked = request(wire_dtype=wire, round=round_, last_accepted_round=accepted)
        node = config(shards / "busi.h5", **{"client-state": str(tmp_path / wire)})
        reply = ask(node, pack_task(TrainTask(asked, weights), 2))
        return unpack_report(reply, lambda _: weights).weights, message_bytes(reply)

    left = {}
    for round_ in (1, 2):
        trained, full = ask_for("fp32", round_)
        found, few = ask_for("int8", round_, round_ - 1)
        before, left = left, kept_in(tmp_path / "int8")["residual"]
        assert few < 0.5 * full
        for name, array in left.items():
            expected = trained[name] + before.get(name, 0)
            np.testing.assert_allclose(found[name] + array, expected, rtol=1e-6, atol=1e-6)
            assert np.abs(array).max() <= np.abs(expected - weights[name]).max() / 254 + 1e-6
    assert left.keys() == set(WEIGHTS) - set(statistics_of(WEIGHTS)) - counters(WEIGHTS)
    np.testing.assert_equal(ask_for("int8", 2, 1), (found, few))  # the round is repeated with the same state


def counters(weights):
    return {name for name, array in weights.items() if array.dtype.kind == "i"}


def as_carried(array, wire):
    narrowed, dtypes = narrow({"w": array}, wire)
    return widen(narrowed, wire, dtypes)["w"]


def test_the_first_style_is_that_of_the_runs_initial_weights(disentangled):
    whole = to_weights(of_sdnet())
    shared, _ = disentangled(without(whole, of_sdnet().style_entries()), share="content")
    everything, _ = disentangled(whole)
    for name, array in shared.weights.items():
        np.testing.assert_array_equal(array, everything.weights[name])


def test_a_renderer_leaves_the_client_only_on_request(disentangled):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    assert disentangled(content, share="content")[0].style is None
    report, _ = disentangled(content, share="content", report_style=True)
    assert set(report.style) == set(of_sdnet().renderer_entries())
    assert not set(report.weights) & set(report.style)


def test_another_clients_renderer_changes_training(disentangled):
    whole = to_weights(of_sdnet())
    other = {name: to_weights(of_sdnet(1))[name] for name in of_sdnet().renderer_entries()}
    alone, styled = disentangled(whole)[0], disentangled(whole, style=other)[0]
    assert any(not np.array_equal(alone.weights[name], styled.weights[name]) for name in whole)


def test_scaffold_reports_the_change_of_the_client_state(shards, memory):
    node = config(shards / "busi.h5", **{"client-state": str(memory)})
    parameters = [name for name, _ in build_model("unet", seed=1, **MODEL).named_parameters()]
    control = {name: np.full_like(WEIGHTS[name], 0.01) for name in parameters}
    asked = request(rule="scaffold", optimiser="sgd", lr=0.1)
    total = {name: np.zeros_like(array) for name, array in control.items()}
    for round_ in (1, 2):
        task = TrainTask(replace(asked, round=round_, last_accepted_round=round_ - 1), WEIGHTS, control)
        report = unpack_report(ask(node, pack_task(task, 2)))
        for name, change in report.control.items():
            total[name] += change
            expected = (WEIGHTS[name] - report.weights[name]) / (report.n_steps * 0.1) - control[name]
            np.testing.assert_allclose(change, expected, rtol=1e-4, atol=1e-5)
    kept = kept_in(memory)["control"]
    for name in parameters:
        np.testing.assert_allclose(kept[name], total[name], rtol=1e-5, atol=1e-6)


def test_a_second_round_of_scaffold_starts_from_the_client_state(shards, memory):
    node = config(shards / "busi.h5", **{"client-state": str(memory)})
    parameters = [name for name, _ in build_model("unet", seed=1, **MODEL).named_parameters()]
    asked = request(rule="scaffold", optimiser="sgd", lr=0.1)
    controls = [{name: np.full_like(WEIGHTS[name], value) for name in parameters} for value in (0.01, -0.02)]
    ask(node, pack_task(TrainTask(replace(asked, round=1, last_accepted_round=0), WEIGHTS, controls[0]), 2))
    kept = kept_in(memory)["control"]
    reply = ask(node, pack_task(TrainTask(asked, WEIGHTS, controls[1]), 2))
    local = LocalRound(
        seed=3,
        round=2,
        client="busi",
        options=replace(TRAINING, lr=0.1, optimiser="sgd"),
        rule="scaffold",
        controls=Controls(controls[1], kept),
    )
    model = place(build_model("unet", seed=1, **MODEL), torch.device("cpu"), "fp32")
    train_set, val_set = (sets(shards / "busi.h5", name=name) for name in ("train", "val"))
    expected = train_epochs(model, train_set, val_set, local, torch.device("cpu"), "fp32")
    for name, array in unpack_report(reply).weights.items():
        np.testing.assert_array_equal(array, expected.weights[name])


@pytest.mark.parametrize("spoiled", ["style.mean.weight", "content.head.weight"])
def test_client_state_that_is_not_finite_is_not_saved(spoiled, disentangled, monkeypatch):
    content = without(to_weights(of_sdnet()), of_sdnet().style_entries())
    _, before = disentangled(content, share="content", round=1)

    def spoil(*args, **options):
        result = train_epochs(*args, **options)
        result.weights[spoiled][...] = np.nan
        return result

    monkeypatch.setattr(training, "train_epochs", spoil)
    _, after = disentangled(content, share="content")
    for name, array in before["style"].items():
        np.testing.assert_array_equal(after["style"][name], array)


def test_the_client_does_as_the_request_says(shards, monkeypatch):
    asked = []

    def train(model, train_set, val_set, local, *rest):
        asked.append(local)
        return train_epochs(model, train_set, val_set, local, *rest)

    monkeypatch.setattr(training, "train_epochs", train)
    options = {"keep_epoch": "last", "optimiser": "adamw", "weight_decay": 0.5, "proximal_mu": 2.0}
    sent = request(rule="fedgs", precise_norm=False, **options)
    ask(config(shards / "busi.h5"), pack_task(TrainTask(sent, WEIGHTS), 2))
    (local,) = asked
    assert local.options == sent.training == replace(TRAINING, precise_norm=False, **options)
    assert local.rule == "fedgs"


def test_plain_rounds_leave_nothing_behind(disentangled, memory):
    assert disentangled(to_weights(of_sdnet()))[1] == {}
    assert not memory.exists()


def test_a_clients_context_stays_empty(shards, memory):
    contexts = make_contexts({2: config(shards / "busi.h5", **{"client-state": str(memory)})})
    parameters = [name for name, _ in build_model("unet", seed=1, **MODEL).named_parameters()]
    control = {name: np.zeros_like(WEIGHTS[name]) for name in parameters}
    asked = request(rule="scaffold", optimiser="sgd", local_epochs=1)
    message = pack_task(TrainTask(asked, WEIGHTS, control), 2)
    (reply,) = InlineGrid(make_client_app(), contexts).send_and_receive([message])
    assert not reply.has_error()
    assert len(contexts[2].state) == 0


def test_a_cache_is_sent_to_another_process_without_its_content():
    cache = DatasetCache()
    cache._kept["key"] = None
    assert copy.deepcopy(cache)._kept == {}  # as pickle, which ray uses
