"""Splits by patient, never by image. A patient here is a name with its number of images."""

from collections.abc import Mapping, Sequence

import numpy as np

SETS = ("client_train", "client_test", "server_test")


def take_patients(images: Mapping[str, int], target: float, rng: np.random.Generator) -> list[str]:
    """Whole patients, in random order, until their images come nearest to `target`.

    Takes at least one patient where `target` is above 0, and always leaves one.
    """
    patients = sorted(images)
    if target <= 0 or len(patients) < 2:
        return []
    order = [patients[i] for i in rng.permutation(len(patients))]
    taken, total = [order[0]], images[order[0]]
    for patient in order[1:-1]:
        if total + images[patient] / 2 <= target:
            taken.append(patient)
            total += images[patient]
    return sorted(taken)


def split_patients(
    images: Mapping[str, int], server_test: float, test_fraction: float, rng: np.random.Generator
) -> dict[str, str]:
    """Which of SETS each patient is in: the server's test set first, then the rest by `test_fraction`.

    Args:
        images: number of images per patient.
        server_test: number of images wanted in the server's test set.
        test_fraction: share of the remaining images that goes to the clients' test sets, in [0, 1).
        rng: draws the patients.
    """
    server = take_patients(images, server_test, rng)
    rest = {patient: n for patient, n in images.items() if patient not in set(server)}
    test = take_patients(rest, test_fraction * sum(rest.values()), rng)
    chosen = {**dict.fromkeys(server, "server_test"), **dict.fromkeys(test, "client_test")}
    return {patient: chosen.get(patient, "client_train") for patient in sorted(images)}


def divide_patients(images: Mapping[str, int], parts: int, rng: np.random.Generator) -> list[list[str]]:
    """The patients in `parts` lists whose image counts are near equal: largest first to the smallest part.

    Raises:
        ValueError: fewer patients than parts.
    """
    if len(images) < parts:
        raise ValueError(f"{len(images)} patients cannot be divided into {parts} parts")
    patients = sorted(images)
    order = [patients[i] for i in rng.permutation(len(patients))]
    order.sort(key=lambda patient: -images[patient])
    divided: list[list[str]] = [[] for _ in range(parts)]
    totals = [0] * parts
    for patient in order:
        smallest = min(range(parts), key=lambda part: (totals[part], len(divided[part])))
        divided[smallest].append(patient)
        totals[smallest] += images[patient]
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
