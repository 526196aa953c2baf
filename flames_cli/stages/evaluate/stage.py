"""`flames evaluate`: a run and its shards → metrics per case, tables of clients and server models, and
pictures."""

from collections.abc import Iterable, Sequence

from flames_cli.config import EvaluateConfig
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.stages.evaluate.files import Evaluation, case_rows, write_evaluation
from flames_cli.stages.evaluate.lesion_rows import LesionRow, make_lesion_row
from flames_cli.stages.evaluate.loading import (
    Loaded,
    LoadedRun,
    folder_of,
    has_stale_statistics,
    load_pair,
    reading_partitions,
)
from flames_cli.stages.evaluate.models_under_test import (
    HeldOutSets,
    find_counterpart,
    find_models_under_test,
    find_untested,
    load_held_out,
)
from flames_cli.stages.evaluate.parts import Scored, divide, pairs_seeds, pool
from flames_cli.stages.evaluate.pictures import draw_evaluation
from flames_cli.stages.evaluate.rows import make_row
from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score, score_model
from flames_cli.stages.progress import Progress, silent
from flames_cli.store.files.atomic import remove_leftovers
from flames_cli.store.files.locks import in_turn
from flames_cli.store.partition import Partition


def evaluate(config: EvaluateConfig, progress: Progress = silent) -> Evaluation:
    """Score a run's models of one round on the test sets, which no other stage has used.

    Without a choice of `client_test` or `server_test`, both are scored. The intervals are drawn with the
    run's own seed, so the same run gives the same files.

    Raises:
        MissingArtifact: there is no partition, no such run, or no checkpoint.
        FlamesError: the run's partition does not exist any more, or a file is damaged.
    """
    with reading_partitions(config):
        return _evaluate(config, progress)


def _evaluate(config: EvaluateConfig, progress: Progress) -> Evaluation:
    run, other = load_pair(config)
    folder, partition = run.first.partition.folder, run.first.partition.content
    splits = _choose_splits(config, run.first)
    sets = {split: load_held_out(folder, partition, split) for split in splits}
    scored = {split: _score_split(sets[split], partition, (run, other), split, progress) for split in splits}
    every = [*run.runs, *(other.runs if other else [])]
    result = Evaluation(
        run=run.name,
        strategy=run.first.strategy,
        round=run.first.state.round,
        compare=other.name if other else None,
        models={one.folder.name: one.checkpoint for one in every},
        tables={
            split: [make_row(part, run.first.seed) for one in tested for part in divide(one)]
            for split, tested in scored.items()
        },
        folder=folder_of(run, config),
        chosen={one.folder.name: one.chosen for one in every},
        stale_statistics=tuple(one.folder.name for one in every if has_stale_statistics(one)),
        pictures_of=run.first.folder.name if config.overlays and len(run.runs) > 1 else "",
        untested=_find_untested(partition, run, other),
        lesions={split: _lesion_rows(tested, run.first.seed) for split, tested in scored.items()},
        small=_find_rules(one.model for tested in scored.values() for one in tested),
        units={split: _find_units(tested) for split, tested in scored.items()},
        seeds=run.seeds,
        members=tuple(one.folder.name for one in run.runs),
        compared_seeds=other.seeds if other else (),
        privacy=run.first.privacy,
    )
    # One at a time: a call for one split reads and keeps the tables that another call wrote.
    with in_turn(result.folder):
        remove_leftovers(result.folder)
        write_evaluation(result, [row for tested in scored.values() for row in case_rows(result, tested)])
        if config.overlays:
            first = run.first
            title = f"{first.folder.name}, round {first.state.round}"
            draw_evaluation(result.folder, title, first.segmenter, scored)
    return result


def _choose_splits(config: EvaluateConfig, run: LoadedRun) -> list[str]:
    """Return the splits to test.

    Raises:
        FlamesError: tests of clients were requested whose data are at their sites.
    """
    chosen = {"client_test": config.client_test, "server_test": config.server_test}
    splits = [split for split, wanted in chosen.items() if wanted or not any(chosen.values())]
    if not run.at_sites:
        return splits
    if config.client_test:
        raise FlamesError(
            f"the clients of run '{run.folder.name}' test at their own sites, and their reports are in "
            f"{run.folder.client_tests}; leave --client-test out"
        )
    return ["server_test"]


def _find_untested(partition: Partition, run: Loaded, other: Loaded | None) -> dict[str, str]:
    """Return the clients, modalities and runs that are in no table, each with its reason."""
    found: dict[str, str] = {}
    for one in run.runs:
        found |= find_untested(partition, one.state)
    return found | run.left_out | (other.left_out if other else {})


def _score_split(
    tests: HeldOutSets,
    partition: Partition,
    compared: tuple[Loaded, Loaded | None],
    split: str,
    progress: Progress,
) -> list[Scored]:
    """Score every model on its test set with every seed, and the other run's model on the same cases."""
    run, other = compared
    models = _find_models(tests, partition, run, split)
    counterparts = _find_models(tests, partition, other, split) if other else []
    scored = []
    for done, versions in enumerate(models, start=1):
        found = find_counterpart([ours[0] for ours in counterparts], versions[0])
        theirs = next((ours for ours in counterparts if ours[0] is found), None)
        scored.append(
            Scored(
                versions[0],
                _score_seeds(run, versions),
                _score_seeds(other, theirs) if other and theirs else None,
                found.label if found else "",
                same_seeds=other is None or pairs_seeds(run.seeds, other.seeds),
            )
        )
        progress(f"evaluate {split}", done, len(models))
    return scored


def _find_models(
    tests: HeldOutSets, partition: Partition, run: Loaded, split: str
) -> list[tuple[ModelUnderTest, ...]]:
    """Return each model that all seeds have, in a version for each seed."""
    by_seed = [
        {
            (model.label, model.unseen): model
            for model in find_models_under_test(tests, partition, one.algorithm, one.state, split)
        }
        for one in run.runs
    ]
    names = [name for name in by_seed[0] if all(name in models for models in by_seed)]
    return [tuple(models[name] for models in by_seed) for name in names]


def _score_seeds(run: Loaded, versions: Sequence[ModelUnderTest]) -> list[list[Score]]:
    return [score_model(one.segmenter, model) for one, model in zip(run.runs, versions, strict=True)]


def _lesion_rows(scored: list[Scored], seed: int) -> list[LesionRow]:
    """Return one line per model and organ, then a line of all models together."""
    parts = [*(part for one in scored for part in divide(one)), *pool(scored)]
    return [make_lesion_row(part, seed) for part in parts]


def _find_rules(models: Iterable[ModelUnderTest]) -> dict[str, SmallLesionRule]:
    """Return the rule for small lesions by data set."""
    tests = (model.data for model in models)
    return {data.dataset(index): data.small_rule(index) for data in tests for index in range(len(data))}


def _find_units(scored: Iterable[Scored]) -> dict[str, str]:
    """Return the unit that counts as a patient, by data set."""
    tests = (one.model.data for one in scored)
    return {data.dataset(index): data.patient_unit(index) for data in tests for index in range(len(data))}
