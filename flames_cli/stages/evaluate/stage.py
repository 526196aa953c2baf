"""`flames evaluate`: a run and its shards → scores per image and volume, tables of clients and server models,
and pictures."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flames_cli import __version__
from flames_cli.config import EvaluateConfig
from flames_cli.core.scores.extra_metrics import extra_metrics
from flames_cli.core.scores.intervals import DRAWS, LEVEL
from flames_cli.errors import FlamesError
from flames_cli.learn.segment import Ensemble
from flames_cli.report.figures import OverlayRow
from flames_cli.stages.evaluate.choices import MaskChoice, MaskOptions, choose_masks
from flames_cli.stages.evaluate.cross_site import TABLE as CROSS_SITE
from flames_cli.stages.evaluate.cross_site import CrossScore, CrossSite, make_cells, score_masks
from flames_cli.stages.evaluate.details import Details, calibration_lines, choice_lines
from flames_cli.stages.evaluate.ensembles import check_ensemble, find_ensembles
from flames_cli.stages.evaluate.files import (
    PREDICTIONS_FILE,
    Evaluation,
    has_same_models,
    write_evaluation,
)
from flames_cli.stages.evaluate.gains import make_gains
from flames_cli.stages.evaluate.loading import (
    Loaded,
    LoadedRun,
    has_stale_statistics,
    load_all,
    name_of,
    reading_partitions,
)
from flames_cli.stages.evaluate.metric_rows import metric_lines
from flames_cli.stages.evaluate.models_under_test import (
    ALL_MODELS,
    HeldOut,
    HeldOutCases,
    ModelUnderTest,
    find_models_under_test,
    find_untested,
    list_held_out,
    read_held_out,
)
from flames_cli.stages.evaluate.other_modalities import check_choice
from flames_cli.stages.evaluate.pictures import make_overlay_row
from flames_cli.stages.evaluate.predicting import predict, predict_plainly
from flames_cli.stages.evaluate.scoring import RunFacts, score_cases, score_volumes
from flames_cli.stages.evaluate.tables import NAME_OF, make_tables
from flames_cli.stages.evaluate.weights import load_weights
from flames_cli.stages.progress import Progress, silent
from flames_cli.store.cases import Spool
from flames_cli.store.evaluations import (
    CASES,
    METRIC_FACTS,
    PLUGINS,
    VOLUMES,
    CaseScore,
    EvaluatedRun,
    EvaluationFile,
    VolumeScore,
)
from flames_cli.store.partition import ClientEntry
from flames_cli.store.predictions import PredictedSet, PredictionSpool
from flames_cli.store.workspace import evaluation_folder


def evaluate(config: EvaluateConfig, progress: Progress = silent) -> Evaluation:
    """Score a run's models of one round on the test sets, which no other stage has used.

    Without a choice of `client_test` or `server_test`, both are scored. The intervals are drawn with the
    run's own seed, so the same run gives the same files.

    Raises:
        MissingArtifact: there is no partition, no such run, or no checkpoint.
        FlamesError: the run's partition does not exist any more, a file is damaged, or a metric of a plug-in
            is not known or fails.
    """
    with reading_partitions(config):
        return _evaluate(config, progress)


def find_evaluation(config: EvaluateConfig) -> Path | None:
    """Return the folder that `evaluate` would write, if it is there already with the scores of the same
    models; else None.

    Raises:
        MissingArtifact, FlamesError: as `evaluate`.
    """
    with reading_partitions(config):
        loaded = _load(config)
    config = check_choice(config, loaded)
    content = _describe_all(config, loaded, _choose_splits(config, loaded))
    folder = evaluation_folder(config.workspace, content.name)
    complete = all((folder / name).is_file() for name in (CASES, VOLUMES, PREDICTIONS_FILE))
    return folder if complete and has_same_models(folder, content, at_least=True) else None


def _describe_all(config: EvaluateConfig, loaded: Loaded, splits: Sequence[str]) -> EvaluationFile:
    """Return what is known of an evaluation before any model is scored."""
    return EvaluationFile(
        name=name_of(loaded, config, splits),
        run=loaded.name,
        runs=tuple(_describe(run) for run in loaded.runs),
        options=_options(config, splits, loaded),
        small={},
        units={},
        tables={},
        privacy=loaded.first.privacy,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """Everything that scoring finds, in the order in which models are scored."""

    masks: PredictionSpool
    cases: list[CaseScore] = field(default_factory=list)
    volumes: list[VolumeScore] = field(default_factory=list)
    small: dict[str, str] = field(default_factory=dict)
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    incomplete: dict[str, None] = field(default_factory=dict)
    """Data sets with incomplete volumes, in order."""
    overlays: dict[str, list[OverlayRow]] = field(default_factory=dict)
    details: Details = field(default_factory=Details)
    choices: dict[tuple[str, ...], tuple[RunFacts, ModelUnderTest, MaskChoice]] = field(default_factory=dict)
    """Rule for the masks of each model, by run and model."""


def _evaluate(config: EvaluateConfig, progress: Progress) -> Evaluation:
    loaded = _load(config)
    config = check_choice(config, loaded)
    splits = _choose_splits(config, loaded)
    wanted = (config.model or ALL_MODELS) if config.on else ""
    options = _mask_options(config, loaded)
    content = _describe_all(config, loaded, splits)
    folder = evaluation_folder(config.workspace, content.name)
    drawn = loaded.first if config.overlays else None
    with Spool(folder) as spool:
        found = _Found(PredictionSpool(spool), units={split: {} for split in splits})
        for split in splits:
            tests = _list_ensemble_tests(loaded) if config.ensemble else _list_tests(loaded, split, config.on)
            for done, (held_out, runs) in enumerate(tests, start=1):
                if config.ensemble:
                    models = list(find_ensembles(loaded.name, runs, held_out))
                else:
                    models = list(_models(runs, held_out, wanted))
                if models:
                    _score_test_set(found, models, held_out, options, drawn)
                progress(f"evaluate {split}", done, len(tests))
        tables = make_tables(found.cases, found.volumes, splits, loaded.first.seed)
        cross = _cross_site(found, loaded, options, progress) if config.cross_site else None
        cells = {CROSS_SITE: [cell.cells() for cell in cross.cells]} if cross else {}
        content = replace(
            content,
            small=dict(sorted(found.small.items())),
            units=found.units,
            tables=tables.as_lines() | _detail_tables(found, content, loaded.first.seed) | cells,
            untested=_find_untested(config, loaded, {score.model for score in found.cases}),
            incomplete=tuple(found.incomplete),
            fairness=tables.fairness,
        )
        return write_evaluation(
            Evaluation(content, tables, folder, cross),
            found.cases,
            found.volumes,
            found.masks,
            found.details,
            found.overlays,
        )


def _load(config: EvaluateConfig) -> Loaded:
    """Return the run or the family to evaluate, or the model of `config.weights`.

    Raises:
        MissingArtifact, FlamesError: as `load_all` and `load_weights`; or an option needs `config.weights`.
    """
    if config.weights:
        return load_weights(config, config.weights)
    described = {
        "--modality": config.modality,
        "--partition": config.partition,
        "--model-option": config.model_options,
        "--norm": config.norm != "batch",
    }
    if given := [option for option, value in described.items() if value]:
        raise FlamesError(
            f"got {given[0]} without --weights, expected both: a run knows its own; pass --weights FILE, or "
            f"leave {given[0]} out"
        )
    return load_all(config, config.run)


def _cross_site(found: _Found, loaded: Loaded, options: MaskOptions, progress: Progress) -> CrossSite | None:
    """Return the scores of every client's model on every client's test set; None if no client has one.

    A model sees images of modalities that it was never trained on, too. Its masks are made as those of its
    own client.
    """
    scores: list[CrossScore] = []
    tests = _list_tests(loaded, "client_test", ())
    for done, (held_out, runs) in enumerate(tests, start=1):
        scores += _score_crossed(found, runs, held_out, options)
        progress("evaluate cross-site", done, len(tests))
    return CrossSite(scores, make_cells(scores)) if scores else None


def _score_crossed(
    found: _Found, runs: Sequence[LoadedRun], held_out: HeldOut, options: MaskOptions
) -> Iterator[CrossScore]:
    """Yield the scores of every client's model on one client's test set."""
    cases, client = read_held_out(held_out), held_out.entry
    if not isinstance(client, ClientEntry):
        return
    for run in runs:
        facts = RunFacts(run.folder.name, run.seed, run.fold)
        for home in _homes(run):
            for model in find_models_under_test(home, run.partition.content, run.algorithm, run.state):
                rule = _choose(found, run, model, home, options).rule
                masks = predict_plainly(run.segmenter, model.weights, cases.data, rule)
                yield from score_masks(facts, model, client, cases, masks)


def _homes(run: LoadedRun) -> Iterator[HeldOut]:
    """Yield the test set of each client that has a model; clients that joined after this round have none."""
    for client in run.partition.content.clients:
        if run.algorithm.model_group_of(client.name, client.modality) in run.state.server:
            yield HeldOut(run.partition.folder, client, ("test",))


def _choose_splits(config: EvaluateConfig, loaded: Loaded) -> list[str]:
    """Return the splits to test.

    Raises:
        FlamesError: tests of clients were requested whose data are at their sites, or the options do not fit
            an ensemble.
    """
    if config.ensemble:
        check_ensemble(config, loaded)
        return ["server_test"]
    run = loaded.first
    chosen = {"client_test": config.client_test, "server_test": config.server_test}
    splits = [split for split, wanted in chosen.items() if wanted or not any(chosen.values())]
    if config.on or config.weights:
        return ["server_test"]
    if not run.at_sites:
        return splits
    if config.client_test or config.cross_site:
        option = "--client-test" if config.client_test else "--cross-site"
        raise FlamesError(
            f"the clients of run '{run.folder.name}' test at their own sites, and their reports are in "
            f"{run.folder.client_tests}; leave {option} out"
        )
    return ["server_test"]


def _mask_options(config: EvaluateConfig, loaded: Loaded) -> MaskOptions:
    """Return the options for masks.

    Raises:
        FlamesError: validation patients should choose, whose data are at their sites.
    """
    options = MaskOptions(config.threshold, config.tta, config.postprocess, config.lesion_iou, config.metrics)
    if options.need_validation and loaded.first.at_sites:
        asked = "--threshold auto" if options.threshold == "auto" else "--postprocess auto"
        raise FlamesError(
            f"{asked} chooses on validation patients, and those of run '{loaded.first.folder.name}' are at "
            "its real nodes; pass --threshold with a number, and leave --postprocess out"
        )
    return options


def _detail_tables(found: _Found, content: EvaluationFile, seed: int) -> dict[str, list[dict[str, object]]]:
    """Return the tables of calibration, of choices on validation patients, of what options change, and of
    metrics of plug-ins."""
    tables: dict[str, list[dict[str, object]]] = {}
    for split, name in NAME_OF.items():
        bins = [one for one in found.details.bins if one.split == split]
        before = [one for one in found.details.before if one.split == split]
        cases = [score for score in found.cases if score.split == split]
        volumes = [score for score in found.volumes if score.split == split]
        choices = [one for one in found.choices.values() if one[1].split == split]
        tables[f"calibration-{name}"] = calibration_lines(bins)
        tables[f"choices-{name}"] = choice_lines(choices)
        tables[f"gains-{name}"] = make_gains(cases, volumes, before, seed)
        tables[f"metrics-{name}"] = metric_lines(cases, volumes, content.options)
    return {name: lines for name, lines in tables.items() if lines}


def _options(config: EvaluateConfig, splits: Sequence[str], loaded: Loaded) -> dict[str, object]:
    """Return the options that change the scores, and the plug-ins of the runs."""
    interval = {"level": LEVEL, "draws": DRAWS, "seed": loaded.first.seed}
    masks = {"threshold": config.threshold, "tta": config.tta, "postprocess": config.postprocess}
    masks["lesion_iou"] = config.lesion_iou
    cross = {"cross_site": True} if config.cross_site else {}
    options: dict[str, object] = {
        "flames": __version__,
        "splits": list(splits),
        "round": config.round,
        "interval": interval,
        **masks,
        "ensemble": config.ensemble,
        **cross,
    }
    if plugins := sorted({one for run in loaded.runs for one in run.plugins}):
        options[PLUGINS] = plugins
    if config.metrics:
        options[METRIC_FACTS] = {one.name: one.facts for one in extra_metrics(config.metrics)}
    return {**options, "on": list(config.on), "model": config.model} if config.on else options


def _describe(run: LoadedRun) -> EvaluatedRun:
    chosen = run.chosen
    return EvaluatedRun(
        name=run.folder.name,
        strategy=run.strategy,
        seed=run.seed,
        fold=run.fold,
        round=chosen.round,
        last_round=chosen.last,
        asked=chosen.asked,
        why=chosen.why,
        partition=run.partition.name,
        partition_sha256=run.partition.sha256,
        checkpoint=run.checkpoint,
        validation_dice=chosen.validation_dice,
        stale_statistics=has_stale_statistics(run),
    )


def _find_untested(config: EvaluateConfig, loaded: Loaded, tested: Container[str]) -> dict[str, str]:
    """Return the clients, modalities and runs that are in no table, each with its reason.

    A client may have test patients in some folds only; `tested` are the models with scores.
    """
    found: dict[str, str] = {}
    for run in loaded.runs if not config.on and not config.weights else ():
        found |= find_untested(run.partition.content, run.state)
    return {name: why for name, why in found.items() if name not in tested} | loaded.left_out


def _list_tests(loaded: Loaded, split: str, on: Sequence[str]) -> list[tuple[HeldOut, list[LoadedRun]]]:
    """Return the test sets of a split, each with the runs that are made on its partition."""
    by_partition: dict[str, list[LoadedRun]] = {}
    for run in loaded.runs:
        by_partition.setdefault(run.partition.sha256, []).append(run)
    return [
        (held_out, runs)
        for runs in by_partition.values()
        for held_out in list_held_out(runs[0].partition.folder, runs[0].partition.content, split, on)
    ]


def _list_ensemble_tests(loaded: Loaded) -> list[tuple[HeldOut, list[LoadedRun]]]:
    """Return the server's test sets, each with all runs: folds have the same ones."""
    first = loaded.first.partition
    tests = list_held_out(first.folder, first.content, "server_test")
    return [(held_out, loaded.runs) for held_out in tests]


