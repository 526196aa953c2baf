"""Pass over a client's images with final models: BatchNorm's statistics, and a validation."""

from dataclasses import dataclass, field

import torch

from flames_cli.arrays import Weights
from flames_cli.core.federated.final_statistics import statistics_of
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision
from flames_cli.learn.epochs import torch_randomness
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.learn.predict import Validation, validate_by
from flames_cli.learn.train_options import LocalRound


@dataclass(frozen=True, slots=True)
class FinalModels:
    """Result of the pass."""

    own: Weights = field(default_factory=dict)
    """Statistics of the client's own model; empty if they were not estimated."""
    server: Weights = field(default_factory=dict)
    """Statistics of the server's model; empty if it is the client's own model."""
    validation: Validation | None = None
    """Validation of the client's own model; None without validation patients."""


def examine_models(
    model: SegmentationModel,
    own: Weights,
    server: Weights | None,
    train: ShardDataset,
    val: ShardDataset,
    local: LocalRound,
    device: torch.device,
    precision: Precision,
    estimate: bool,
) -> FinalModels:
    """Estimate the statistics of two models on `train`, and validate the client's own one on `val`.

    Args:
        model: a model of the same shape on `device`, changed in place.
        own: weights of the client's final model.
        server: weights of the server's model of its group; None if they are those of `own`.
        train: training images, on which the statistics are estimated.
        val: validation images; may be empty.
        local: place in the run, and the options.
        device: device of the model.
        precision: precision of the model's arithmetic.
        estimate: False to keep the statistics that the weights have.
    """
    options = local.options

    def estimated(weights: Weights) -> Weights:
        with torch_randomness(local, device):
            return estimate_statistics(model, weights, train, options.batch_size, device, precision)

    of_server = statistics_of(estimated(server)) if estimate and server is not None else {}
    used = estimated(own) if estimate else own
    load_weights(model, used)
    found = None
    if len(val):
        found = validate_by(model, val, options, device, precision)
    return FinalModels(statistics_of(used) if estimate else {}, of_server, found)
