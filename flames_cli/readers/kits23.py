"""KiTS23, the kidney tumour segmentation challenge of 2023: CT in HU (github.com/neheller/kits23)."""

import re
from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.readers.base import BadCase, RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.nifti import read_labels, read_volume
from flames_cli.readers.formats.volumes import VolumeRules, read_slices, require_same_grid

NAME = "kits23"
ALIASES: tuple[str, ...] = ("kits",)
MODALITY = "CT"
ORGAN = "kidney"
LICENCE = "CC BY-NC-SA 4.0 (kits-challenge.org)"
FOLDER = "dataset"
LAYOUT = "case_00000/imaging.nii.gz with case_00000/segmentation.nii.gz"
COMPLETE = 489
SERVER_TEST = 0
STILL = False
KNOWS_PATIENTS = True
COLOUR = False
SMALL = DEFAULT_RULE

LABELS = frozenset({0, 1, 2, 3})
"""Background, kidney, tumour, cyst."""
TUMOUR = 2
RULES = VolumeRules(MODALITY, window=(-79.0, 304.0))
"""HU: what the winners of KiTS19 clipped to (Isensee & Maier-Hein 2019, arXiv:1908.02182)."""

_CASE = re.compile(r"^case_\d+$")


def list_sources(root: Path) -> list[Source]:
    """Every case's folder, whether or not its files are there, so that what is missing is reported."""
    folders = (path for path in root.glob("case_*") if _CASE.match(path.name) and path.is_dir())
    return [
        Source(
            name=folder.name,
            patient=folder.name,
            image=_file(folder, "imaging"),
            masks=(_file(folder, "segmentation"),),
        )
        for folder in sorted(folders)
    ]


def _file(folder: Path, stem: str) -> Path:
    plain = folder / f"{stem}.nii"
    return plain if plain.exists() else folder / f"{stem}.nii.gz"


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """The axial slices that hold tumour; kidneys and cysts are background.

    Raises:
        BadCase: image or segmentation cannot be trusted.
        SkippedCase: no tumour.
    """
    try:
        image, mask = read_volume(source.image), read_labels(source.masks[0], LABELS)
    except BadCase as error:
        # Every case's files have the same names.
        raise BadCase(f"{source.name}/{error}") from error
    require_same_grid(source, image, mask)
    return read_slices(source, image, mask.voxels == TUMOUR, options, RULES)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every kept slice under `root`, one volume in memory at a time."""
    return read_all(list_sources(root), read_source)
