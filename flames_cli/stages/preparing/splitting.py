"""Which case goes into which set: server test, client test, client train."""

from collections.abc import Mapping, Sequence

from flames_cli.config import PreprocessConfig
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import SETS, Group, Share, find_overlaps, split_groups
from flames_cli.errors import FlamesError
from flames_cli.readers.base import Reader
from flames_cli.store.h5 import SpooledCase

TENTH = 0.1
"""Of the patients, for the server's test set of a data set that no paper splits."""

SMALLEST_SITE = 4
"""Groups of patients that every site (and class in it) must have to be split on its own."""


def split_cases(
    reader: Reader,
    collection: str,
    cases: Sequence[SpooledCase],
    fixed: Mapping[str, str],
    config: PreprocessConfig,
) -> dict[str, str]:
    """Which of SETS every group is in: each class, and each site that is large enough, on its own.

    Args:
        reader: tells the paper's numbers.
        collection: scope of the randomness.
        cases: of all data sets whose patients are split together.
        fixed: the set of every group, where the data set itself tells it; else empty.
        config: shares, seed.

    Raises:
        FlamesError: too few patients for the sets asked for.
    """
    if fixed:
        return dict(fixed)
    strata = _stratify(cases)
    set_of: dict[str, str] = {}
    for stratum, groups in sorted(strata.items()):
        share = _server_share(reader, collection, config.server_test, groups, len(strata))
        rng = derive_rng(config.seed, "split", collection, stratum)
        set_of |= split_groups(groups, share, config.test_fraction, rng)
    return set_of


def _stratify(cases: Sequence[SpooledCase]) -> dict[str, dict[str, Group]]:
    """Groups by class, and by site and class where every site has enough of them."""
    members: dict[str, list[SpooledCase]] = {}
    for case in cases:
        members.setdefault(case.info.group, []).append(case)
    by_class: dict[str, dict[str, Group]] = {}
    by_site: dict[str, dict[str, Group]] = {}
    for name, own in members.items():
        group = Group(images=len(own), patients=len({case.info.patient for case in own}))
        first = own[0].info
        by_class.setdefault(first.stratum, {})[name] = group
        by_site.setdefault(f"{first.site}/{first.stratum}" if first.site else first.stratum, {})[name] = group
    large_enough = all(len(groups) >= SMALLEST_SITE for groups in by_site.values())
    return by_site if large_enough else by_class


def _server_share(
    reader: Reader, collection: str, server_test: float | None, groups: dict[str, Group], strata: int
) -> Share:
    """What the server's test set takes of one stratum: a fraction of its patients, or its part of a number.

    By default the paper's number, but no more than a quarter of the patients; without a paper, a tenth.
    """
    images = sum(group.images for group in groups.values())
    if server_test is None and reader.SERVER_TEST:
        patients = sum(group.patients for group in groups.values())
        return Share(images=reader.SERVER_TEST / strata, patients=max(1, patients // 4))
    wanted = TENTH if server_test is None else server_test
    if wanted < 1:
        return Share.fraction(wanted, groups)
    if wanted / strata >= images:
        raise FlamesError(
            f"--server-test asks for {wanted / strata:g} of {images} {collection} images; "
            "leave some to train on"
        )
    return Share(images=wanted / strata)


def divide_cases(
    name: str, cases: Sequence[SpooledCase], set_of: Mapping[str, str], config: PreprocessConfig
) -> dict[str, list[SpooledCase]]:
    """The cases of each of SETS of data set `name`.

    Raises:
        FlamesError: a set that was asked for is empty.
    """
    sets = {own: [case for case in cases if set_of[case.info.group] == own] for own in SETS}
    groups = {own: sorted({case.info.group for case in listed}) for own, listed in sets.items()}
    needed = ["client_train"]
    needed += ["client_test"] if config.test_fraction > 0 else []
    needed += ["server_test"] if config.server_test != 0 else []
    if empty := [own for own in needed if not groups[own]]:
        total = sum(len(patients) for patients in groups.values())
        raise FlamesError(
            f"{name} has {total} usable patients, too few for {', '.join(empty)}; "
            "add patients, or pass --server-test 0"
        )
    if overlaps := find_overlaps(groups):
        raise FlamesError(f"{name}: patient {overlaps[0][0]} is in {overlaps[0][1]} and {overlaps[0][2]}")
    return sets
