"""Split of the cases into sets: server test, client test, client train."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from flames_cli.config import PreprocessConfig
from flames_cli.core.patient_units import NOUNS, count_units
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import SETS, Share, SplitUnit, find_overlaps, split_units
from flames_cli.errors import FlamesError
from flames_cli.readers.base import Reader
from flames_cli.store.h5 import SpooledCase

TENTH = 0.1
"""Share of the patients in the server's test set of a data set that no paper splits."""

SMALLEST = 4
"""Smallest number of split units that are split separately: those of the same modalities, or of every site
(and class in it)."""


@dataclass(frozen=True, slots=True, order=True)
class Stratum:
    """Split units that are split separately."""

    label: str
    """Class, such as benign or malignant; empty if the data set names none."""
    modalities: str = ""
    """Data sets in which the patients are; empty if all of them are split together."""
    site: str = ""

    @property
    def scope(self) -> str:
        """Scope of its random numbers."""
        return "/".join([*filter(None, (self.modalities, self.site)), self.label])


Strata = dict[Stratum, dict[str, SplitUnit]]


def split_cases(
    reader: Reader,
    collection: str,
    cases: Mapping[str, Sequence[SpooledCase]],
    fixed: Mapping[str, str],
    config: PreprocessConfig,
) -> dict[str, str]:
    """Return the set of SETS for every unit: each stratum (see `_stratify`) is split separately.

    Args:
        reader: reader with the paper's numbers.
        collection: scope of the random numbers.
        cases: cases by data set, of all data sets whose patients are split together.
        fixed: set of every unit, if the data set itself names it; else empty.
        config: shares and seed.

    Raises:
        FlamesError: there are too few patients for the requested sets, or the data set names others itself.
    """
    if config.only:
        _require_no_other_sets(collection, fixed.values())
        tested = (case.info.split_unit for own in cases.values() for case in own)
        return dict.fromkeys(tested, "server_test")
    if fixed:
        _require_sets(collection, set(fixed.values()), config)
        return dict(fixed)
    strata = _stratify(cases)
    images: Counter[str] = Counter()
    for stratum, units in strata.items():
        images[stratum.label] += _count_images(units)
    set_of: dict[str, str] = {}
    for stratum, units in sorted(strata.items(), key=itemgetter(0)):
        share = _server_share(
            reader, collection, config.server_test, units, images[stratum.label], len(images)
        )
        rng = derive_rng(config.seed, "split", collection, stratum.scope)
        set_of |= split_units(dict(sorted(units.items())), share, config.test_fraction, rng)
    return set_of


def _require_no_other_sets(collection: str, fixed: Iterable[str]) -> None:
    """Check that the data set itself names no other set than the server's."""
    if others := sorted({*fixed} - {"server_test"}):
        raise FlamesError(
            f"{collection}: the column split names {', '.join(others)}, and --only server-test asks for one "
            "set; leave out the option or the column"
        )


def _require_sets(collection: str, named: Container[str], config: PreprocessConfig) -> None:
    """Check that the data set's own split names a patient for every requested set."""
    if missing := [own for own in _needed_sets(config) if own not in named]:
        options = {"server_test": "--server-test 0", "client_test": "--test-fraction 0"}
        fewer = [options[own] for own in missing if own in options]
        raise FlamesError(
            f"{collection}: the column split names no patient for {', '.join(missing)}; add some"
            f"{', or pass ' if fewer else ''}{' and '.join(fewer)}"
        )


def _needed_sets(config: PreprocessConfig) -> list[str]:
    if config.only:
        return ["server_test"]
    needed = ["client_train"]
    needed += ["client_test"] if config.test_fraction > 0 else []
    return needed + (["server_test"] if config.server_test != 0 else [])


def _count_images(units: Mapping[str, SplitUnit]) -> int:
    return sum(unit.images for unit in units.values())


