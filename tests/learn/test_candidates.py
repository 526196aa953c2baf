from dataclasses import replace

import numpy as np
import pytest
import torch

from flames_cli.core.federated.candidates import Offer
from flames_cli.core.federated.choice import CANDIDATES, FAR, FLAMES, OWN, Prior
from flames_cli.learn import candidates
from flames_cli.learn.candidates import choose_model
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.learn.predict import validate
from flames_cli.learn.train_options import LocalRound, TrainOptions
from tests.support.asserts import assert_same
from tests.support.datasets import draw_discs

CPU = torch.device("cpu")
OPTIONS = TrainOptions(batch_size=4)


def make_weights(seed):
    return to_weights(build_model("unet", seed=seed, base_channels=4, depth=2))


@pytest.fixture
def train():
    return ShardDataset([draw_discs(6)])


@pytest.fixture
def val():
    return ShardDataset([draw_discs(5, seed=4)])


@pytest.fixture
def local():
    offer = Offer(make_weights(1), make_weights(2), Prior(2))
    return LocalRound(seed=3, round=2, client="a", options=OPTIONS, offer=offer)


def choose(train, val, local):
    """Return (the choice, the chosen weights, the weights that the model then has)."""
    model = build_model("unet", seed=0, base_channels=4, depth=2)
    choice, chosen = choose_model(model, to_weights(model), train, val, local, CPU, "fp32")
    return choice, chosen, to_weights(model)


def test_every_candidate_is_validated_with_its_own_statistics(train, val, local):
    choice, chosen, left = choose(train, val, local)
    assert list(choice.dice) == list(CANDIDATES)
    assert choice.patients == val.n_patients
    model = build_model("unet", seed=0, base_channels=4, depth=2)
    for name, dice in choice.dice.items():
        estimate_statistics(model, local.offer.candidate(name), train, 4, CPU, "fp32")
        assert validate(model, val, 4, CPU, "fp32", dice_focal_loss).dice == dice
    assert_same(chosen, local.offer.candidate(choice.pick))
    assert_same(left, chosen)


def test_without_an_offer_there_is_no_choice(train, val, local):
    choice, chosen, left = choose(train, val, replace(local, offer=None))
    assert choice is None
    assert_same(chosen, left)


def test_without_validation_patients_the_others_decide(train, local):
    nobody = ShardDataset([])
    assert choose(train, nobody, local)[0].pick == FLAMES
    offer = replace(local.offer, prior=Prior(2, pooled={OWN: 0.5}))
    choice, chosen, _ = choose(train, nobody, replace(local, offer=offer))
    assert (choice.pick, choice.patients, choice.dice) == (OWN, 0, {})
    assert_same(chosen, local.offer.own)


def test_entries_that_are_not_offered_are_those_of_the_client(train, val, local):
    name = next(iter(local.offer.own))
    fewer = [
        {key: a for key, a in part.items() if key != name} for part in (local.offer.own, local.offer.blend)
    ]
    offer = Offer(*fewer, Prior(2, pooled={FAR: 0.9}))
    choice, chosen, _ = choose(train, ShardDataset([]), replace(local, offer=offer))
    assert choice.pick == FAR
    np.testing.assert_array_equal(chosen[name], make_weights(0)[name])


def test_many_validation_images_are_drawn_from(train, val, local, monkeypatch):
    monkeypatch.setattr(candidates, "VALIDATION_IMAGES", 2)
    first, later = (choose(train, val, replace(local, round=number))[0] for number in (2, 2))
    assert first == later
    assert first.patients <= 2


def test_without_precise_statistics_candidates_keep_those_of_the_blend(train, val, local):
    plain = replace(local, options=replace(OPTIONS, precise_norm=False))
    model = build_model("unet", seed=0, base_channels=4, depth=2)
    choice, _, _ = choose(train, val, plain)
    for name, dice in choice.dice.items():
        candidate = local.offer.candidate(name)
        model.load_state_dict({key: torch.from_numpy(np.array(a)) for key, a in candidate.items()})
        assert validate(model, val, 4, CPU, "fp32", dice_focal_loss).dice == dice
