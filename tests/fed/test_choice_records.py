import math

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from flames_cli.core.federated.choice import CANDIDATES, OWN, Choice, Prior
from flames_cli.fed.choice_records import (
    CHOICE,
    pack_choice,
    pack_prior,
    patients_reason,
    unpack_choice,
    unpack_prior,
)

pytestmark = pytest.mark.usefixtures("identity")

DICE = {name: 0.1 * index for index, name in enumerate(CANDIDATES)}


def message_of(record):
    return Message(RecordDict({} if record is None else {CHOICE: record}), 7, MessageType.TRAIN)


def test_a_choice_and_the_knowledge_before_it_travel_bit_for_bit():
    choice = Choice(OWN, 3, {name: np.nextafter(dice, 1) for name, dice in DICE.items()})
    assert unpack_choice(message_of(pack_choice(choice))) == choice
    prior = Prior(4, 2.19, {OWN: 0.1 / 3}, {OWN: -1 / 7})
    assert unpack_prior(message_of(pack_prior(prior))) == prior
    assert unpack_choice(message_of(pack_choice(Choice(OWN)))) == Choice(OWN)


def test_a_message_without_the_record_has_no_choice():
    assert unpack_choice(message_of(None)) is None
    assert unpack_prior(message_of(None)) is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"pick": "the best"}, ValueError),
        ({"patients": 0}, ValueError),
        ({"dice.own": math.nan}, ValueError),
        ({"dice.own": "0.5"}, TypeError),
        ({"dice.more": 0.5}, ValueError),
        ({"patients": "many"}, TypeError),
        ({"patients": True}, TypeError),
        ({"dice.own": True}, TypeError),
    ],
)
def test_a_choice_that_cannot_be_is_rejected(changes, error):
    record = {**pack_choice(Choice(OWN, 3, DICE)), **changes}
    with pytest.raises(error):
        unpack_choice(message_of(ConfigRecord(record)))


def test_a_choice_without_its_name_is_rejected():
    with pytest.raises(KeyError):
        unpack_choice(message_of(ConfigRecord({"patients": 1})))


def test_a_client_cannot_have_more_validation_patients_than_images():
    assert patients_reason(None, 0) == ""
    assert patients_reason(Choice(OWN, 3, DICE), 3) == ""
    assert patients_reason(Choice(OWN, 3, DICE), 2) == (
        "it chose by 3 validation patients, it joined with 2 validation images"
    )
