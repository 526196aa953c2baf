"""Evaluations of the runs of a comparison: those that are there, and others that are made first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.config import CompareConfig, EvaluateConfig, FederateConfig, Wanted, check_section
from flames_cli.errors import FlamesError
from flames_cli.stages.compare.lines import Pools
from flames_cli.stages.evaluate.stage import evaluate, find_evaluation
from flames_cli.stages.progress import Progress
from flames_cli.stages.rounds import choose_round, read_run_rounds
from flames_cli.store.evaluations import (
    CASES,
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

    Raises:
        FlamesError: a run cannot be evaluated, or a file of an evaluation is damaged.
        MissingArtifact: there is no such run.
    """
    rounds, notes = _choose_rounds(config)
    return [_gather(config, run, rounds[run], progress) for run in config.runs], notes


def _gather(config: CompareConfig, run: str, wanted: Wanted | None, progress: Progress) -> Evaluated:
    options = EvaluateConfig(
        workspace=config.workspace,
        run=run,
        round=wanted,
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,
        overlays=False,
    )
    folder = find_evaluation(options)
    made_now = folder is None
    if folder is None:
        folder = evaluate(options, lambda what, done, n: progress(f"{run}: {what}", done, n)).folder
    return Evaluated(
        read_evaluation_file(folder / SUMMARY),
        folder,
        read_case_scores(folder / CASES),
        read_volume_scores(folder / VOLUMES),
        made_now,
    )


def _choose_rounds(config: CompareConfig) -> tuple[dict[str, Wanted | None], list[str]]:
    """Return the round to ask of each run: without a request, all have theirs by one rule.

    If one run has its last round by default, all have: a choice by validation would favour the others.
    """
    if config.round is not None:
        return dict.fromkeys(config.runs, config.round), []
    rules = {run: _default_rules(config.workspace, run) for run in config.runs}
    limited = [run for run, found in rules.items() if "last" in found]
    if not limited or all(found == {"last"} for found in rules.values()):
        return dict.fromkeys(config.runs), []
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
