"""Adaptation of a trained model to one client: fine-tuning, and a choice between the result and the model.

The candidates are the fine-tuned weights, blends of them with the model's (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"), the model with BatchNorm's statistics of the client's images, and the
model as it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from flames_cli.arrays import Weights
from flames_cli.core.federated.candidates import mix
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision
from flames_cli.learn.epochs import torch_randomness
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.freezing import frozen
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.learn.predict import Validation, validate_by
from flames_cli.learn.train import selects_best, train_epochs
from flames_cli.learn.train_options import ENOUGH_PATIENTS, LocalRound, TrainResult

AS_IS, OWN_STATISTICS, FINE_TUNED = "as it is", "own statistics", "fine-tuned"
SHARES = {
    AS_IS: 0.0,
    OWN_STATISTICS: 0.0,
    "blend 25 %": 0.25,
    "blend 50 %": 0.5,
    "blend 75 %": 0.75,
    FINE_TUNED: 1.0,
}
"""Share of the fine-tuned weights by candidate; of equal scores the first one wins, which changes least."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the weights from which an adaptation chooses."""

    name: str
    share: float
    """Share of the fine-tuned weights."""
    validation: Validation | None
    """None without validation patients."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """Result of an adaptation."""

    weights: Weights
    chosen: Candidate
    why: str
    candidates: tuple[Candidate, ...]
    trained: TrainResult


def adapt_model(
    model: SegmentationModel,
    train: ShardDataset,
    val: ShardDataset,
    local: LocalRound,
    device: torch.device,
    precision: Precision,
    progress: Callable[[str, int, int], None] | None = None,
) -> Adaptation:
    """Fine-tune `model` (already on `device`, changed in place), and choose among the candidates.

    With enough validation patients (as `keep_epoch` decides) the candidate with the highest mean Dice over
    the validation images is chosen, else the fine-tuned weights. No test set is used.

    Args:
        model: the model with its trained weights.
        train: images to train on, and for the statistics of BatchNorm.
        val: images by which the epoch and the candidate are chosen; may be empty.
        local: place of all that is random, and the options.
        device: device of the model.
        precision: precision of the model's arithmetic.
        progress: called with "train" after every step and with "choose" after every candidate, and the number
            of those done and the total.

    Raises:
        FlamesError: as `train_epochs` and `frozen`.
    """
    base, report = to_weights(model), progress or _silent
    with frozen(model, local.options.freeze):
        trained = train_epochs(model, train, val, local, device, precision, partial(report, "train"))

        def complete(name: str) -> Weights:
            """Return the weights of a candidate with their statistics; `model` then has them."""
            if name == AS_IS:
                load_weights(model, base)
                return base
            mixed = mix(base, trained.weights, SHARES[name])
            with torch_randomness(local, device):
                return estimate_statistics(model, mixed, train, local.options.batch_size, device, precision)

        def judge() -> Iterator[Candidate]:
            for done, (name, share) in enumerate(SHARES.items(), start=1):
                complete(name)
                found = validate_by(model, val, local.options, device, precision)
                yield Candidate(name, share, found)
                report("choose", done, len(SHARES))

        candidates = tuple(judge()) if len(val) else tuple(_unjudged())
        chosen, why = _choose(candidates, local.options.keep_epoch, val)
        return Adaptation(complete(chosen.name), chosen, why, candidates, trained)


def _silent(task: str, done: int, total: int) -> None:
    """Ignore the report."""


def _unjudged() -> Iterator[Candidate]:
    return (Candidate(name, share, None) for name, share in SHARES.items())


def _choose(candidates: tuple[Candidate, ...], keep_epoch: str, val: ShardDataset) -> tuple[Candidate, str]:
    """Return the chosen candidate and the reason."""
    n = val.n_patients
    patients = f"{n} validation patient{'' if n == 1 else 's'}"
    tuned = candidates[-1]
    if not selects_best(keep_epoch, val):
        few = (
            f"{patients}, and fewer than {ENOUGH_PATIENTS} choose by chance"
            if n
            else "no validation patients"
        )
        return tuned, "as requested" if keep_epoch == "last" else few
    best = max(candidates, key=lambda one: one.validation.dice if one.validation else 0.0)
    return best, f"the highest mean Dice on the images of {patients}"
