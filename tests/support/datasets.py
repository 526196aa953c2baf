"""Data sets of noise and of discs, and what preprocessing hid of the raw data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flames_cli.core.imaging.lesions import measure_lesions
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import SETS
from flames_cli.store.cases import CaseInfo, CaseSet, SetInfo, Spool, encode_chunk
from flames_cli.store.h5 import SpooledCase, read_preprocessed_cases, write_preprocessed
from tests.support.asserts import read_csv

SHARED = Path(__file__).parents[3] / "shared"

Drawn = tuple[CaseInfo, np.ndarray, np.ndarray]
Member = tuple[str, str, int] | tuple[str, str, int, str]
"""Patient, unit, images, and the site if the data set has sites."""


def find_shared(name: str) -> Path:
    """Return a file or folder of ../shared, for example "data/busi"; skip the test if it does not exist."""
    if not (SHARED / name).exists():
        pytest.skip(f"../shared/{name} does not exist")
    return SHARED / name


def private_rows(workspace: Path) -> list[dict[str, str]]:
    """Return the rows of the private tables of a workspace, one for each source."""
    return [row for table in sorted((workspace / "private").glob("*.csv")) for row in read_csv(table)]


def reveal_cases(path: Path) -> dict[str, list[CaseInfo]]:
    """Return the cases of every set of a preprocessed file under the names of the raw data: their patients,
    and the cases by the name of their source (`volume-3/z077`)."""
    call = _Revealing(path)
    return {
        own: [
            replace(
                case,
                case=call.source(case.case),
                patient=call.patients[case.patient],
                split_unit=call.patients[case.split_unit],
            )
            for case in cases
        ]
        for own, cases in read_preprocessed_cases(path)[1].items()
    }


def reveal_report(path: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Return what the report of a preprocessed file says was left out, under the names of the raw data."""
    call = _Revealing(path)
    copies, groups = report["copies_left_out"], ("near_copies_kept_together", "ids_alike_kept_together")
    return {
        "skipped": [{**one, "name": call.source(one["name"])} for one in report["skipped"]],
        "bad": [call.source(name) for name in report["bad"]],
        "copies_left_out": [{key: call.source(name) for key, name in one.items()} for one in copies],
        **{key: [[call.patients[one] for one in group] for group in report[key]] for key in groups},
    }


class _Revealing:
    """The raw names behind the pseudonyms of a preprocessed file."""

    def __init__(self, path: Path) -> None:
        self.patients = {row["pseudonym"]: row["patient"] for row in private_rows(path.parents[1])}
        own = read_csv(path.parents[1] / "private" / f"{path.stem}.csv")
        self._sources = {row["name"]: row["source"] for row in reversed(own)}

    def source(self, name: str) -> str:
        """Return the raw name of a source, with the name of the slice."""
        volume, _, place = name.rpartition("/")
        return f"{self._sources[volume]}/{place}" if volume in self._sources else self._sources[name]


def write_noise(path: Path, sets: Mapping[str, Sequence[Member]], info: SetInfo) -> list[Drawn]:
    """Write a preprocessed file of noise, {set: [(patient, unit, images[, site])]}; return its cases."""
    drawn: list[Drawn] = []
    with Spool() as spool:
        spooled: dict[str, list[SpooledCase]] = {name: [] for name in SETS}
        for set_name, members in sets.items():
            for patient, unit, images, *site in members:
                for number in range(images):
                    one = _draw_case(info, set_name, patient, unit, number, *site)
                    drawn.append(one)
                    numbers = [spool.add(encode_chunk(pixels)) for pixels in one[1:]]
                    spooled[set_name].append(SpooledCase(one[0], *numbers))
        write_preprocessed(path, info, spooled, spool)
    return drawn


def _draw_case(info: SetInfo, set_name: str, patient: str, unit: str, number: int, site: str = "") -> Drawn:
    case = f"{set_name}/{patient}/{site}{number}"
    rng = derive_rng(0, info.dataset, case)
    image = rng.integers(0, info.max_value, info.pixel_shape, endpoint=True).astype(info.dtype)
    mask = (rng.random((info.size, info.size)) < 0.3).astype(np.uint8)
    size = measure_lesions(mask)
    lesions = {"n_lesions": size.n, "smallest_px": size.smallest_px, "smallest_box_px": size.smallest_box_px}
    known = CaseInfo(case, patient, unit, "", number, (1.0, 1.5), size.area_px, site, **lesions)
    return known, image, mask


def draw_discs(
    n: int,
    size: int = 16,
    seed: int = 0,
    max_value: int = 255,
    dataset: str = "busi",
    organ: str = "breast",
    channels: int = 1,
) -> CaseSet:
    """Return a data set in memory whose lesions are discs, brighter than the noise around them."""
    info = SetInfo(dataset, "US", organ, size, max_value, channels)
    drawn = [_draw_disc(info.pixel_shape, derive_rng(seed, "disc", index)) for index in range(n)]
    images = np.array([image for image, _ in drawn]).reshape(n, *info.pixel_shape) * max_value
    masks = np.array([mask for _, mask in drawn], np.uint8).reshape(n, size, size)
    cases = [
        CaseInfo(f"{dataset}-{index}", f"p{index}", f"p{index}", "", index, (1.0, 1.0), int(mask.sum()))
        for index, mask in enumerate(masks)
    ]
    return CaseSet(info, cases, images.astype(info.dtype), masks)


def _draw_disc(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return an image in [0, 1], a red disc if it has colours, and its mask."""
    size = shape[0]
    (row, column), radius = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(0.15, 0.25) * size
    rows, columns = np.mgrid[:size, :size]
    mask = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    light = mask if len(shape) == 2 else np.stack([mask, mask * 0.2, mask * 0.1], axis=2)
    return np.clip(0.2 + 0.6 * light + rng.normal(0, 0.05, shape), 0, 1), mask
