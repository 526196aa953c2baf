"""Data never leaves a node: every message of complete runs is recorded and searched."""

import json
import math
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import fields
from typing import ClassVar

import h5py
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message
from flwr.common.serde import message_to_proto

from flames_cli.config import FederateConfig, PartitionConfig
from flames_cli.core.federated.choice import CANDIDATES
from flames_cli.core.scores.summaries import REPORTED_METRICS
from flames_cli.errors import FlamesError
from flames_cli.fed import client_evaluation as node_test
from flames_cli.fed.choice_records import CHOICE, DICE, GAIN, POOLED
from flames_cli.fed.client import make_client_app
from flames_cli.fed.engines import inline
from flames_cli.fed.evaluation_report import FIELDS
from flames_cli.fed.federation import Federation
from flames_cli.fed.final_model import KEEP
from flames_cli.fed.final_report import NUMBERS, OWN, SERVER
from flames_cli.fed.messages import (
    ARRAYS,
    BLEND,
    CONTROL,
    METRICS,
    REPORT,
    SERVER_MODEL,
    STYLE,
    SUM,
    TRAIN,
    Profile,
    SumNote,
    TrainRequest,
)
from flames_cli.fed.records import WIRE, pack_weights
from flames_cli.fed.secure.messages import BLOBS, SECURE, WORDS
from flames_cli.fed.server import make_server_app
from flames_cli.fed.server_delivery import Delivery
from flames_cli.learn.train_options import TrainOptions
from flames_cli.stages.federate.inputs import node_configs
from flames_cli.stages.federate.planning import choose_algorithm, make_plan
from flames_cli.stages.partition.stage import partition
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import open_partition, read_partition
from flames_cli.store.workspace import DEFAULT_PARTITION, partition_file, partition_folder
from tests.support.packed import entries_in

METRICS_TOLD = {
    *NUMBERS,
    *("n_examples", "n_steps", "train_loss", "best_epoch"),
    *(f"{when}_val_{what}" for when in ("received", "trained") for what in ("loss", "dice")),
}
TESTS_TOLD = {"n", *(f"{name}.{field}" for name in REPORTED_METRICS for field in FIELDS)}
CASES_TOLD = {f"{name}.cases" for name in REPORTED_METRICS}
RECORDS = (ARRAYS, CONTROL, STYLE, SERVER_MODEL, BLEND, OWN, SERVER)
"""Records of a message that may contain arrays."""
RUN = 16
"""Number of consecutive bytes of an image that no message contains by chance."""

ARMS = {
    "flames": {},
    "flames-adaptive": {},
    "scaffold": {"optimiser": "sgd"},
    "fedgs": {"model": "sd-utnet", "share": "content", "wire_dtype": "int8"},
    "flames-fedgs": {"model": "sd-utnet", "style_from": 2, "wire_dtype": "fp16"},
    "secure": {"strategy": "fedavg", "secure_aggregation": True},
}


class Recorder(inline.InlineGrid):
    """A grid that stores every message in both directions."""

    kept: ClassVar[list[Message]] = []

    def push_messages(self, messages):
        listed = list(messages)
        self.kept.extend(listed)
        return super().push_messages(listed)

    def pull_messages(self, message_ids):
        replies = super().pull_messages(message_ids)
        self.kept.extend(replies)
        return replies


KEPT = "ward-9f2c71"
"""Value of a column of the manifest that the user kept."""


@pytest.fixture(scope="module")
def data(tiny):
    """Return the workspace of a federation, whose shards have a kept column."""
    workspace = tiny()
    for path in (workspace / "preprocessed").glob("*.h5"):
        with h5py.File(path, "r+") as file:
            for cases in file.values():
                cases["extra"] = np.array([json.dumps({"ward": KEPT})] * len(cases["image"]), "S40")
    partition(PartitionConfig(workspace=workspace, split={"brats": 2}, overwrite=True))
    return workspace


