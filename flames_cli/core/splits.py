"""Splits by patient, never by image.

What is drawn is a group: one patient, or several whose images are near copies of each other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SETS = ("client_train", "client_test", "server_test")


@dataclass(frozen=True, slots=True)
class Group:
    """How much a group weighs."""

    images: int
    patients: int = 1


@dataclass(frozen=True, slots=True)
class Share:
    """How much a set is to hold: about so many images, and at most so many patients."""

    images: float = math.inf
    patients: float = math.inf

    @classmethod
    def fraction(cls, fraction: float, groups: Mapping[str, Group]) -> "Share":
        """`fraction` of the patients, rounded up."""
        total = sum(group.patients for group in groups.values())
        return cls(patients=math.ceil(fraction * total - 1e-9))


def take_groups(groups: Mapping[str, Group], share: Share, rng: np.random.Generator) -> list[str]:
    """Whole groups, in random order, until they come nearest to `share`.

    Takes at least one group (the smallest, where none fits) unless the share is nothing; always leaves one.
    """
    names = sorted(groups)
    if share.images <= 0 or share.patients <= 0 or len(names) < 2:
        return []
    order = [names[i] for i in rng.permutation(len(names))]
    taken: list[str] = []
    images = patients = 0
    for name in order:
        group = groups[name]
        if len(taken) == len(order) - 1:
            break
        if images + group.images / 2 <= share.images and patients + group.patients / 2 <= share.patients:
            taken.append(name)
            images += group.images
            patients += group.patients
    return sorted(taken) or [min(order, key=lambda name: groups[name].images)]


def split_groups(
    groups: Mapping[str, Group], server_test: Share, test_fraction: float, rng: np.random.Generator
) -> dict[str, str]:
    """Which of SETS each group is in: the server's test first, then `test_fraction` of the other patients."""
    server = set(take_groups(groups, server_test, rng))
    rest = {name: group for name, group in groups.items() if name not in server}
    test = set(take_groups(rest, Share.fraction(test_fraction, rest), rng))
    return {
        name: "server_test" if name in server else "client_test" if name in test else "client_train"
        for name in sorted(groups)
    }


def divide_groups(groups: Mapping[str, Group], parts: int, rng: np.random.Generator) -> list[list[str]]:
    """The groups in `parts` lists, near equal in groups first and in images next.

    Dealt largest first, each to the part with fewest groups and, among those, fewest images.

    Raises:
        ValueError: fewer groups than parts.
    """
    if len(groups) < parts:
        raise ValueError(f"{len(groups)} patients cannot be divided into {parts} parts")
    names = sorted(groups)
    order = [names[i] for i in rng.permutation(len(names))]
    order.sort(key=lambda name: -groups[name].images)
    divided: list[list[str]] = [[] for _ in range(parts)]
    totals = [0] * parts
    for name in order:
        smallest = min(range(parts), key=lambda part: (len(divided[part]), totals[part]))
        divided[smallest].append(name)
        totals[smallest] += groups[name].images
    return [sorted(part) for part in divided]


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
