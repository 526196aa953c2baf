"""`flames evaluate`: a run and its shards → metrics per case, tables of clients and server models, and
pictures."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flames_cli.config import EvaluateConfig, FederateConfig, check_section
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.final_statistics import statistics_of
from flames_cli.core.federated.reports import State
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines import ENGINES
from flames_cli.learn.models import options_for
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.evaluate.files import Evaluation, case_rows, write_evaluation
from flames_cli.stages.evaluate.lesion_rows import LesionRow, make_lesion_row
from flames_cli.stages.evaluate.models_under_test import (
    find_counterpart,
    find_models_under_test,
    find_untested,
    load_held_out,
)
from flames_cli.stages.evaluate.parts import Scored, divide, pool
from flames_cli.stages.evaluate.pictures import Curves, draw_evaluation, learning_curves
from flames_cli.stages.evaluate.rows import make_row
from flames_cli.stages.evaluate.scoring import ModelUnderTest, score_model
from flames_cli.stages.federate.planning import choose_privacy
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.rounds import ChosenRound, Rounds, choose_round, read_run_rounds
from flames_cli.store.checkpoint import DamagedCheckpoint, index_path, load_state, round_folder
from flames_cli.store.files.atomic import remove_leftovers
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.files.locks import in_turn, reading_shards
from flames_cli.store.partition import Partition, read_partition
from flames_cli.store.runs import RunFolder, find_run, read_config, read_final_models, read_rounds


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run, its models after one round and the options with which they were made."""

    folder: RunFolder
    strategy: str
    algorithm: Algorithm
    state: State
    checkpoint: str
    """SHA-256 of the checkpoint's index, which contains the checksums of its files."""
    segmenter: Segmenter
    chosen: ChosenRound
    """The round of `state`, and why it was chosen."""
    rounds: Rounds
    seed: int
    """Seed of all random draws in the run."""
    at_sites: bool = False
    """True if the clients were real nodes, whose data are at their sites."""
    privacy: dict[str, Any] | None = None
    """Privacy cost of its models, if they are private."""
    estimates_statistics: bool = False
    """True if clients estimate the statistics of BatchNorm of the last and the best round's models."""


def evaluate(config: EvaluateConfig, progress: Progress = silent) -> Evaluation:
    """Score a run's models of one round on the test sets, which no other stage has used.

    Without a choice of `client_test` or `server_test`, both are scored. The intervals are drawn with the
    run's own seed, so the same run gives the same files.

    Raises:
        MissingArtifact: there is no partition, no such run, or no checkpoint.
        FlamesError: the run was made on another partition, or a file is damaged.
    """
    with reading_shards(config.workspace):
        return _evaluate(config, progress)


def _evaluate(config: EvaluateConfig, progress: Progress) -> Evaluation:
    partition_file = config.workspace / "partition.json"
    partition = read_partition(partition_file)
    run, other = _load_runs(config, partition_file)
    splits = _choose_splits(config, run)
    scored = {
        split: _score_split(config.workspace, partition, run, other, split, progress) for split in splits
    }
    result = Evaluation(
        run=run.folder.name,
        strategy=run.strategy,
        round=run.state.round,
        compare=other.folder.name if other else None,
        models={loaded.folder.name: loaded.checkpoint for loaded in (run, other) if loaded},
        tables={
            split: [make_row(part) for one in tested for part in divide(one)]
            for split, tested in scored.items()
        },
        folder=_folder_of(run),
        chosen=run.chosen,
        compared=other.chosen if other else None,
        stale_statistics=_has_stale_statistics(run),
        untested=find_untested(partition, run.state),
        lesions={split: _lesion_rows(tested, run.seed) for split, tested in scored.items()},
        small=_find_rules(one.model for tested in scored.values() for one in tested),
        units={split: _find_units(tested) for split, tested in scored.items()},
        seed=run.seed,
        privacy=run.privacy,
    )
    # One at a time: a call for one split reads and keeps the tables that another call wrote.
    with in_turn(result.folder):
        remove_leftovers(result.folder)
        write_evaluation(result, [row for tested in scored.values() for row in case_rows(result, tested)])
        if config.overlays:
            lines, final = read_rounds(run.folder.rounds), read_final_models(run.folder)
            curves = Curves(learning_curves(lines, final), run.rounds.best_rounds)
            draw_evaluation(result.folder, run.segmenter, scored, curves)
    return result


