"""Splits by patient, never by image.

A draw takes split units. A split unit is one patient, or several patients whose images are near copies of
each other. A draw follows the order in which the units are listed and does not depend on their names: the
names are pseudonyms, made with a secret that every site has for itself.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SETS = ("client_train", "client_val", "client_test", "server_test")
"""Sets of a preprocessed data set. `client_val` is empty unless the data set itself names validation
patients; else the clients hold validation patients out of `client_train`."""


@dataclass(frozen=True, slots=True)
class SplitUnit:
    """Size of a split unit."""

    images: int
    patients: int = 1
    datasets: frozenset[str] = frozenset({""})
    """Data sets in which the unit has images; units of different data sets are divided separately."""


@dataclass(frozen=True, slots=True)
class Share:
    """Size that a set should reach: about so many images, and at most so many patients."""

    images: float = math.inf
    patients: float = math.inf

    @classmethod
    def fraction(cls, fraction: float, units: Mapping[str, SplitUnit]) -> "Share":
        """Return the share that is `fraction` of the patients, rounded up."""
        total = sum(unit.patients for unit in units.values())
        return cls(patients=math.ceil(fraction * total - 1e-9))


def take_units(units: Mapping[str, SplitUnit], share: Share, rng: np.random.Generator) -> list[str]:
    """Take units in random order until their size is nearest to `share`.

    Takes at least one unit (the smallest if none fits) unless the share is zero; always leaves one unit.
    """
    names = list(units)
    if share.images <= 0 or share.patients <= 0 or len(names) < 2:
        return []
    order = [names[i] for i in rng.permutation(len(names))]
    taken: list[str] = []
    images = patients = 0
    for name in order:
        unit = units[name]
        if len(taken) == len(order) - 1:
            break
        if images + unit.images / 2 <= share.images and patients + unit.patients / 2 <= share.patients:
            taken.append(name)
            images += unit.images
            patients += unit.patients
    return taken or [min(order, key=lambda name: units[name].images)]


def split_units(
    units: Mapping[str, SplitUnit], server_test: Share, test_fraction: float, rng: np.random.Generator
) -> dict[str, str]:
    """Return the set of SETS that each unit is in: first the server's test set, then `test_fraction` of the
    other patients for the clients' test sets.

    No unit is put into client_val.
    """
    server = set(take_units(units, server_test, rng))
    rest = {name: unit for name, unit in units.items() if name not in server}
    test = set(take_units(rest, Share.fraction(test_fraction, rest), rng))
    return {
        name: "server_test" if name in server else "client_test" if name in test else "client_train"
        for name in units
    }


def divide_units(
    units: Mapping[str, SplitUnit],
    parts: int,
    rng: np.random.Generator,
    shares: Sequence[float] | None = None,
    least: int = 1,
) -> list[list[str]]:
    """Divide the units into `parts` lists, balanced in each data set in which they have images.

    Args:
        units: the units; those in most data sets are dealt first.
        parts: number of lists.
        rng: generator that draws the order.
        shares: share of the units for each part, summing to 1. None: the parts get nearly equal numbers of
            units, then of images; the largest unit is dealt first, each to the part with the fewest units and
            then the fewest images.
        least: number of units of a data set that every part gets whatever its share, if there are enough.

    Raises:
        ValueError: there are fewer units than parts.
    """
    if len(units) < parts:
        raise ValueError(f"{len(units)} patients cannot be divided into {parts} parts")
    names = list(units)
    order = [names[i] for i in rng.permutation(len(names))]
    # With shares, dealing the largest first would give the large units to the large parts.
    order.sort(key=lambda name: (-len(units[name].datasets), 0 if shares else -units[name].images))
    room = {
        dataset: _quotas(sum(dataset in unit.datasets for unit in units.values()), parts, shares, least)
        for dataset in {dataset for unit in units.values() for dataset in unit.datasets}
    }
    divided: list[list[str]] = [[] for _ in range(parts)]
    images = [0] * parts
    for name in order:
        own = [room[dataset] for dataset in units[name].datasets]
        chosen = max(range(parts), key=lambda part: (min(left[part] for left in own), -images[part]))
        divided[chosen].append(name)
        images[chosen] += units[name].images
        for left in own:
            left[chosen] -= 1
    return divided


def _quotas(total: int, parts: int, shares: Sequence[float] | None, least: int) -> list[int]:
    """Divide `total` into whole numbers by `shares` (largest remainders), each at least `least`; return zeros
    without shares."""
    if shares is None:
        return [0] * parts
    least = min(least, total // parts)
    free = total - least * parts
    quotas = [math.floor(share * free) for share in shares]
    by_remainder = sorted(range(parts), key=lambda part: quotas[part] - shares[part] * free)
    for part in by_remainder[: free - sum(quotas)]:
        quotas[part] += 1
    return [least + quota for quota in quotas]


def draw_shares(parts: int, concentration: float, rng: np.random.Generator) -> list[float]:
    """Draw shares of `parts` that sum to 1 from a symmetric Dirichlet distribution; a smaller concentration
    gives more uneven shares.

    Hsu et al. 2019 (arXiv:1909.06335) draw such shares over classes; here they are drawn over patients.
    """
    return [float(share) for share in rng.dirichlet([concentration] * parts)]


def deal_folds(
    strata: Mapping[str, tuple[str, ...]],
    folds: int,
    rng: np.random.Generator,
    dealt: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return the fold, 1..`folds`, of every unit: nearly equal numbers of units in each fold, first within
    the first entry of `strata`.

    Args:
        strata: properties of each unit that the folds should spread evenly, such as its class and its site;
            the first has priority.
        folds: number of folds.
        rng: generator that draws the order.
        dealt: units whose fold is given; the other units are dealt around them.
    """
    fold_of = {name: fold for name, fold in (dealt or {}).items() if name in strata}
    counts: Counter[int] = Counter(fold_of.values())
    by_stratum: Counter[tuple[str, int]] = Counter((strata[name][0], fold) for name, fold in fold_of.items())
    names = list(strata)
    order = sorted((names[i] for i in rng.permutation(len(names))), key=strata.__getitem__)
    for name in (name for name in order if name not in fold_of):
        first = strata[name][0]
        fold = min(range(1, folds + 1), key=lambda fold: (by_stratum[first, fold], counts[fold]))
        fold_of[name] = fold
        counts[fold] += 1
        by_stratum[first, fold] += 1
    return fold_of


def find_overlaps(sets: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return (patient, set, other set) for every patient that is in two sets; an empty list if there is
    none."""
    seen: dict[str, str] = {}
    overlaps = []
    for name, patients in sets.items():
        for patient in sorted(set(patients)):
            if patient in seen:
                overlaps.append((patient, seen[patient], name))
            seen.setdefault(patient, name)
    return overlaps
