"""`flames adapt`: a model folder and one client's shard → a model folder for this client."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flames_cli.config import MAX_NAME, AdaptConfig
from flames_cli.errors import FlamesError
from flames_cli.learn.hardware import find_versions
from flames_cli.report.model_card import write_card
from flames_cli.stages.adapt.inputs import Inputs, find_inputs
from flames_cli.stages.adapt.testing import TestResult, score_on_test
from flames_cli.stages.progress import Progress, silent
from flames_cli.store.files.locks import locked
from flames_cli.store.models import Base, ModelInfo, TrainedOn, Training, write_model
from flames_cli.store.seen import find_seen
from flames_cli.store.workspace import model_folder


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """Validation of one of the weights from which the adaptation chose."""

    name: str
    share: float
    """Share of the fine-tuned weights."""
    dice: float | None
    """Mean Dice over the validation images; None without validation patients."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapted model, and how it compares with the model from which it was made."""

    folder: Path
    info: ModelInfo
    client: str
    chosen: str
    """Name of the chosen candidate."""
    candidates: tuple[CandidateScore, ...]
    validation_patients: int
    validation_images: int
    best_epoch: int
    """Epoch of the fine-tuned weights, from 1."""
    n_steps: int
    tests: tuple[TestResult, ...]
    """Results on the client's test set, for volumes and for images; empty without one."""
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the result for --json."""
        base = self.info.training.base
        return {
            "model": self.info.name,
            "folder": str(self.folder),
            "sha256": self.info.sha256,
            "client": self.client,
            "base": {"model": base.name, "sha256": base.sha256} if base else None,
            "chosen": self.chosen,
            "share": base.share if base else None,
            "why": base.why if base else "",
            "candidates": [asdict(one) for one in self.candidates],
            "validation_patients": self.validation_patients,
            "validation_images": self.validation_images,
            "best_epoch": self.best_epoch,
            "n_steps": self.n_steps,
            "tests": [asdict(one) for one in self.tests],
            "notes": list(self.notes),
        }


def adapt(config: AdaptConfig, progress: Progress = silent) -> Adapted:
    """Train a model on one client's training images, choose by its validation patients, and test the result.

    Nothing is overwritten, and the test set chooses nothing. The same seed gives the same bytes on a CPU.

    Raises:
        MissingArtifact: there is no such model, shard or partition.
        FlamesError: the shard's images are not such as the model is for (the message names each difference),
            the model was trained on the client's test patients, or a model of the new name is there.
        NotWritten: the disk is full.
    """
    inputs = find_inputs(config)
    name = config.name or _default_name(inputs)
    folder = model_folder(config.workspace, name)
    busy = f"another process writes model '{name}'; wait for its end, or pass another --name"
    with locked(folder, busy):
        if folder.exists():
            raise FlamesError(
                f"{folder} exists already, expected a new model; pass another --name, or remove it with "
                f"`flames models rm {name}`"
            )
        return _adapt(config, inputs, folder, progress)


def _default_name(inputs: Inputs) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{inputs.info.name}-{inputs.summary.name}")
    return name[:MAX_NAME].rstrip("-.")


def _adapt(config: AdaptConfig, inputs: Inputs, folder: Path, progress: Progress) -> Adapted:
    # Imported here, since it imports torch, which takes seconds: wrong inputs are rejected before.
    from flames_cli.stages.adapt.training import train

    found = train(config, inputs, progress)
    tests = score_on_test(config, inputs, found.weights, progress)
    options, chosen = found.options, found.chosen
    base = Base(
        name=inputs.info.name,
        sha256=inputs.info.sha256,
        origin=_describe_origin(inputs.info),
        share=chosen.share,
        why=found.why,
        epochs=found.best_epoch,
        lr=options.lr,
        freeze=options.freeze,
        candidate=chosen.name,
        test=_test_of(tests),
        partitions=inputs.origin.partitions,
        unknown=inputs.origin.unknown,
    )
    info = _describe(config, inputs, folder.name, base, found.validation)
    made = write_model(folder, info, found.weights, write_card(info))
    return Adapted(
        folder=folder,
        info=made,
        client=inputs.summary.name,
        chosen=chosen.name,
        candidates=tuple(CandidateScore(one.name, one.share, one.dice) for one in found.candidates),
        validation_patients=int(found.validation.get("patients", 0)),
        validation_images=int(found.validation.get("images", 0)),
        best_epoch=found.best_epoch,
        n_steps=found.n_steps,
        tests=tests,
        notes=(*inputs.notes, *found.notes, *_notes(tests, inputs)),
    )


def _describe_origin(info: ModelInfo) -> str:
    """Return the origin of a model in a few words."""
    training = info.training
    if training.base is not None:
        return f"adapted from {training.base.name}"
    if training.kind == "file":
        return "a file of weights of another tool"
    whose = f"client {training.client}" if training.kind == "client" else "the server"
    return f"model of {whose}, run {training.run} ({training.strategy}), round {training.round}"


def _test_of(tests: tuple[TestResult, ...]) -> dict[str, float]:
    """Return the numbers of the test for model.toml, of volumes if there are any; empty without a test."""
    if not tests:
        return {}
    first = tests[0]
    numbers = {"dice": first.dice_adapted, "dice_as_it_is": first.dice_as_it_is}
    return {**numbers, first.protocol: float(first.n), "patients": float(first.patients)}


def _describe(
    config: AdaptConfig, inputs: Inputs, name: str, base: Base, validation: Mapping[str, float]
) -> ModelInfo:
    """Return the description of the adapted model."""
    summary = inputs.summary
    own = TrainedOn(
        client=summary.name,
        modality=summary.modality,
        organ=summary.organ,
        patients=inputs.patients["train"],
        images=summary.images["train"],
    )
    return replace(
        inputs.info,
        name=name,
        input=replace(inputs.info.input, organs=(summary.organ,)),
        training=Training(
            kind="adapted",
            client=summary.name,
            seed=config.seed,
            clients=tuple(dict.fromkeys((*inputs.info.training.clients, own))),
            base=base,
        ),
        validation=dict(validation),
        # The account of the model's own training does not cover these patients.
        privacy={},
        versions=find_versions(),
        seen=find_seen([inputs.shard]),
        sha256="",
    )


def _notes(tests: tuple[TestResult, ...], inputs: Inputs) -> tuple[str, ...]:
    notes = []
    if not tests:
        notes.append("the client has no test patients, so neither model was tested")
    if inputs.info.privacy:
        notes.append(
            f"the differential privacy of model '{inputs.info.name}' does not cover the patients of this "
            "client; share the adapted model only with people whom the client trusts"
        )
    return tuple(notes)