def _stratify(cases: Mapping[str, Sequence[SpooledCase]]) -> Strata:
    """Return the units by class and modalities, and within those by site if every site has enough of them."""
    members: dict[str, list[SpooledCase]] = {}
    datasets: dict[str, set[str]] = {}
    for dataset, own in cases.items():
        for case in own:
            members.setdefault(case.info.split_unit, []).append(case)
            datasets.setdefault(case.info.split_unit, set()).add(dataset)
    pooled = _pool_modalities({name: frozenset(own) for name, own in datasets.items()})
    by_modalities: dict[str, Strata] = {}
    for name, listed in members.items():
        images = sum(case.info.selected for case in listed)
        unit = SplitUnit(images=images, patients=len({case.info.patient for case in listed}))
        stratum = Stratum(listed[0].info.stratum, pooled[name], listed[0].info.site)
        by_modalities.setdefault(pooled[name], {}).setdefault(stratum, {})[name] = unit
    return {key: units for strata in by_modalities.values() for key, units in _merge_sites(strata).items()}


def _merge_sites(strata: Strata) -> Strata:
    """Return `strata` unchanged if every one is large enough, else without sites."""
    if all(len(units) >= SMALLEST for units in strata.values()):
        return strata
    merged: Strata = {}
    for stratum, units in strata.items():
        merged.setdefault(replace(stratum, site=""), {}).update(units)
    return merged


def _pool_modalities(datasets: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Return for each unit the modalities of the units that it is split with; empty if all units are one
    pool.

    Units with the same modalities are split together if there are enough of them. The others are split with
    the units of a modality that they share, the rarest first, so that each modality of three units or more
    can fill every set.
    """
    alike = Counter(datasets.values())
    covered = {one for own, units in alike.items() if units >= SMALLEST for one in own}
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
    units: Mapping[str, SplitUnit],
    images: int,
    classes: int,
) -> Share:
    """Return the share of one stratum in the server's test set: a fraction of its patients, or its part of a
    number.

    A number is shared evenly between `classes` classes, and within a class, which has `images` images, by the
    images of the strata. The default is the paper's number, but at most a quarter of the patients; without a
    paper, a tenth.
    """
    part = _count_images(units) / images / classes
    if server_test is None and reader.server_test:
        patients = sum(unit.patients for unit in units.values())
        return Share(images=reader.server_test * part, patients=max(1, patients // 4))
    wanted = TENTH if server_test is None else server_test
    if wanted < 1:
        return Share.fraction(wanted, units)
    if wanted / classes >= images:
        raise FlamesError(
            f"--server-test asks for {wanted / classes:g} of {images} {collection} images; "
            "leave some to train on"
        )
    return Share(images=wanted * part)


def divide_cases(
    name: str,
    cases: Sequence[SpooledCase],
    set_of: Mapping[str, str],
    config: PreprocessConfig,
    unit: str = "patient",
) -> dict[str, list[SpooledCase]]:
    """Return the cases of data set `name`, in which `unit` counts as a patient, in each of SETS.

    Raises:
        FlamesError: a requested set is empty.
    """
    sets = {own: [case for case in cases if set_of[case.info.split_unit] == own] for own in SETS}
    units = {own: sorted({case.info.split_unit for case in listed}) for own, listed in sets.items()}
    if empty := [own for own in _needed_sets(config) if not units[own]]:
        total = sum(len(patients) for patients in units.values())
        fewer = ["--server-test 0"] if config.server_test != 0 else []
        fewer += ["--test-fraction 0"] if config.test_fraction > 0 else []
        raise FlamesError(
            f"{name} has {count_units(total, unit, 'usable')}, too few for {', '.join(empty)}; "
            f"add {NOUNS[unit]}{', or pass ' if fewer else ''}{' or '.join(fewer)}"
        )
    if overlaps := find_overlaps(units):
        raise FlamesError(f"{name}: patient {overlaps[0][0]} is in {overlaps[0][1]} and {overlaps[0][2]}")
    return sets
