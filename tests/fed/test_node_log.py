"""Sentences of a node for the person who runs it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flames_cli.core.federated.reports import Report
from flames_cli.fed.evaluation_report import EvaluationReport
from flames_cli.fed.final_report import FinalReport, pack_final
from flames_cli.fed.messages import TrainRequest, TrainTask, pack_report, pack_task
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.node_log import PREFIX, NodeLog
from flames_cli.learn.train_options import TrainOptions
from tests.support.federation import make_profile

pytestmark = pytest.mark.usefixtures("identity")

NODE = NodeSettings((Path("x.h5"),), private=True)
ROOM = 80 - len("HH:MM:SS ")
REQUEST = TrainRequest(
    *(13, 5, "a", TrainOptions(), "unet", json.dumps({})),
    run_name="a-run-with-a-long-name",
    strategy="flames-adaptive",
    rounds=50,
)
WEIGHTS = {"w": np.zeros((1000, 1000), np.float32)}
METRICS = {"train_loss": 0.41234, "received_val_dice": 0.5214, "trained_val_dice": 0.5487}


@pytest.fixture
def lines(capsys):
    """lines(): the sentences since the last call, each of which fits in a terminal."""

    def get():
        written = capsys.readouterr().err.splitlines()
        assert all(line.startswith(PREFIX) for line in written)
        sentences = [line.removeprefix(PREFIX) for line in written]
        assert max(map(len, sentences), default=0) <= ROOM
        return sentences

    return get


def open_log(settings=NODE, **changes):
    request = replace(REQUEST, **changes)
    message = pack_task(TrainTask(request, WEIGHTS), 2)
    return NodeLog(settings, message, request), message


def train(settings=NODE, metrics=METRICS, **changes):
    log, message = open_log(settings, **changes)
    log.begin_training(make_profile("a", n_train=122))
    report = Report("a", "MRI", WEIGHTS, 122, 4, metrics)
    log.end_training(report, pack_report(report, message))


def test_a_round_is_described_in_numbers_and_words(lines):
    train()
    assert lines() == [
        "round 13 of 50 (run a-run-with-a-long-name): training on 122 images",
        "round 13 of 50: 122 images in 0 s, loss 0.4123",
        "  validation Dice: 0.521 as received, 0.549 after training",
        "  weights: 4.0 MB received, 4.0 MB sent",
        "  next: waiting for the other hospitals",
    ]


def test_the_first_round_names_the_run_and_the_last_one_what_follows(lines):
    train(round=1)
    assert lines()[0] == "run a-run-with-a-long-name begins: 50 rounds, strategy flames-adaptive"
    train(round=50)
    assert lines()[-1] == "  next: the server makes the final models"


def test_a_site_without_validation_patients_has_no_dice(lines):
    train(metrics={"train_loss": 1.0})
    assert "  no validation patients, so no Dice" in lines()


def test_the_passes_after_the_last_round_are_described(lines):
    log, message = open_log()
    for validation in ({"val_dice": 0.61}, {}):
        report = FinalReport("a", "MRI", 13, 122, validation=validation)
        log.end_examination(report, pack_final(report, message))
    log, _ = open_log(round=51)
    log.end_evaluation(EvaluationReport("a", "MRI", 1, {}))
    found = lines()
    assert found[0] == "model after round 13: validation Dice 0.610 (0 s)"
    assert found[2] == "model after round 13: no validation patients (0 s)"
    assert found[4] == "model after round 50: tested on 1 image (0 s)"


def test_a_simulated_node_writes_nothing(lines):
    train(replace(NODE, private=False))
    assert lines() == []
