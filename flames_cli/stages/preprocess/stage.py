"""`flames preprocess`: raw folder → `preprocessed/<dataset>.h5` and a JSON report next to it, in one pass
with bounded memory.

Patients keep their names until the split, so that no set depends on the site's salt. Then they get their
pseudonyms.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flames_cli.config import PreprocessConfig
from flames_cli.core.pseudonyms import pseudonyms
from flames_cli.errors import FlamesError
from flames_cli.readers.base import Reader
from flames_cli.stages.preprocess.gathered_checks import check_gathered
from flames_cli.stages.preprocess.pseudonymise import rename_cases, write_table
from flames_cli.stages.preprocess.report import PreparedDataSet, Sets, make_report
from flames_cli.stages.preprocess.small_lesions import check_rules, choose_rule
from flames_cli.stages.preprocess.sources import (
    Gathered,
    find_split_units,
    gather,
    join_alike_ids,
    set_split_units,
)
from flames_cli.stages.preprocess.splitting import divide_cases, split_cases
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.raw import (
    Kind,
    Opened,
    check_windows,
    find_alike_ids,
    kind_of,
    name_datasets,
    open_raw,
    rule_of,
)
from flames_cli.store.cache import making_room
from flames_cli.store.cases import SetInfo, Spool
from flames_cli.store.files.atomic import remove_leftovers, write_json
from flames_cli.store.files.locks import in_turn
from flames_cli.store.h5 import files_of, write_collection
from flames_cli.store.salts import make_salt, read_salt, salt_path, table_path


def preprocess(config: PreprocessConfig, dataset: str, progress: Progress = silent) -> list[dict[str, Any]]:
    """Preprocess the raw data of one reader and return the reports, which are also written as JSON.

    There is one report and one HDF5 file for every modality and organ; only a manifest can have several. They
    are split together, so that no patient is trained on in one modality and tested in another.

    Raises:
        FlamesError: there are no raw data, bad cases without `skip_bad`, too few patients, an invalid salt,
            or output that exists without `overwrite`. Nothing is written then.
    """
    opened = open_raw(config, dataset, config.keep_columns)
    reader, collection, sources = opened.reader, opened.name, opened.sources
    if len(config.datasets) < 2:  # a window may be for another of them
        check_windows(config, (kind_of(reader, source)[0] for source in sources))
    names = name_datasets(opened)
    check_rules(config, reader, list(dict.fromkeys([*names.values(), collection])))
    targets = {kind: config.workspace / "preprocessed" / f"{name}.h5" for kind, name in names.items()}
    _find_earlier(collection, list(targets.values()), config.overwrite)
    salt_file = _find_salt(config)
    with Spool(config.workspace / "preprocessed") as spool:
        gathered = gather(opened, config, spool, progress)
        check_gathered(config, collection, names, sources, gathered)
        copy_unit_of = find_split_units(reader, gathered.values())
        alike = find_alike_ids(reader, sources)
        unit_of = join_alike_ids(copy_unit_of, alike)
        sets = _split(reader, collection, names, gathered, unit_of, config)
        pseudonym_of = _give_pseudonyms(salt_file, opened)
        datasets = [
            PreparedDataSet(
                info=SetInfo(
                    dataset=names[modality, organ],
                    modality=modality,
                    organ=organ,
                    size=config.size,
                    max_value=part.max_value,
                    channels=part.channels,
                    collection=collection,
                    small=choose_rule(config, reader, names[modality, organ], collection),
                    patient_unit=reader.patient_unit,
                    mask_resize=config.mask_resize,
                    intensities=rule_of(reader, modality, config),
                    empty=config.empty,
                ),
                sets={own: rename_cases(cases, pseudonym_of) for own, cases in sets[modality, organ].items()},
                part=part,
                near=_near_copies(copy_unit_of, part),
                alike=_alike_ids(alike, part),
                target=targets[modality, organ],
            )
            for (modality, organ), part in gathered.items()
        ]
        with in_turn(config.workspace / "preprocessed"):
            return _write(config, opened, datasets, pseudonym_of, spool)


def _write(
    config: PreprocessConfig,
    opened: Opened,
    datasets: Sequence[PreparedDataSet],
    pseudonym_of: Mapping[str, str],
    spool: Spool,
) -> list[dict[str, Any]]:
    """Write the files of all data sets in place of earlier files; return the reports, which are written
    last."""
    targets = [made.target for made in datasets]
    earlier = _find_earlier(opened.name, targets, config.overwrite)
    for target in targets:
        remove_leftovers(target.parent, f"{target.stem}.*")
    files = {made.target: (made.info, made.sets) for made in datasets}
    making_room(config.workspace, lambda: write_collection(files, spool))
    for path in earlier:
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
        table_path(config.workspace, path.stem).unlink(missing_ok=True)
    reports = []
    for made in datasets:
        report = make_report(opened, config, made, pseudonym_of)
        write_table(table_path(config.workspace, made.info.dataset), made.part, pseudonym_of)
        write_json(made.target.with_suffix(".json"), report)
        reports.append(report)
    return reports


def _find_salt(config: PreprocessConfig) -> Path:
    """Return the path of the salt. An existing salt is read once before the long work, so that an error comes
    early.

    Raises:
        FlamesError: it is not a valid salt, or the user's file is missing.
    """
    own = salt_path(config.workspace)
    if config.salt_file or own.exists():
        read_salt(config.salt_file or own)
    return config.salt_file or own


def _give_pseudonyms(salt_file: Path, opened: Opened) -> dict[str, str]:
    """Return {patient: pseudonym}; draw the workspace's own salt if this is its first data set.

    Ids of images and sequences, which other data sets may use for other people, count within the data set.
    """
    if not salt_file.exists():
        make_salt(salt_file)
    within = "" if opened.reader.patient_unit == "patient" else opened.name
    return pseudonyms(read_salt(salt_file), (source.patient for source in opened.sources), within)


def _find_earlier(collection: str, targets: Sequence[Path], overwrite: bool) -> list[Path]:
    """Return earlier files of the collection with other names, for example from before a modality was added:
    its patients would be in the workspace twice.

    Raises:
        FlamesError: there are such files, or one of `targets` exists, and they may not be replaced.
    """
    for target in targets:
        # A file without its report was left by a call that was interrupted.
        if target.exists() and target.with_suffix(".json").exists() and not overwrite:
            raise FlamesError(f"{target} exists already; pass --overwrite to make it again")
    others = [path for path in files_of(collection, targets[0].parent) if path not in targets]
    if others and not overwrite:
        raise FlamesError(
            f"{others[0]} also belongs to {collection}, preprocessed when it had other modalities; "
            "pass --overwrite to replace it, or another --name"
        )
    return others


def _split(
    reader: Reader,
    collection: str,
    names: dict[Kind, str],
    gathered: dict[Kind, Gathered],
    unit_of: dict[str, str],
    config: PreprocessConfig,
) -> dict[Kind, Sets]:
    cases = {kind: set_split_units(part.cases, unit_of) for kind, part in gathered.items()}
    by_name = {names[kind]: part for kind, part in cases.items()}
    fixed = _fixed_sets(collection, gathered.values(), unit_of)
    set_of = split_cases(reader, collection, by_name, fixed, config)
    unit = reader.patient_unit
    return {kind: divide_cases(names[kind], part, set_of, config, unit) for kind, part in cases.items()}


def _fixed_sets(collection: str, parts: Iterable[Gathered], unit_of: dict[str, str]) -> dict[str, str]:
    """Return the set of every unit, if the data set itself names it."""
    fixed: dict[str, str] = {}
    for part in parts:
        for source in (sound.source for sound in part.used):
            unit = unit_of[source.patient]
            if source.fixed_set and fixed.setdefault(unit, source.fixed_set) != source.fixed_set:
                raise FlamesError(
                    f"{collection}: patient {source.patient}, a copy of one of its images, or another "
                    f"spelling of its id is in {fixed[unit]} and in {source.fixed_set}; a patient belongs in "
                    "one set"
                )
    return fixed


def _alike_ids(alike: Iterable[Sequence[str]], part: Gathered) -> list[list[str]]:
    """Return the lists of patients of `part` that are kept together because their ids are alike."""
    kept = {sound.source.patient for sound in part.used}
    groups = ([patient for patient in group if patient in kept] for group in alike)
    return [group for group in groups if len(group) > 1]


def _near_copies(unit_of: dict[str, str], part: Gathered) -> list[list[str]]:
    """Return the lists of patients that are kept together because their images are near copies."""
    members: dict[str, list[str]] = {}
    for patient in sorted({sound.source.patient for sound in part.used}):
        members.setdefault(unit_of[patient], []).append(patient)
    return [unit for unit in members.values() if len(unit) > 1]