def _score_test_set(
    found: _Found,
    models: Sequence[tuple[LoadedRun, ModelUnderTest]],
    held_out: HeldOut,
    options: MaskOptions,
    drawn: LoadedRun | None,
) -> None:
    """Score models on a test set, which is in memory only for that time.

    Args:
        found: receives the scores.
        models: models of runs that are made on the partition of the test set.
        held_out: the test set.
        options: how masks are made from probabilities.
        drawn: the run whose masks are drawn; None: no picture.
    """
    tests = read_held_out(held_out)
    data = tests.data
    complete = {index for volume in data.volumes for index in volume.indices}
    for index in range(len(data)):
        found.small[data.dataset(index)] = str(data.small_rule(index))
        found.units[held_out.split][data.dataset(index)] = data.patient_unit(index)
        if data.case(index).place and index not in complete:
            found.incomplete[data.dataset(index)] = None
    for run, model in models:
        facts = RunFacts(run.folder.name, run.seed, run.fold)
        choice = _choose(found, run, model, held_out, options)
        predicted = predict(
            run.segmenter, model.weights, data, choice.rule, options.names, options.lesion_iou
        )
        found.details.add(facts, model, tests, predicted)
        masks = list(predicted.masks)
        cases = score_cases(facts, model, tests, masks, options.wanted)
        found.cases.extend(cases)
        found.volumes.extend(score_volumes(facts, model, tests, masks, options.wanted))
        found.masks.add(_predicted_set(run, model, tests), masks)
        if drawn and (run is drawn or isinstance(run.segmenter, Ensemble)):
            row = make_overlay_row(model, data, cases, masks)
            found.overlays.setdefault(held_out.split, []).append(row)


