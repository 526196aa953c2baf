"""Evaluations of the runs of a comparison: those that are there, and others that are made first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flames_cli.config import CompareConfig, EvaluateConfig, FederateConfig, Wanted, check_section
from flames_cli.core.scores.extra_metrics import METRICS
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.stages.compare.lines import Pools
from flames_cli.stages.compare.metrics import of_plugins
from flames_cli.stages.evaluate.stage import evaluate, find_evaluation
from flames_cli.stages.progress import Progress
from flames_cli.stages.rounds import choose_round, read_run_rounds
from flames_cli.store.evaluations import (
    CASES,
    METRIC_FACTS,
    SUMMARY,
    VOLUMES,
    CaseScore,
    EvaluationFile,
    VolumeScore,
    read_case_scores,
    read_evaluation_file,
    read_volume_scores,
)
from flames_cli.store.runs import find_runs, read_config
from flames_cli.store.workspace import evaluation_folder


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Evaluation of one run, or of one family of runs."""

    content: EvaluationFile
    folder: Path
    cases: list[CaseScore]
    volumes: list[VolumeScore]
    made_now: bool
    """True if this command made it."""


def gather_evaluations(config: CompareConfig, progress: Progress) -> tuple[list[Evaluated], list[str]]:
    """Return the evaluation of each run, and notes about their rounds; missing ones are made.

    A name that no run has may be that of an evaluation, which is read as it is.

    Raises:
        FlamesError: a run cannot be evaluated, or a file of an evaluation is damaged.
        MissingArtifact: there is no such run.
    """
    named = {name: folder for name in config.runs if (folder := _find_named(config.workspace, name))}
    if named and config.round is not None:
        raise FlamesError(
            f"got --round {config.round}, and {next(iter(named))} is an evaluation, whose round is fixed; "
            "leave --round out, or name runs only"
        )
    rounds, notes = _choose_rounds(config, [run for run in config.runs if run not in named])
    _check_named(named, of_plugins(config.metrics))
    found = [
        _read(named[run], run, made_now=False)
        if run in named
        else _gather(config, run, rounds[run], progress)
        for run in config.runs
    ]
    return found, [*notes, *(_describe(one) for one in found if one.folder in named.values())]


def _check_named(named: Mapping[str, Path], metrics: Sequence[str]) -> None:
    """Check that evaluations that are read as they are have these metrics of plug-ins, by the same code.

    Raises:
        FlamesError: one does not, or has it by another version.
    """
    for name, folder in named.items():
        there = read_evaluation_file(folder / SUMMARY).options.get(METRIC_FACTS, {})
        if missing := [metric for metric in metrics if metric not in there]:
            raise FlamesError(
                f"got --metric {missing[0]}, and the evaluation {name} was made without it; make it again "
                f"with `flames evaluate --metric {missing[0]}`, or name the run instead"
            )
        for metric in metrics:
            now = METRICS.look_up(metric)
            if there[metric] != now.facts:
                raise FlamesError(
                    f"the evaluation {name} has metric '{metric}' of {there[metric].get('plugin')}, and now "
                    f"it is of {now.plugin}; make it again with `flames evaluate --metric {metric}`, or name "
                    "the run instead"
                )


def _find_named(workspace: Path, name: str) -> Path | None:
    """Return the folder of the evaluation `name`; None if a run or family has this name, or there is none."""
    folder = evaluation_folder(workspace, name)
    if not (folder / SUMMARY).is_file():
        return None
    try:
        find_runs(workspace, name)
    except MissingArtifact:
        return folder
    return None


def _describe(found: Evaluated) -> str:
    rounds = sorted({run.round for run in found.content.runs})
    runs = found.content.runs[0].name if len(found.content.runs) == 1 else f"{len(found.content.runs)} runs"
    return (
        f"{found.content.run}: an evaluation as it is, of {runs}, round{'s' if len(rounds) > 1 else ''} "
        f"{', '.join(map(str, rounds))}"
    )


def _gather(config: CompareConfig, run: str, wanted: Wanted | None, progress: Progress) -> Evaluated:
    options = EvaluateConfig(
        workspace=config.workspace,
        run=run,
        round=wanted,
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,
        overlays=False,
        metrics=of_plugins(config.metrics),
    )
    folder = find_evaluation(options)
    made_now = folder is None
    if folder is None:
        folder = evaluate(options, lambda what, done, n: progress(f"{run}: {what}", done, n)).folder
    return _read(folder, run, made_now)


def _read(folder: Path, name: str, made_now: bool) -> Evaluated:
    """Return an evaluation under the name by which the user called it."""
    return Evaluated(
        replace(read_evaluation_file(folder / SUMMARY), run=name),
        folder,
        read_case_scores(folder / CASES),
        read_volume_scores(folder / VOLUMES),
        made_now,
    )


def _choose_rounds(config: CompareConfig, runs: Sequence[str]) -> tuple[dict[str, Wanted | None], list[str]]:
    """Return the round to ask of each run: without a request, all have theirs by one rule.

    If one run has its last round by default, all have: a choice by validation would favour the others.
    """
    if config.round is not None:
        return dict.fromkeys(runs, config.round), []
    rules = {run: _default_rules(config.workspace, run) for run in runs}
    limited = [run for run, found in rules.items() if "last" in found]
    if not limited or all(found == {"last"} for found in rules.values()):
        return dict.fromkeys(runs), []
    wanted: dict[str, Wanted | None] = {
        run: None if found == {"last"} else "last" for run, found in rules.items()
    }
    return wanted, [f"all runs: the last round, as of {', '.join(limited)}, which has no other by default"]


def _default_rules(workspace: Path, run: str) -> set[str]:
    """Return the rules by which the rounds of a run, or of the runs of a family, are chosen by default."""
    _, folders = find_runs(workspace, run)
    found = set()
    for folder in folders:
        options = read_config(folder.config).get("federate", {})
        made = check_section(FederateConfig, options, where=f"{folder.config}: ")
        found.add(choose_round(read_run_rounds(folder, made), None).asked)
    return found


def check_same_tests(found: Sequence[Evaluated], pools: Pools) -> None:
    """Check that all runs were tested on the same patients, wherever they have models of the same name.

    Raises:
        FlamesError: the test patients of a run differ from those of the first; the message names the runs and
            their partitions.
    """
    reference, first = pools[0], _with_partition(found[0])
    for one, pool in zip(found[1:], pools[1:], strict=True):
        for key in (key for key in pool if key in reference):
            ours, theirs = set(pool[key].people), set(reference[key].people)
            if ours != theirs:
                what = "client" if key.split == "client_test" else "server model"
                raise FlamesError(
                    f"{_with_partition(one)} and {first} have different test patients: {what} {key.name} "
                    f"has {len(ours & theirs)} of {len(ours | theirs)} in common, expected the same; compare "
                    "runs of one partition, or families of the same folds"
                )


def _with_partition(found: Evaluated) -> str:
    names = list(dict.fromkeys(run.partition for run in found.content.runs))
    return f"run '{found.content.run}' (partition{'s' if len(names) > 1 else ''} {', '.join(names)})"
