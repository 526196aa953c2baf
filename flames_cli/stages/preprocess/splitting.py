"""Which case goes into which set: server test, client test, client train."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from flames_cli.config import PreprocessConfig
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import SETS, Group, Share, find_overlaps, split_groups
from flames_cli.errors import FlamesError
from flames_cli.readers.base import Reader
from flames_cli.store.h5 import SpooledCase

TENTH = 0.1
"""Of the patients, for the server's test set of a data set that no paper splits."""

SMALLEST = 4
"""Groups of patients that it takes to be split on their own: of the same modalities, or of every site (and
class in it)."""


@dataclass(frozen=True, slots=True, order=True)
class Stratum:
    """Groups of patients that are split on their own."""

    label: str
    """Class, such as benign or malignant; empty where the data set tells none."""
    modalities: str = ""
    """Data sets that the patients are in; empty where all are split alike."""
    site: str = ""

    @property
    def scope(self) -> str:
        """Of its randomness."""
        return "/".join([*filter(None, (self.modalities, self.site)), self.label])


Strata = dict[Stratum, dict[str, Group]]


def split_cases(
    reader: Reader,
    collection: str,
    cases: Mapping[str, Sequence[SpooledCase]],
    fixed: Mapping[str, str],
    config: PreprocessConfig,
) -> dict[str, str]:
    """Which of SETS every group is in: each stratum (see `_stratify`) on its own.

    Args:
        reader: tells the paper's numbers.
        collection: scope of the randomness.
        cases: by data set, of all whose patients are split together.
        fixed: the set of every group, where the data set itself tells it; else empty.
        config: shares, seed.

    Raises:
        FlamesError: too few patients for the sets asked for.
    """
    if fixed:
        return dict(fixed)
    strata = _stratify(cases)
    images: Counter[str] = Counter()
    for stratum, groups in strata.items():
        images[stratum.label] += _count_images(groups)
    set_of: dict[str, str] = {}
    for stratum, groups in sorted(strata.items(), key=itemgetter(0)):
        share = _server_share(
            reader, collection, config.server_test, groups, images[stratum.label], len(images)
        )
        rng = derive_rng(config.seed, "split", collection, stratum.scope)
        set_of |= split_groups(dict(sorted(groups.items())), share, config.test_fraction, rng)
    return set_of


def _count_images(groups: Mapping[str, Group]) -> int:
    return sum(group.images for group in groups.values())


def _stratify(cases: Mapping[str, Sequence[SpooledCase]]) -> Strata:
    """Groups by class and modalities, and within those by site where every site has enough of them."""
    members: dict[str, list[SpooledCase]] = {}
    datasets: dict[str, set[str]] = {}
    for dataset, own in cases.items():
        for case in own:
            members.setdefault(case.info.group, []).append(case)
            datasets.setdefault(case.info.group, set()).add(dataset)
    pooled = _pool_modalities({name: frozenset(own) for name, own in datasets.items()})
    by_modalities: dict[str, Strata] = {}
    for name, listed in members.items():
        group = Group(images=len(listed), patients=len({case.info.patient for case in listed}))
        stratum = Stratum(listed[0].info.stratum, pooled[name], listed[0].info.site)
        by_modalities.setdefault(pooled[name], {}).setdefault(stratum, {})[name] = group
    return {key: groups for strata in by_modalities.values() for key, groups in _merge_sites(strata).items()}


def _merge_sites(strata: Strata) -> Strata:
    """`strata` as they are where every one is large enough, else without sites."""
    if all(len(groups) >= SMALLEST for groups in strata.values()):
        return strata
    merged: Strata = {}
    for stratum, groups in strata.items():
        merged.setdefault(replace(stratum, site=""), {}).update(groups)
    return merged


def _pool_modalities(datasets: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """For each group, which modalities those that it is split with have; empty where that is one pool.

    They have the same ones where there are enough such groups; the others are split with those of a modality
    that they share, the rarest first, so that each modality of three groups or more can fill every set.
    """
    alike = Counter(datasets.values())
    covered = {one for own, groups in alike.items() if groups >= SMALLEST for one in own}
    spread = Counter(one for own in datasets.values() for one in own)
    pooled = {
        name: " ".join(sorted(own))
        if alike[own] >= SMALLEST
        else min(own, key=lambda one: (one in covered, spread[one], one))
        for name, own in datasets.items()
    }
    return pooled if len(set(pooled.values())) > 1 else dict.fromkeys(pooled, "")


def _server_share(
    reader: Reader,
    collection: str,
    server_test: float | None,
    groups: Mapping[str, Group],
    images: int,
    classes: int,
) -> Share:
    """What the server's test set takes of one stratum: a fraction of its patients, or its part of a number.

    A number is shared evenly between `classes` classes, and within a class, which has `images` images, by the
    strata's images. By default the paper's number, but no more than a quarter of the patients; without a
    paper, a tenth.
    """
    part = _count_images(groups) / images / classes
    if server_test is None and reader.server_test:
        patients = sum(group.patients for group in groups.values())
        return Share(images=reader.server_test * part, patients=max(1, patients // 4))
    wanted = TENTH if server_test is None else server_test
    if wanted < 1:
        return Share.fraction(wanted, groups)
    if wanted / classes >= images:
        raise FlamesError(
            f"--server-test asks for {wanted / classes:g} of {images} {collection} images; "
            "leave some to train on"
        )
    return Share(images=wanted * part)


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
        fewer = ["--server-test 0"] if config.server_test != 0 else []
        fewer += ["--test-fraction 0"] if config.test_fraction > 0 else []
        raise FlamesError(
            f"{name} has {total} usable patients, too few for {', '.join(empty)}; "
            f"add patients{', or pass ' if fewer else ''}{' or '.join(fewer)}"
        )
    if overlaps := find_overlaps(groups):
        raise FlamesError(f"{name}: patient {overlaps[0][0]} is in {overlaps[0][1]} and {overlaps[0][2]}")
    return sets
