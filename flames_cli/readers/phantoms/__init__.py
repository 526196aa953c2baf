"""Small synthetic data sets in the raw layouts of the real ones: for `flames demo`, and for tests."""

from collections.abc import Callable
from pathlib import Path

from flames_cli.readers.phantoms.hospital import draw_manifest
from flames_cli.readers.phantoms.paper import draw_brats, draw_busi, draw_otu2d, lesion_area
from flames_cli.readers.phantoms.stills import (
    draw_cvc,
    draw_kvasir,
    draw_lgg,
    draw_lits_slices,
    draw_polypgen,
)
from flames_cli.readers.phantoms.volumes import (
    draw_brats2020,
    draw_brats2021,
    draw_kits23,
    draw_lits,
    draw_msd_liver,
    draw_msd_lung,
    draw_msd_pancreas,
)

PHANTOMS: dict[str, Callable[[Path, int, int], Path]] = {
    "brats": draw_brats,
    "busi": draw_busi,
    "otu2d": draw_otu2d,
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
"""By reader: draw(root, patients, seed) makes the download's folder under `root` and returns it."""

__all__ = ["PHANTOMS", "draw_brats", "draw_busi", "draw_otu2d", "lesion_area"]
