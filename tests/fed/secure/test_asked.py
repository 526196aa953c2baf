"""Servers that ask clients of one sum for different things, to subtract results that they know."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message

from flames_cli.errors import FlamesError
from flames_cli.fed.messages import ARRAYS, STYLE, SUM, TRAIN, TrainRequest, TrainTask, pack_task
from flames_cli.fed.node import Declined
from flames_cli.fed.records import pack_weights, unpack_weights
from flames_cli.fed.secure.asked import agree, check_asked
from flames_cli.fed.secure.terms import SumTerms
from flames_cli.learn.train_options import TrainOptions
from tests.support.federation import make_profile
from tests.support.secure import TOKEN, run_secure
from tests.support.secure import TRAIN as AT_TRAIN

FOUR = [make_profile(f"m{number}", n_train=10 * number) for number in range(1, 5)]
VICTIM = "m1"
WEIGHTS = {"w": np.ones(3, np.float32)}


def request(client="a", lr=1e-3, weights=WEIGHTS, **changes) -> Message:
    asked = TrainRequest(1, 5, client, TrainOptions(lr=lr), "unet", "{}", run=TOKEN, secure="inverse")
    return pack_task(TrainTask(replace(asked, **changes), weights), 2)


def lower_lr(message):
    message.content[TRAIN]["lr"] = 1e-30


def send_a_dead_model(message):
    dead = {name: np.zeros_like(array) for name, array in unpack_weights(message, ARRAYS).items()}
    message.content[ARRAYS] = pack_weights(dead)


def claim_another_sum(message):
    if SUM in message.content:
        message.content[SUM]["clients"] = 1000


@pytest.mark.parametrize(
    ("change", "number", "strategy"),
    [
        (lower_lr, 1, "flames"),
        (send_a_dead_model, 1, "flames"),
        (send_a_dead_model, 2, "flames"),
        (claim_another_sum, 2, "flames"),
        (send_a_dead_model, 2, "fedavg-modality"),
    ],
)
def test_no_sum_is_opened_if_all_clients_but_one_are_asked_for_something_else(
    change, number, strategy, tmp_path
):
    def spoil(action, client, round_, message, answer):
        if (action, round_) == (AT_TRAIN, number) and client != VICTIM:
            change(message)
        return answer()

    with pytest.raises(FlamesError, match=f"round {number} opened no secure sum") as ended:
        run_secure(FOUR, tmp_path, strategy, spoil=spoil)
    assert str(ended.value).count("another model than it announced to all clients of the sum") == 3


def test_requests_agree_if_only_names_and_facts_about_the_run_differ():
    terms = SumTerms(TOKEN, **agree([request("a"), request("b", rounds=9)], "MRI"))
    assert SumTerms.from_text(terms.to_text()) == terms
    check_asked(terms, request("c", epsilon=2.0, last_accepted_round=3))


@pytest.mark.parametrize("change", [{"seed": 6}, {"model": "other"}, {"clip": 1.0}, {"lr": 1e-4}])
def test_a_client_declines_a_request_that_was_not_announced(change):
    terms = SumTerms(TOKEN, **agree([request()], "MRI"))
    with pytest.raises(Declined, match="asks it for another training"):
        check_asked(terms, request(**change))


def test_a_client_declines_a_request_with_a_record_that_no_digest_covers():
    message = request()
    terms = SumTerms(TOKEN, **agree([message], "MRI"))
    message.content[STYLE] = ConfigRecord()
    with pytest.raises(Declined, match="asks it for another training"):
        check_asked(terms, message)


def test_clients_of_a_mean_get_one_model():
    other = {"w": np.zeros(3, np.float32)}
    models = agree([request(), request(weights=other)], "MRI")
    assert len(models["models"]) == 2
    SumTerms(TOKEN, weighing="inverse", **models)
    with pytest.raises(ValueError, match="terms have values of another release"):
        SumTerms(TOKEN, weighing="examples", **models)


def test_a_server_that_has_values_of_its_own_for_single_clients_says_so():
    with pytest.raises(FlamesError, match="the clients of model MRI have 2 different trainings"):
        agree([request(), request(lr=1e-4)], "MRI")
