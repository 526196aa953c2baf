"""Split units: the patients that no split divides, since their images are copies or may show one person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.imaging.near_duplicates import (
    COPY_BITS,
    NEAR_BITS,
    cluster_by_marks,
    cluster_near_duplicates,
    find_series_links,
)
from flames_cli.readers.base import Source

LARGE_UNIT = 0.1
"""Share of the images of a data set above which a split unit is large."""
FEWEST_IN_LARGE_UNIT = 3
"""Smallest number of patients of a large unit: in a small data set, two near copies are above a tenth."""


@dataclass(frozen=True, slots=True)
class Pictured:
    """A source with its fingerprints."""

    source: Source
    marks: tuple[str, ...]
    """Marks that it shares with its copies."""
    look: NDArray[np.bool_] | None
    """Perceptual hash of a still image."""


def find_units(sources: Sequence[Pictured], knows_patients: bool) -> dict[str, str]:
    """Return for every patient the first by name of all patients whose images are (near) copies: the split
    unit.

    If patients are not named, neighbouring frames count as near (NEAR_BITS), and images with near numbers of
    one series count at a looser distance (SERIES_BITS). If patients are named, only copies do (COPY_BITS).
    """
    alike: dict[str, list[str]] = {}
    for one in sources:
        alike.setdefault(one.source.patient, []).extend(one.marks)
    shown = [one for one in sources if one.look is not None]
    if len(shown) > 1:
        looks = np.stack([one.look for one in shown if one.look is not None])
        firsts = cluster_near_duplicates(looks, COPY_BITS if knows_patients else NEAR_BITS)
        for one, first in zip(shown, firsts, strict=True):
            alike[one.source.patient].append(f"near {first}")
        places = [None if knows_patients else one.source.place_in_series for one in shown]
        for link in find_series_links(looks, places):
            for index in link[:2]:
                alike[shown[index].source.patient].append(f"series {link}")
    return cluster_by_marks({patient: alike[patient] for patient in sorted(alike)})


def find_large_units(unit_of: Mapping[str, str], images: Mapping[str, int]) -> dict[str, list[str]]:
    """Return {unit: its patients} of the large units (LARGE_UNIT), the largest first.

    Args:
        unit_of: split unit of every patient.
        images: number of images of every patient of the data set.
    """
    patients_of: dict[str, list[str]] = {}
    for patient in images:
        patients_of.setdefault(unit_of[patient], []).append(patient)
    sizes = {unit: sum(images[patient] for patient in own) for unit, own in patients_of.items()}
    least = LARGE_UNIT * sum(sizes.values())
    return {
        unit: patients_of[unit]
        for unit in sorted(sizes, key=lambda unit: (-sizes[unit], unit))
        if sizes[unit] > least and len(patients_of[unit]) >= FEWEST_IN_LARGE_UNIT
    }