@pytest.fixture
def record(data, monkeypatch, tmp_path):
    """record("flames", per_case=False, leak=None): all messages of a run over real shards, and its plan."""

    def run(arm, per_case=False, leak=None):
        unet = {"model": "unet", "model_options": {"base_channels": 4, "depth": 2}}
        options = {"strategy": arm, **unet, **ARMS[arm]}
        if options["model"] == "sd-utnet":
            options["model_options"] = {**options["model_options"], "heads": 2, "content_channels": 2}
        config = FederateConfig(
            workspace=data, rounds=1 if leak else 2, batch_size=16, device="cpu", **options
        )
        divided = open_partition(data, DEFAULT_PARTITION)
        made = divided.content
        facts = {"size": made.size, "channels": made.channels, "token": "0123456789abcdef"}
        plan = make_plan(config, facts, None)
        nodes = node_configs(config, choose_algorithm(config), divided, tmp_path / "memory")
        nodes = [{**node, "per-case": per_case, "models": str(tmp_path / "models")} for node in nodes]
        app = make_client_app()
        if leak:
            app = leak(app)
        monkeypatch.setattr(inline, "InlineGrid", Recorder)
        monkeypatch.setattr(node_test, "LEAST_CASES", 1)
        Recorder.kept = []
        federation = Federation(
            plan,
            save_evaluations=None if config.secure_aggregation else lambda *told: None,
            save_final=lambda *found: None,
            delivery=Delivery(dict, lambda *kept: None, lambda state: "the last round"),
        )
        contexts = inline.make_contexts(dict(enumerate(nodes, 2)))
        # The server rejects some leaks, but the messages were sent before.
        with suppress(FlamesError) if leak else nullcontext():
            inline.run_inline(make_server_app(lambda _: federation), app, contexts)
        return Recorder.kept, plan

    return run


def images_of(data) -> Iterator[np.ndarray]:
    """Return every client's images, as stored."""
    for client in read_partition(partition_file(data)).clients:
        for set_name in ("train", "val", "test"):
            for cases in read_shard_sets(partition_folder(data) / client.shard, set_name, complete=True):
                yield from cases.images


