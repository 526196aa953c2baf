"""Splits by patient, never by image.

What is drawn is a unit: one patient, or several whose images are near copies of each other. Draws follow the
order in which units are listed, never their names: those are pseudonyms, by a secret of each site.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SETS = ("client_train", "client_val", "client_test", "server_test")
"""Of a preprocessed data set. `client_val` is empty unless the data set itself names validation patients:
clients hold out theirs of `client_train`."""


@dataclass(frozen=True, slots=True)
class SplitUnit:
    """How much a unit weighs."""

    images: int
    patients: int = 1
    datasets: frozenset[str] = frozenset({""})
    """That it has images in; tells apart those that are divided together."""


@dataclass(frozen=True, slots=True)
class Share:
    """How much a set is to hold: about so many images, and at most so many patients."""

    images: float = math.inf
    patients: float = math.inf

    @classmethod
    def fraction(cls, fraction: float, units: Mapping[str, SplitUnit]) -> "Share":
        """`fraction` of the patients, rounded up."""
        total = sum(unit.patients for unit in units.values())
        return cls(patients=math.ceil(fraction * total - 1e-9))


def take_units(units: Mapping[str, SplitUnit], share: Share, rng: np.random.Generator) -> list[str]:
    """Whole units, in random order, until they come nearest to `share`.

    Takes at least one unit (the smallest, where none fits) unless the share is nothing; always leaves one.
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
    """Which of SETS each unit is in: the server's test first, then `test_fraction` of the other patients.

    Never client_val.
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
    """The units in `parts` lists, balanced in each data set that they have images in.

    Args:
        units: those in most data sets are dealt first.
        parts: how many lists.
        rng: draws the order.
        shares: what each part is to hold of the units, summing to 1; None: near equal in units first and
            in images next, dealt largest first, each to the part with fewest units and then fewest images.
        least: units of a data set that every part keeps whatever its share, as long as there are so many.

    Raises:
        ValueError: fewer units than parts.
    """
    if len(units) < parts:
        raise ValueError(f"{len(units)} patients cannot be divided into {parts} parts")
    names = list(units)
    order = [names[i] for i in rng.permutation(len(names))]
    # With shares, largest first would hand the large units to the large parts.
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
    """`total` in whole numbers by `shares` (largest remainders), each `least` or more; else zeros."""
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
    """Shares of `parts` that sum to 1, of a symmetric Dirichlet distribution: the smaller, the more uneven.

    As in Hsu et al. 2019 (arXiv:1909.06335), there over classes, here over patients.
    """
    return [float(share) for share in rng.dirichlet([concentration] * parts)]


def deal_folds(
    strata: Mapping[str, tuple[str, ...]],
    folds: int,
    rng: np.random.Generator,
    dealt: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The fold, 1..`folds`, of every unit: near equal in units, and within what `strata` names first.

    Args:
        strata: what is to be spread of each unit, such as its class and its site; the first weighs most.
        folds: how many.
        rng: draws the order.
        dealt: units whose fold is given; the others are dealt around them.
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
    """(patient, set, other set) for every patient that stands in two sets; empty where all is well."""
    seen: dict[str, str] = {}
    overlaps = []
    for name, patients in sets.items():
        for patient in sorted(set(patients)):
            if patient in seen:
                overlaps.append((patient, seen[patient], name))
            seen.setdefault(patient, name)
    return overlaps
