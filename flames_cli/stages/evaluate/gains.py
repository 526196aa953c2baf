"""Gains of the options that change masks: the Dice of each image and volume with an option minus without."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.core.scores.metrics import Counts
from flames_cli.stages.evaluate.parts import Part, ScoreT, matrix_of, pool, pool_runs
from flames_cli.store.evaluation_details import OptionScore
from flames_cli.store.evaluations import CaseScore, VolumeScore

_Key = tuple[object, ...]


def make_gains(
    cases: Sequence[CaseScore], volumes: Sequence[VolumeScore], before: Sequence[OptionScore], seed: int
) -> list[dict[str, Any]]:
    """Return one line per option, protocol and model of one split, and one of all models together.

    A gain is that of an option with the options before it: flips, then the threshold, then the
    post-processing.

    Args:
        cases: the lines of cases.csv.
        volumes: the lines of volumes.csv.
        before: the lines of options.csv.
        seed: seed of the intervals' draws.
    """
    lines: list[dict[str, Any]] = []
    states = [*(_go_back(cases, volumes, counts) for counts in _by_option(before).values()), (cases, volumes)]
    for number, option in enumerate(_by_option(before)):
        (images, stacks), (images_after, stacks_after) = states[number : number + 2]
        pairs = zip(_parts(_selected(images)), _parts(_selected(images_after)), strict=True)
        lines += [_line(option, "slices", *pair, seed) for pair in pairs]
        pairs_of_volumes = zip(_parts(stacks), _parts(stacks_after), strict=True)
        lines += [_line(option, "volumes", *pair, seed) for pair in pairs_of_volumes]
    return lines


def _by_option(before: Iterable[OptionScore]) -> dict[str, dict[_Key, Counts]]:
    found: dict[str, dict[_Key, Counts]] = {}
    for score in before:
        counts = Counts(score.tp, score.fp, score.fn, score.tn)
        found.setdefault(score.option, {})[(*_model(score), score.dataset, score.case)] = counts
    return found


def _model(score: CaseScore | VolumeScore | OptionScore) -> _Key:
    return score.run, score.split, score.model, score.modality, score.unseen_site


def _go_back(
    cases: Sequence[CaseScore], volumes: Sequence[VolumeScore], counts: Mapping[_Key, Counts]
) -> tuple[list[CaseScore], list[VolumeScore]]:
    """Return the scores with the Dice of earlier counts, which are by image."""
    images, sums = [], dict[_Key, Counts]()
    for case in cases:
        own = counts[*_model(case), case.dataset, case.case]
        images.append(replace(case, dice=own.dice()))
        volume = (*_model(case), case.dataset, case.volume)
        sums[volume] = sums.get(volume, Counts(0, 0, 0, 0)) + own
    stacks = [
        replace(volume, dice=sums[*_model(volume), volume.dataset, volume.volume].dice())
        for volume in volumes
    ]
    return images, stacks


def _selected(cases: Iterable[CaseScore]) -> list[CaseScore]:
    return [case for case in cases if case.selected]


def _parts(scores: Iterable[ScoreT]) -> list[Part[ScoreT]]:
    """Return the models with their cases, and all of them together."""
    parts: list[Part[ScoreT]] = pool_runs(scores)
    parts.extend(pool(parts))
    return [part for part in parts if part.cases]


def _line(
    option: str, protocol: str, without: Part[ScoreT], with_: Part[ScoreT], seed: int
) -> dict[str, Any]:
    dice, dice_before = matrix_of(with_, "dice"), matrix_of(without, "dice")
    gain = bootstrap_interval(dice - dice_before, with_.people, seed)
    return {
        "model": with_.label,
        "modality": with_.modality,
        "organ": with_.organ,
        "unseen_site": with_.unseen,
        "option": option,
        "protocol": protocol,
        "n": gain.n,
        "patients": gain.n_patients,
        "dice_without": float(dice_before.mean()),
        "dice_with": float(dice.mean()),
        "gain": gain.mean,
        "gain_low": gain.low,
        "gain_high": gain.high,
    }
