"""Patients that data sets share although they were split one by one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flames_cli.core.patient_names import find_alike
from flames_cli.errors import FlamesError
from flames_cli.stages.partition.cases import DataSet
from flames_cli.store.salts import read_known_ids, table_path

LISTED = 2
"""Number of pseudonyms that the message names."""


def require_different_patients(workspace: Path, datasets: Sequence[DataSet]) -> None:
    """Check that no patient is in two data sets that were not split together.

    One id has one pseudonym in all data sets of a site. Where the site's own tables exist, spellings of one
    id count, too. Images and sequences without a patient's id cannot be compared.

    Raises:
        FlamesError: patients are shared; the message names the data sets and pseudonyms, and no id.
    """
    named = [dataset for dataset in datasets if dataset.info.patient_unit == "patient"]
    person_of = _find_people(workspace, named)
    seen: dict[str, dict[str, tuple[str, str]]] = {}
    for dataset in named:
        for pseudonym in sorted({case.case.patient for case in dataset.cases}):
            person = person_of.get(pseudonym, pseudonym)
            seen.setdefault(person, {}).setdefault(dataset.collection, (dataset.name, pseudonym))
    shared = [list(places.values()) for places in seen.values() if len(places) > 1]
    if not shared:
        return
    names = [one.name for one in named if any(one.name == name for places in shared for name, _ in places)]
    pseudonyms = [" = ".join(dict.fromkeys(one for _, one in places)) for places in shared]
    more = ", …" if len(shared) > LISTED else ""
    raise FlamesError(
        f"{' and '.join(names)} were split one by one and share {len(shared)} "
        f"{'patient' if len(shared) == 1 else 'patients'} ({', '.join(pseudonyms[:LISTED])}{more}), expected "
        "none, since a patient could be in training and a test; list them in one manifest, divide only one "
        "data set (--dataset), or pass --different-people if the same id means another person in each; the "
        "tables in the workspace's folder private have the ids"
    )


def _find_people(workspace: Path, datasets: Sequence[DataSet]) -> Mapping[str, str]:
    """Return one name for all pseudonyms of one person, as far as the site's own tables show it."""
    id_of: dict[str, str] = {}
    for dataset in datasets:
        id_of |= read_known_ids(table_path(workspace, dataset.name))
    spelling = {patient: group[0] for group in find_alike(sorted(id_of.values())) for patient in group}
    return {pseudonym: f"id {spelling.get(patient, patient)}" for pseudonym, patient in id_of.items()}
