"""Clients of a partition: the cases of each data set are divided between its clients, and each client's
between its sets.

Data sets that share patients are planned together: a patient has one role in all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from flames_cli.config import PartitionConfig
from flames_cli.core.patient_units import count_units
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import divide_units, draw_shares
from flames_cli.errors import FlamesError
from flames_cli.readers.pairs import natural_order
from flames_cli.stages.partition.cases import (
    DataSet,
    PlacedCase,
    count_slices,
    find_named,
    patients_of,
    select,
    selected_of,
    weigh,
)
from flames_cli.stages.partition.split_sets import ROLES, Draft, Roles, advise_fewer, draw_roles
from flames_cli.stages.raw import slug
from flames_cli.store.h5 import CLIENT_SETS, Selection
from flames_cli.store.partition import ClientEntry

Split = int | str
"""Number of clients of a data set, divided by patient; or SITE."""

SITE = "site"

DEFAULT_SPLIT: Mapping[str, Split] = {"brats": 3, "polypgen": SITE, "lits": SITE, "lits-slices": SITE}
"""Split by data set, as in the papers; every other data set is one client."""

POOL = "clients"
"""Scope of a cross-validation, which divides all patients of the clients together."""

ClientPlan = tuple[ClientEntry, dict[str, Selection]]


def resolve_split(split: Mapping[str, Split], datasets: Sequence[DataSet]) -> dict[str, Split]:
    """Return the split of every data set: its own, else its collection's, else the default.

    Raises:
        FlamesError: a name is neither a data set's nor a collection's.
    """
    resolved = {dataset.name: DEFAULT_SPLIT.get(dataset.name, 1) for dataset in datasets}
    found = {name: find_named("--split", name, datasets) for name in split}
    for name in sorted(split, key=lambda name: -len(found[name])):
        resolved |= {dataset.name: split[name] for dataset in found[name]}
    return resolved


def plan_clients(
    config: PartitionConfig, together: Sequence[DataSet], split: Mapping[str, Split]
) -> list[ClientPlan]:
    """Plan the clients of data sets that share patients; no patient is in two roles.

    Raises:
        FlamesError: there are too few patients for the requested clients, or a data set that is divided by
            site names none.
    """
    drafts = _draft_clients(config, together, split)
    roles = draw_roles(config, drafts)
    return [_plan_client(draft, roles) for draft in drafts]


def _draft_clients(
    config: PartitionConfig, together: Sequence[DataSet], split: Mapping[str, Split]
) -> list[Draft]:
    part_of = {
        parts: _divide(config, [dataset for dataset in together if split[dataset.name] == parts], parts)
        for parts in {split[dataset.name] for dataset in together}
        if isinstance(parts, int)
    }
    drafts: list[Draft] = []
    for dataset in (dataset for dataset in together if dataset.of_clients()):
        parts = split[dataset.name]
        drafts += (
            _draft_parts(config, dataset, part_of[parts], parts)
            if isinstance(parts, int)
            else _draft_sites(dataset)
        )
    return drafts


def _draft_parts(
    config: PartitionConfig, dataset: DataSet, part_of: Mapping[tuple[str, str], int], parts: int
) -> list[Draft]:
    cases: list[list[PlacedCase]] = [[] for _ in range(parts)]
    for placed in dataset.of_clients():
        cases[part_of[_scope(config, placed), placed.case.split_unit]].append(placed)
    names = [dataset.name] if parts == 1 else [f"{dataset.name}-{part + 1}" for part in range(parts)]
    return [Draft(name, dataset, own) for name, own in zip(names, cases, strict=True)]


def _draft_sites(dataset: DataSet) -> list[Draft]:
    cases: dict[str, list[PlacedCase]] = {}
    for placed in dataset.of_clients():
        cases.setdefault(placed.case.site, []).append(placed)
    if "" in cases:
        nameless, images = len(selected_of(cases[""])), len(selected_of(dataset.of_clients()))
        raise FlamesError(
            f"{dataset.name} names no site for {nameless} of its {images} images, "
            f"so it cannot be divided by site; pass --split {dataset.name}=N for N clients by patient"
        )
    drafts: dict[str, Draft] = {}
    for site in sorted(cases, key=natural_order):
        start = f"{dataset.name}-{slug(site) or SITE}"
        name = next(name for name in _numbered(start) if name not in drafts)
        drafts[name] = Draft(name, dataset, cases[site], site)
    return list(drafts.values())


def _numbered(name: str) -> Iterator[str]:
    """Return `name`, then `name-2` and so on: two sites may differ only in characters that a file name leaves
    out."""
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _scope(config: PartitionConfig, placed: PlacedCase) -> str:
    """Return the scope that is divided between clients separately: each set, or with folds all sets
    together."""
    return POOL if config.fold else placed.set_name


def _divide(config: PartitionConfig, datasets: Sequence[DataSet], parts: int) -> dict[tuple[str, str], int]:
    """Return {(scope, unit): part} of data sets that share patients and are divided into the same number of
    clients."""
    collection = datasets[0].collection
    part_of: dict[tuple[str, str], int] = {}
    for scope in (POOL,) if config.fold else tuple(ROLES):
        cases_of = {
            dataset.name: [placed for placed in dataset.of_clients() if _scope(config, placed) == scope]
            for dataset in datasets
        }
        counts = {name: len(weigh({name: cases})) for name, cases in cases_of.items()}
        units = weigh(cases_of)
        if not units:
            continue
        for name, patients in counts.items():
            if 0 < patients < parts:
                short = next(dataset for dataset in datasets if dataset.name == name)
                raise _too_few(short, patients, scope, parts)
        # The shares are drawn for every scope with the same seed: train and test have the same shares.
        shares = None
        if config.skew is not None:
            shares = draw_shares(parts, config.skew, derive_rng(config.seed, "skew", collection))
        least = _least(config, scope, datasets)
        rng = derive_rng(config.seed, "partition", collection, scope)
        for part, names in enumerate(divide_units(units, parts, rng, shares, least)):
            part_of |= {(scope, name): part for name in names}
    return part_of


def _too_few(dataset: DataSet, patients: int, scope: str, parts: int) -> FlamesError:
    where = "its clients' sets" if scope == POOL else scope
    return FlamesError(
        f"{dataset.name} has {count_units(patients, dataset.info.patient_unit)} in {where}, too few for "
        f"{parts} clients; pass --split {dataset.name}={patients}"
    )


def _least(config: PartitionConfig, scope: str, datasets: Sequence[DataSet]) -> int:
    """Return the number of split units that a client needs, however small its share."""
    validates = any(placed.set_name == "client_val" for dataset in datasets for placed in dataset.cases)
    draws = config.val_fraction > 0 and (config.fold is not None or not validates)
    train = 2 if draws else 1
    if config.fold_numbers:
        _, folds = config.fold_numbers
        # The largest fold takes ceil(n/folds) units.
        return next(n for n in range(folds, folds + 4) if n - -(-n // folds) >= train)
    return train if scope == "client_train" else 1


def _plan_client(draft: Draft, roles: Roles) -> ClientPlan:
    sets: dict[str, list[PlacedCase]] = {name: [] for name in CLIENT_SETS}
    for placed in draft.cases:
        sets[roles.of(placed)].append(placed)
    if not sets["train"]:
        raise FlamesError(f"client {draft.name} has no patient to train on; {advise_fewer(draft)}")
    info = draft.dataset.info
    entry = ClientEntry(
        name=draft.name,
        dataset=info.dataset,
        modality=info.modality,
        organ=info.organ,
        shard=f"shards/{draft.name}.h5",
        images={name: len(selected_of(cases)) for name, cases in sets.items()},
        patients={name: patients_of(cases) for name, cases in sets.items()},
        site=draft.site,
        patient_unit=info.patient_unit,
        test_volumes=count_slices(sets["test"]),
    )
    # Only test sets have complete volumes.
    sets |= {name: selected_of(sets[name]) for name in ("train", "val")}
    return entry, {name: select(draft.dataset, cases) for name, cases in sets.items()}
