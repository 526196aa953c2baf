"""Training of an adaptation, on the client's own images."""

from collections.abc import Sequence
from dataclasses import dataclass

from flames_cli.arrays import Weights
from flames_cli.config import AdaptConfig
from flames_cli.learn.adaptation import Adaptation, adapt_model
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import pick_device, pick_precision, place
from flames_cli.learn.models import build_model, options_for
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.train_options import LocalRound, TrainOptions
from flames_cli.stages.adapt.inputs import Inputs
from flames_cli.stages.federate.planning import check_batch_size, probe_plugins
from flames_cli.stages.progress import Progress
from flames_cli.store.h5 import read_shard_sets


@dataclass(frozen=True, slots=True)
class JudgedCandidate:
    """A candidate, and its mean Dice over the validation images (None without any)."""

    name: str
    share: float
    dice: float | None


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of the training, as the stage needs it."""

    weights: Weights
    options: TrainOptions
    chosen: JudgedCandidate
    why: str
    candidates: tuple[JudgedCandidate, ...]
    best_epoch: int
    n_steps: int
    validation: dict[str, float]
    """Validation of the chosen candidate: dice, images, patients; empty without validation patients."""
    notes: Sequence[str]


def train(config: AdaptConfig, inputs: Inputs, progress: Progress) -> Trained:
    """Return the adapted weights; raises as `adapt_model`."""
    made, image = inputs.info.architecture, inputs.info.input
    options = config.training(made.model, made.norm)
    device = pick_device(config.device)
    precision = pick_precision(config.precision, device, made.model)
    model = build_model(made.model, seed=0, norm=made.norm, **options_for(image.channels, made.options))
    fewest = check_batch_size(model, made.model, image.size, options.batch_size)
    probe_plugins(options, made.model, model, image.size, fewest)
    load_weights(model, inputs.weights)
    sets = {name: ShardDataset(read_shard_sets(inputs.shard, name)) for name in ("train", "val")}
    local = LocalRound(
        seed=config.seed,
        round=1,
        client=inputs.summary.name,
        options=options,
        rounds=1,
        compile=config.compile,
    )
    found = adapt_model(
        place(model, device, precision),
        sets["train"],
        sets["val"],
        local,
        device,
        precision,
        progress,
    )
    return _made(found, options)


def _made(found: Adaptation, options: TrainOptions) -> Trained:
    judged = {
        one.name: JudgedCandidate(one.name, one.share, one.validation.dice if one.validation else None)
        for one in found.candidates
    }
    validation = found.chosen.validation
    return Trained(
        weights=found.weights,
        options=options,
        chosen=judged[found.chosen.name],
        why=found.why,
        candidates=tuple(judged.values()),
        best_epoch=found.trained.best_epoch,
        n_steps=found.trained.n_steps,
        validation={
            "dice": validation.dice,
            "images": float(validation.n_cases),
            "patients": float(validation.n_patients),
        }
        if validation
        else {},
        notes=found.trained.notes,
    )
