"""Small synthetic data sets in the raw layout of every reader."""

from collections.abc import Callable
from pathlib import Path

from flames_cli.demo_data import DEMO_DATA
from tests.support.phantoms.hospital import draw_manifest
from tests.support.phantoms.stills import (
    draw_cvc,
    draw_kvasir,
    draw_lgg,
    draw_lits_slices,
    draw_polypgen,
)
from tests.support.phantoms.volumes import (
    draw_brats2020,
    draw_brats2021,
    draw_kits23,
    draw_lits,
    draw_msd_liver,
    draw_msd_lung,
    draw_msd_pancreas,
)

PHANTOMS: dict[str, Callable[[Path, int, int], Path]] = {
    **DEMO_DATA,
    "brats2020": draw_brats2020,
    "brats2021": draw_brats2021,
    "msd-liver": draw_msd_liver,
    "msd-lung": draw_msd_lung,
    "msd-pancreas": draw_msd_pancreas,
    "lits": draw_lits,
    "kits23": draw_kits23,
    "polypgen": draw_polypgen,
    "lits-slices": draw_lits_slices,
    "kvasir": draw_kvasir,
    "cvc-clinicdb": draw_cvc,
    "lgg": draw_lgg,
    "manifest": draw_manifest,
}
"""Function draw(root, patients, seed) of each reader; it creates the download's folder and returns it."""
