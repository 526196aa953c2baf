"""The choice of a client's model: the candidates are validated, and one is chosen."""

from collections.abc import Iterable, Iterator

import torch

from flames_cli.arrays import Weights
from flames_cli.core.federated.choice import CANDIDATES, Choice, choose
from flames_cli.core.rng import derive_rng
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision
from flames_cli.learn.epochs import torch_randomness
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.normalisation import STATISTICS_IMAGES, estimate_statistics
from flames_cli.learn.predict import validate_by
from flames_cli.learn.train_options import LocalRound

VALIDATION_IMAGES = 256
"""Largest number of validation images on which a candidate is scored, drawn in every round."""


def choose_model(
    model: SegmentationModel,
    weights: Weights,
    train: ShardDataset,
    val: ShardDataset,
    local: LocalRound,
    device: torch.device,
    precision: Precision,
) -> tuple[Choice | None, Weights]:
    """Return the client's choice and the complete chosen weights, which `model` then has.

    Args:
        model: the client's model on `device`.
        weights: its complete weights; entries that are not offered are part of every candidate.
        train: training images, on some of which the statistics of BatchNorm are estimated.
        val: validation images; without any, the results of other clients decide.
        local: place in the run, the options, and the offer; without an offer there is no choice.
        device: device of the model.
        precision: precision of the model's arithmetic.
    """
    offer = local.offer
    if offer is None:
        return None, weights

    def candidates() -> Iterator[tuple[str, Weights]]:
        for name in CANDIDATES:
            yield name, {**weights, **offer.candidate(name)}

    patients, dice = 0, dict[str, float]()
    if len(val):
        patients, dice = _score(model, candidates(), train, val, local, device, precision)
    pick = choose(offer.prior, patients, dice)
    chosen = {**weights, **offer.candidate(pick)}
    load_weights(model, chosen)
    return Choice(pick, patients, dice), chosen


def _score(
    model: SegmentationModel,
    candidates: Iterable[tuple[str, Weights]],
    train: ShardDataset,
    val: ShardDataset,
    local: LocalRound,
    device: torch.device,
    precision: Precision,
) -> tuple[int, dict[str, float]]:
    """Return the number of validation patients, and each candidate's mean Dice over the validation images.

    All candidates have the same images, so that their differences are paired, and the statistics that they
    have on the client's own images.
    """
    options = local.options
    rng = derive_rng(local.seed, "candidates", *local.scope)
    on = sorted(rng.permutation(len(train))[:STATISTICS_IMAGES].tolist())
    used = sorted(rng.permutation(len(val))[:VALIDATION_IMAGES].tolist())
    patients, dice = 0, {}
    for name, weights in candidates:
        load_weights(model, weights)
        if options.precise_norm:
            with torch_randomness(local, device):
                estimate_statistics(model, weights, train, options.batch_size, device, precision, on)
        found = validate_by(model, val, options, device, precision, used)
        patients, dice[name] = found.n_patients, found.dice
    return patients, dice