def find_pixels(image: np.ndarray, wire: bytes) -> bool:
    """Return True if `wire` contains distinctive pixels of `image`, as stored or as floats."""
    row = image[image.shape[0] // 2].reshape(-1)
    unit = (row / np.iinfo(image.dtype).max).astype(np.float32)
    for form in (row, unit, (unit - 0.5) / 0.5, unit.astype(np.float16)):
        n = max(RUN // form.itemsize, 4)
        middle = form[(len(form) - n) // 2 :][:n]
        if len(np.unique(middle)) >= 4 and middle.tobytes() in wire:
            return True
    return False


def find_leaks(messages, plan, data, per_case=False) -> list[str]:
    """Return the parts of `messages` that must not be there."""
    wire = b"".join(message_to_proto(message).SerializeToString() for message in messages)
    patients = {
        patient
        for client in read_partition(partition_file(data)).clients
        for patient in (one for listed in client.patients.values() for one in listed)
    }
    found = [f"patient {name}" for name in patients if len(name) > 3 and name.encode() in wire]
    found += ["a kept column"] if KEPT.encode() in wire else []
    found += ["an image" for image in images_of(data) if find_pixels(image, wire)]
    shapes = {name: array.shape for name, array in plan.initial.items()}
    for message in messages:
        found += [
            f"array {record}/{name} {array.shape}"
            for record, arrays in message.content.array_records.items()
            for name, array in (entries_in(arrays) if record in RECORDS else arrays).items()
            if record not in (BLOBS, WORDS)
            if record not in RECORDS or name not in shapes or not is_as_large(array, shapes[name])
        ]
        told = METRICS_TOLD | TESTS_TOLD | (CASES_TOLD if per_case else set())
        for record, metrics in message.content.metric_records.items():
            found += [f"metric {name}" for name in metrics if record != METRICS or name not in told]
        found += [
            f"metric {name} of many"
            for metrics in message.content.metric_records.values()
            for name, value in metrics.items()
            if isinstance(value, list) and name not in (CASES_TOLD if per_case else set())
        ]
        for record, config in message.content.config_records.items():
            found += [f"config {record}/{key}" for key in config if not expected_config(record, key, shapes)]
            found += [
                f"config {record}/{key} = {value}"
                for key, value in config.items()
                if str(value) in patients and isinstance(value, str)
            ]
    return found


def is_as_large(array, shape):
    """Return whether an array has the shape of its entry, or is empty, or has a byte a value and scales."""
    size = math.prod(shape)
    return array.shape in (shape, (0,)) or (array.dtype == np.uint8 and array.size <= size + 4 + size // 256)


def expected_config(record, key, shapes) -> bool:
    if record == TRAIN:
        return key in {field.name for kind in (TrainRequest, TrainOptions) for field in fields(kind)}
    if record == REPORT:
        return key in {"round", "sha256", *(field.name for field in fields(Profile))}
    if record == SECURE:
        return key in {"session", "run", "names", "client", "modality", "round"}
    if record == SUM:
        return key in {field.name for field in fields(SumNote)}
    if record == KEEP:
        return key in {"sha256", "why"}
    if record == CHOICE:
        of_all = {"pick", "patients", "n_clients", "rounds"}
        return key in of_all | {start + name for start in (DICE, GAIN, POOLED) for name in CANDIDATES}
    return record == WIRE and (key == "type" or key.partition("/")[2] in shapes)


@pytest.mark.federated
@pytest.mark.parametrize("arm", ARMS)
def test_no_message_of_a_run_holds_an_image_a_mask_or_a_patient(arm, record, data):
    messages, plan = record(arm)
    kinds = {message.metadata.message_type for message in messages}
    secure = {"query.keys", "query.shares", "query.unmask"} if arm == "secure" else {"evaluate"}
    assert {"train", "evaluate.final", "evaluate.keep", "query", *secure} <= kinds
    assert not [message for message in messages if message.has_error()]
    assert find_leaks(messages, plan, data) == []


@pytest.mark.federated
def test_replies_of_a_secure_run_have_a_masked_vector_in_place_of_weights_and_numbers(record):
    messages, _ = record("secure")
    parts: dict[str, set[tuple[str, ...]]] = {}
    for message in messages:
        if message.metadata.reply_to_message_id:
            parts.setdefault(message.metadata.message_type, set()).add(tuple(sorted(message.content)))
    asked, masked = {tuple(sorted((SECURE, BLOBS)))}, {tuple(sorted((SECURE, WORDS)))}
    assert parts == {
        **{f"query.{action}": asked for action in ("keys", "shares", "unmask")},
        **dict.fromkeys(("train", "evaluate.final"), masked),
        **{kind: {(REPORT,)} for kind in ("query", "evaluate.keep")},
    }


def test_scores_of_cases_are_reported_only_if_the_owner_allows_it(record, data):
    messages, plan = record("flames", per_case=True)
    assert find_leaks(messages, plan, data, per_case=True) == []
    assert any("metric dice.cases" in leak for leak in find_leaks(messages, plan, data))


def _leaking(change):
    """Return a client app whose reports are changed by change(content)."""

    def wrap(app):
        def run(message, context):
            reply = app(message, context)
            if message.metadata.message_type == "train":
                change(reply.content)
            return reply

        return run

    return wrap


@pytest.mark.parametrize("leak", ["image", "float image", "patient", "metric", "array"])
def test_the_search_finds_leaks(leak, record, data):
    image = next(image for image in images_of(data) if find_pixels(image, image.tobytes()))
    patient = read_partition(partition_file(data)).clients[0].patients["train"][0]

    def change(content):
        if leak == "image":
            content.config_records[REPORT]["client_note"] = image.tobytes()
        elif leak == "float image":
            weights = {name: array.copy() for name, array in entries_in(content[ARRAYS]).items()}
            large = next(one for one in weights.values() if one.size >= 144 and one.dtype == np.float32)
            pixels = (image / np.iinfo(image.dtype).max).astype(np.float32).reshape(-1)
            flat = large.reshape(-1)
            middle = image.shape[0] // 2 * image.reshape(image.shape[0], -1).shape[1]
            n = min(flat.size, pixels.size - middle)
            flat[:n] = pixels[middle : middle + n]
            content[ARRAYS] = pack_weights(weights)
        elif leak == "patient":
            content.config_records[REPORT]["note"] = patient
        elif leak == "metric":
            content.metric_records[METRICS]["dice_of_first_case"] = 0.5
        else:
            content["more"] = ArrayRecord({"x": Array(np.zeros(3))})

    messages, plan = record("flames", leak=_leaking(change))
    leaks = find_leaks(messages, plan, data)
    assert leaks
    if leak == "patient":
        assert f"patient {patient}" in leaks
