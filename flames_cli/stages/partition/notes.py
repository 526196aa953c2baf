"""Facts of a partition that matter before training: images that were prepared differently, lost sites."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flames_cli.core.imaging.preparation import describe_differences
from flames_cli.errors import FlamesError
from flames_cli.stages.partition.cases import DataSet
from flames_cli.store.h5 import read_shard_summary
from flames_cli.store.partition import ClientEntry
from flames_cli.store.schema import PREPROCESSED_REPORT, read_json

SitesLeftOut = dict[str, dict[str, int]]
"""Number of cases of each site that no client has, by data set and site."""


def prepared_differently(folder: Path, clients: Iterable[ClientEntry]) -> list[str]:
    """Return a note for each modality and kind of rule in which the shards of its clients differ."""
    return describe_differences(
        (one.name, one.modality, read_shard_summary(folder / one.shard).preparation) for one in clients
    )


def find_lost_sites(datasets: Sequence[DataSet]) -> SitesLeftOut:
    """Return the sites of which `flames preprocess` left out every case, by its own report."""
    lost = {dataset.name: _lost_in_report(dataset.path.with_suffix(".json")) for dataset in datasets}
    return {name: sites for name, sites in lost.items() if sites}


def _lost_in_report(path: Path) -> dict[str, int]:
    try:
        sites = read_json(path, PREPROCESSED_REPORT).get("sites_left_out")
    except FlamesError:
        return {}  # the report is for people: a partition needs only the data
    if not isinstance(sites, dict):
        return {}
    return {site: cases for site, cases in sites.items() if type(cases) is int}


def find_test_only_sites(datasets: Sequence[DataSet]) -> SitesLeftOut:
    """Return the sites of which all images are in the server's test set, though their data set is divided by
    site."""
    lost: SitesLeftOut = {}
    for dataset in datasets:
        trained = {placed.case.site for placed in dataset.of_clients()}
        for placed in dataset.cases:
            if placed.case.selected and placed.case.site and placed.case.site not in trained:
                sites = lost.setdefault(dataset.name, {})
                sites[placed.case.site] = sites.get(placed.case.site, 0) + 1
    return lost


def describe_lost_sites(left_out: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a note for each site of which `flames preprocess` left out every case."""
    return [
        f"site {site} of {name} is no client: `flames preprocess` left out all {cases} of its cases, such as "
        "those with empty masks; `flames preprocess --empty keep` trains and tests on images without a lesion"
        for name, sites in left_out.items()
        for site, cases in sites.items()
    ]


def describe_test_only_sites(left_out: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a note for each site of which all images are in the server's test set."""
    return [
        f"site {site} of {name} is no client: all {images} of its images are in the server's test set; "
        "preprocess with a smaller --server-test, or hold the site out (--hold-out-site)"
        for name, sites in left_out.items()
        for site, images in sites.items()
    ]