def _choose(
    found: _Found, run: LoadedRun, model: ModelUnderTest, held_out: HeldOut, options: MaskOptions
) -> MaskChoice:
    """Return how the model's masks are made, the same for all of its test sets."""
    key = run.folder.name, model.split, model.label, model.modality
    if key not in found.choices:
        clients = model.clients if options.need_validation else ()
        sets = [
            read_held_out(HeldOut(held_out.folder, client, ("val",)))
            for client in clients
            if client.images["val"]
        ]
        choice = choose_masks(options, run.segmenter, model.weights, sets)
        found.choices[key] = RunFacts(run.folder.name, run.seed, run.fold), model, choice
    return found.choices[key][2]


def _models(
    runs: Sequence[LoadedRun], held_out: HeldOut, wanted: str
) -> Iterator[tuple[LoadedRun, ModelUnderTest]]:
    for run in runs:
        models = find_models_under_test(held_out, run.partition.content, run.algorithm, run.state, wanted)
        yield from ((run, model) for model in models)


def _predicted_set(run: LoadedRun, model: ModelUnderTest, tests: HeldOutCases) -> PredictedSet:
    rows = range(len(tests.data))
    return PredictedSet(
        run=run.folder.name,
        split=model.split,
        model=model.label,
        modality=model.modality,
        unseen_site=model.unseen,
        datasets=tuple(tests.data.dataset(row) for row in rows),
        cases=tuple(tests.data.case(row).case for row in rows),
    )
