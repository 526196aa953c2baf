"""The server's view of a secure run: every message that it received, and every one that it sent."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord

from flames_cli.core.federated.reports import Report
from flames_cli.core.rng import derive_rng
from flames_cli.fed.messages import unpack_task
from flames_cli.fed.records import unpack_weights
from flames_cli.fed.secure.messages import BLOBS, SECURE, WORDS
from tests.support.federation import make_profile
from tests.support.secure import ACTIONS, TRAIN, run_secure

CLIENTS = [make_profile(f"m{number}", n_train=7 * number, n_val=1000) for number in range(1, 5)]
SIZE = 4000
LOSSES = {"m1": 0.123456789, "m2": 0.987654321, "m3": 0.555555, "m4": 0.777}


def train(request, weights, who):
    """Return a report whose every number is one that can be looked for."""
    step = derive_rng(request.seed, request.client, request.round).normal(size=SIZE)
    numbers = {"train_loss": LOSSES[who.client], "received_val_dice": LOSSES[who.client] / 2, "n_val": 321.0}
    moved = {"w": (weights["w"] + step).astype(np.float32), "count": weights["count"] + 5}
    return Report(who.client, who.modality, moved, who.n_train, 9, numbers)


@pytest.fixture(scope="module", params=["flames", "fedavg-modality"])
def seen(request, tmp_path_factory):
    initial = {"w": np.linspace(-1, 1, SIZE, dtype=np.float32), "count": np.array(3)}
    folder = tmp_path_factory.mktemp("view")
    return run_secure(CLIENTS, folder, request.param, rounds=2, train=train, initial=initial)


def bytes_of(message):
    """Return all bytes of a message."""
    arrays = [
        array.data
        for record in message.content.values()
        if isinstance(record, ArrayRecord)
        for array in record.values()
    ]
    return (
        b"".join(arrays)
        + repr([dict(one) for one in message.content.values() if isinstance(one, ConfigRecord)]).encode()
    )


def words_of(seen):
    return {
        (client, reply.content[SECURE]["round"]): unpack_weights(reply, WORDS)[WORDS]
        for action, client, reply in seen.replies
        if action == TRAIN
    }


def test_the_server_receives_masked_words_keys_shares_and_nothing_else(seen):
    assert {action for action, _, _ in seen.replies} == {*ACTIONS}
    for action, _, reply in seen.replies:
        kinds = {name: type(record) for name, record in reply.content.items()}
        arrays = WORDS if action == TRAIN else BLOBS
        assert kinds == {SECURE: ConfigRecord, arrays: ArrayRecord}
        fields = (
            ("client", "modality", "round", "session") if action == TRAIN else ("session", "run", "names")
        )
        assert set(reply.content[SECURE]) == set(fields)


def test_no_message_to_the_server_has_a_value_of_a_single_client(seen):
    received = b"".join(bytes_of(reply) for _, _, reply in seen.replies)
    for (client, round_), report in seen.reports.items():
        start = seen.starts[client, round_]["w"]
        w, moved = report.weights["w"], report.weights["w"] - start
        for values in (w, moved, w.astype(float), np.rint(w * 2.0**36).astype(np.int64)):
            flat = values.tobytes()
            step = 2 * values.itemsize
            assert not any(flat[at : at + step] in received for at in range(0, 40 * step, step))
        for number in report.metrics.values():
            assert np.float64(number).tobytes() not in received
            assert str(number).encode() not in received


def test_the_words_of_each_client_are_uniform_noise(seen):
    """Every byte value is as frequent as any other: χ² with 255 degrees of freedom is 255 ± 22.6."""
    for words in words_of(seen).values():
        counts = np.bincount(words.view(np.uint8), minlength=256)
        expected = counts.sum() / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 8 * 22.6


def test_the_words_say_nothing_of_the_weights_and_their_sum_still_has_masks(seen):
    found = words_of(seen)
    for (client, round_), words in found.items():
        w = seen.reports[client, round_].weights["w"]
        noise = words[:SIZE].astype(np.float64)
        assert abs(np.corrcoef(noise, w)[0, 1]) < 8 / np.sqrt(SIZE)
    total = sum(words for (_, round_), words in found.items() if round_ == 1)
    counts = np.bincount(total.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 8 * 22.6  # the own masks are still on it


def test_clients_of_flames_get_the_mean_of_their_last_sum_and_no_model(seen):
    tasks = [(client, unpack_task(message)) for action, client, message in seen.asked if action == TRAIN]
    assert [task.request.round for _, task in tasks] == [1] * 4 + [2] * 4
    personal = tasks[0][1].request.secure == "inverse"
    for _, task in tasks:
        assert task.server is None
        assert (task.sum is not None) == (personal and task.request.round == 2)
        if task.sum:
            assert np.abs(task.weights["w"] - seen.saved[0][0].server["MRI"]["w"]).max() > 0.01
            assert task.sum.round == task.request.last_accepted_round == 1


def test_the_state_and_the_records_have_no_number_of_a_single_client(seen):
    assert seen.state.personal == {}
    assert seen.state.styles == {}
    for record in seen.records:
        assert {name for one in record["clients"] for name in one} == {"client", "modality", "seconds"}
        pooled = record["groups"]["MRI"]
        assert pooled["train_loss"] == pytest.approx(np.mean([*LOSSES.values()]), abs=1e-9)
        assert pooled["received_val_dice"] == pytest.approx(np.mean([*LOSSES.values()]) / 2, abs=1e-9)
        assert (pooled["clients"], pooled["n_val"]) == (4, 4 * 321)
    assert all(last.moved.norms == {} for last in seen.state.clients.values())