def _load_runs(config: EvaluateConfig, partition_file: Path) -> tuple[LoadedRun, LoadedRun | None]:
    """Return the run, and the other one if it is compared: both by the same rule.

    Raises:
        MissingArtifact, FlamesError: as `load_run`.
    """
    run = load_run(config, config.run, partition_file)
    if config.compare is None:
        return run, None
    other = load_run(config, config.compare, partition_file)
    if config.round is not None or run.chosen.asked == other.chosen.asked:
        return run, other
    limited, free = (run, other) if run.chosen.asked == "last" else (other, run)
    forced = load_run(config.model_copy(update={"round": "last"}), free.folder.name, partition_file)
    why = f"the last round, as of run '{limited.folder.name}'"
    forced = replace(forced, chosen=replace(forced.chosen, why=why))
    return (run, forced) if limited is run else (forced, other)


def _folder_of(run: LoadedRun) -> Path:
    """Return the folder of the results: that of the run's default round, or one of the round's own."""
    if run.state.round == choose_round(run.rounds, None).round:
        return run.folder.evaluation
    return run.folder.evaluation / round_folder(Path(), run.state.round).name


def _has_stale_statistics(run: LoadedRun) -> bool:
    """Return whether the clients did not estimate the statistics of BatchNorm of this round's models."""
    return run.estimates_statistics and run.state.statistics is None


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


def load_run(config: EvaluateConfig, name: str | None, partition_file: Path) -> LoadedRun:
    """Return run `name` (None: the newest) with the models of the round that `config` asks for.

    Raises:
        MissingArtifact: there is no such run, or it has no checkpoint.
        FlamesError: it was made on another partition (its test patients may have been trained on), or with
            options that this release does not know; or it does not offer that round.
    """
    folder = find_run(config.workspace, name)
    tables = read_config(folder.config)
    facts = tables.get("run", {})
    if facts.get("partition_sha256") != hash_file(partition_file):
        raise FlamesError(
            f"run '{folder.name}' was made on another partition than {partition_file}, so its test patients "
            "may have been trained on; federate again with --fresh"
        )
    made = check_section(FederateConfig, tables.get("federate", {}), where=f"{folder.config}: ")
    options = options_for(facts.get("channels", 1), made.model_options)
    segmenter = Segmenter(
        made.model, options, config.device, config.precision, config.batch_size, made.training.norm
    )
    rounds = read_run_rounds(folder, made)
    chosen = choose_round(rounds, config.round)
    state = _load_round(folder, chosen)
    norms = bool(statistics_of(next(iter(state.server.values()), {})))
    return LoadedRun(
        folder=folder,
        strategy=made.strategy,
        algorithm=get_algorithm(made.strategy),
        state=state,
        checkpoint=hash_file(index_path(folder.checkpoints, state.round)),
        segmenter=segmenter,
        chosen=chosen,
        rounds=rounds,
        seed=made.seed,
        at_sites=ENGINES[made.engine].clients_hold_their_data,
        privacy=_privacy_facts(made, folder, state),
        estimates_statistics=norms and made.training.precise_norm and made.dp_noise is None,
    )


def _load_round(run: RunFolder, chosen: ChosenRound) -> State:
    """Return the state of the chosen round.

    Raises:
        FlamesError: its checkpoint is damaged.
    """
    try:
        return load_state(run.checkpoints, chosen.round)
    except DamagedCheckpoint as error:
        if chosen.round == chosen.last:
            raise
        raise FlamesError(
            f"the checkpoint {error.round_folder} is damaged ({error.what}), and `flames federate` does not "
            "repeat a round before the last; copy it back from a backup, or pass --round last"
        ) from error


def _privacy_facts(made: FederateConfig, folder: RunFolder, state: State) -> dict[str, Any] | None:
    """Return the privacy cost of the rounds that led to `state`, from the line of the last round; None
    without privacy."""
    privacy = choose_privacy(made)
    if privacy is None:
        return None
    lines = (record for record in read_rounds(folder.rounds) if record["round"] == state.round)
    spent = next(lines, {}).get("epsilon")
    unit = {"unit": "client", "relation": "add or remove one", "accountant": "rdp"}
    return {"epsilon": spent, **asdict(privacy), "rounds": state.round, "releases": state.releases, **unit}


def _score_split(
    workspace: Path,
    partition: Partition,
    run: LoadedRun,
    other: LoadedRun | None,
    split: str,
    progress: Progress,
) -> list[Scored]:
    """Score every model on its test set, and the other run's model on the same cases."""
    tests = load_held_out(workspace, partition, split)
    counterparts = (
        find_models_under_test(tests, partition, other.algorithm, other.state, split) if other else []
    )
    models = find_models_under_test(tests, partition, run.algorithm, run.state, split)
    scored = []
    for done, model in enumerate(models, start=1):
        scores, compared, counterpart = (
            score_model(run.segmenter, model),
            None,
            find_counterpart(counterparts, model),
        )
        if other and counterpart:
            compared = score_model(other.segmenter, counterpart)
        scored.append(Scored(model, scores, compared, counterpart.label if counterpart else ""))
        progress(f"evaluate {split}", done, len(models))
    return scored


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
