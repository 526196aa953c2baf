"""Test sets of the server: unseen patients of the clients' sites, and sites that no client has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flames_cli.errors import FlamesError
from flames_cli.readers.pairs import natural_order
from flames_cli.stages.partition.cases import (
    DataSet,
    PlacedCase,
    by_collection,
    count_slices,
    find_named,
    patients_of,
    select,
    selected_of,
)
from flames_cli.store.h5 import Selection
from flames_cli.store.partition import ServerEntry

ServerPlan = tuple[ServerEntry, dict[str, Selection]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Data sets after sites were held out."""

    seen: list[DataSet]
    """Cases of patients who were never at a held-out site."""
    unseen: dict[str, dict[str, list[PlacedCase]]] = field(default_factory=dict)
    """Cases of the held-out sites, by data set and site."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of images of other sites that share a unit with a held-out image, by data set."""


def hold_out_sites(wanted: Mapping[str, Sequence[str]], datasets: Sequence[DataSet]) -> HeldOut:
    """Remove the sites that no client should see from the data sets.

    A site is held out of every data set that shares patients with the named one.

    Raises:
        FlamesError: there is no such data set, or no such site in it; the message lists the sites.
    """
    sites: dict[str, set[str]] = {}
    for name, own in wanted.items():
        for dataset in find_named("--hold-out-site", name, datasets):
            sites.setdefault(dataset.collection, set()).update(own)
    held_out = HeldOut([])
    for together in by_collection(datasets):
        own_sites = sites.get(together[0].collection, set())
        _require_sites(together, own_sites)
        units = {
            placed.case.split_unit
            for dataset in together
            for placed in dataset.cases
            if placed.case.site in own_sites
        }
        for dataset in together:
            _hold_out(dataset, own_sites, units, held_out)
    order = [dataset.name for dataset in datasets]
    held_out.seen.sort(key=lambda dataset: order.index(dataset.name))
    return held_out


def _hold_out(dataset: DataSet, sites: set[str], units: set[str], held_out: HeldOut) -> None:
    apart = [placed for placed in dataset.cases if placed.case.split_unit in units]
    rest = [placed for placed in dataset.cases if placed.case.split_unit not in units]
    held_out.seen.append(replace(dataset, cases=rest))
    by_site: dict[str, list[PlacedCase]] = {}
    for placed in apart:
        by_site.setdefault(placed.case.site, []).append(placed)
    held_out.unseen[dataset.name] = {
        site: by_site[site] for site in sorted(sites & set(by_site), key=natural_order)
    }
    others = sum(len(selected_of(cases)) for site, cases in by_site.items() if site not in sites)
    if others:
        held_out.left_out[dataset.name] = others


def _require_sites(together: Sequence[DataSet], wanted: set[str]) -> None:
    known = {placed.case.site for dataset in together for placed in dataset.cases} - {""}
    if unknown := sorted(wanted - known, key=natural_order):
        name = together[0].collection
        listed = ", ".join(sorted(known, key=natural_order))
        there = f"the sites of {name} are {listed}" if known else f"the images of {name} name no site"
        raise FlamesError(f"--hold-out-site names {name}={unknown[0]}; {there}")


def plan_server(held_out: HeldOut) -> list[ServerPlan]:
    """Plan one shard per modality, with a test set for each of its data sets and one for each unseen site."""
    plans = []
    for modality in dict.fromkeys(dataset.info.modality for dataset in held_out.seen):
        shard = f"shards/server-{modality.replace('/', '-')}.h5"
        entry = ServerEntry(modality=modality, shard=shard, organs={}, images={}, patients={})
        selections: dict[str, Selection] = {}
        for dataset in (dataset for dataset in held_out.seen if dataset.info.modality == modality):
            unseen = held_out.unseen.get(dataset.name, {})
            own = [placed for placed in dataset.cases if placed.set_name == "server_test"]
            tests = {dataset.name: own} | {_set_name(dataset, site): unseen[site] for site in unseen}
            for name, cases in tests.items():
                if cases:
                    entry.organs[name] = dataset.info.organ
                    entry.images[name] = len(selected_of(cases))
                    entry.test_volumes[name] = count_slices(cases)
                    entry.patients[name] = patients_of(cases)
                    entry.patient_units[name] = dataset.info.patient_unit
                    selections[f"test/{name}"] = select(dataset, cases)
            entry.sites.update({_set_name(dataset, site): site for site in unseen})
        if selections:
            plans.append((entry, selections))
    return plans


def _set_name(dataset: DataSet, site: str) -> str:
    """Return the name of a site's test set. It is part of an HDF5 path, so it cannot contain another
    slash."""
    return f"{dataset.name}@{site.replace('/', '%2F')}"
