"""Test of an adapted model and of the model as it is, on the client's own test patients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import AdaptConfig
from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.learn.models import options_for
from flames_cli.learn.predict import MaskRule
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.adapt.inputs import Inputs
from flames_cli.stages.evaluate.models_under_test import HeldOut, ModelUnderTest, read_held_out
from flames_cli.stages.evaluate.parts import Part, matrix_of, pool_runs
from flames_cli.stages.evaluate.predicting import predict_plainly
from flames_cli.stages.evaluate.scoring import RunFacts, score_cases, score_volumes
from flames_cli.stages.progress import Progress
from flames_cli.store.evaluations import CaseScore, VolumeScore
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.partition import ClientEntry

MODEL, ADAPTED = "as it is", "adapted"
BATCH = 64


@dataclass(frozen=True, slots=True)
class TestResult:
    """Mean Dice of both models over the complete volumes, or over the images in no such volume."""

    __test__ = False

    protocol: str
    """volumes or images."""
    n: int
    patients: int
    dice_as_it_is: float
    dice_adapted: float
    gain: float
    """Mean over the same cases of the adapted model's Dice minus that of the model as it is."""
    gain_low: float
    """Lower 95 % limit of the gain, of a bootstrap over patients; NaN with one patient."""
    gain_high: float


def score_on_test(
    config: AdaptConfig, inputs: Inputs, weights: Weights, progress: Progress
) -> tuple[TestResult, ...]:
    """Return the results on the client's test set, as `flames evaluate` counts cases; empty without one."""
    if not inputs.patients["test"]:
        return ()
    tests = read_held_out(HeldOut(inputs.shard.parent, _entry_of(inputs), ("test",)))
    info = inputs.info
    made = info.architecture
    segmenter = Segmenter(
        made.model,
        options_for(info.input.channels, made.options),
        config.device,
        config.precision,
        BATCH,
        made.norm,
    )
    cases: list[CaseScore] = []
    volumes: list[VolumeScore] = []
    facts, rule = RunFacts("adapt", config.seed), MaskRule(threshold=info.threshold)
    models = {MODEL: inputs.weights, ADAPTED: weights}
    for done, (label, own) in enumerate(models.items(), start=1):
        model = ModelUnderTest(label, info.input.modality, "client_test", own)
        masks = predict_plainly(segmenter, own, tests.data, rule)
        cases += score_cases(facts, model, tests, masks)
        volumes += score_volumes(facts, model, tests, masks)
        progress("test", done, len(models))
    return _compare(config.seed, pool_runs(case for case in cases if case.selected), pool_runs(volumes))


def _entry_of(inputs: Inputs) -> ClientEntry:
    """Return the entry of the shard as a partition would have it; its patients are not needed."""
    summary = inputs.summary
    return ClientEntry(
        name=summary.name,
        dataset=summary.name,
        modality=summary.modality,
        organ=summary.organ,
        shard=inputs.shard.name,
        images=dict(summary.images),
        patients={},
        sha256=hash_file(inputs.shard),
    )


def _compare(
    seed: int, images: list[Part[CaseScore]], volumes: list[Part[VolumeScore]]
) -> tuple[TestResult, ...]:
    """Return one result for the complete volumes, and one for the images in no such volume."""
    complete = {(score.dataset, score.volume) for part in volumes for score in part.cases}
    rest = [part.only(lambda score: (score.dataset, score.volume) not in complete) for part in images]
    found = (_result(seed, "volumes", volumes), _result(seed, "images", rest))
    return tuple(one for one in found if one)


def _result(seed: int, protocol: str, parts: Sequence[Part[Any]]) -> TestResult | None:
    by_label = {part.label: part for part in parts if part.cases}
    if not by_label:
        return None
    before, after = (matrix_of(by_label[label], "dice") for label in (MODEL, ADAPTED))
    people = by_label[MODEL].people
    gain = bootstrap_interval(after, people, seed, minus=before)
    return TestResult(
        protocol=protocol,
        n=len(people),
        patients=len(set(people)),
        dice_as_it_is=float(before.mean()),
        dice_adapted=float(after.mean()),
        gain=gain.mean,
        gain_low=gain.low,
        gain_high=gain.high,
    )
