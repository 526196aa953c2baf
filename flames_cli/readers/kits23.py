"""KiTS23, the kidney tumour segmentation challenge of 2023: CT in HU (github.com/neheller/kits23)."""

import re
from pathlib import Path

from flames_cli.readers.base import BadCase, RawCase, Reader, ReadOptions, Source, VolumeRules
from flames_cli.readers.formats.nifti import read_labels, read_volume
from flames_cli.readers.formats.volumes import read_slices, require_same_grid

LABELS = frozenset({0, 1, 2, 3})
"""Background, kidney, tumour, cyst."""
TUMOUR = 2
RULES = VolumeRules("CT", window=(-79.0, 304.0))
"""Window in HU to which the winners of KiTS19 clipped (Isensee & Maier-Hein 2019, arXiv:1908.02182)."""

_CASE = re.compile(r"^case_\d+$")


def list_sources(root: Path) -> list[Source]:
    """Return every case folder, whether or not its files exist, so that missing files are reported."""
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
    """Return the axial slices with tumour; kidneys and cysts are background.

    Raises:
        BadCase: image or segmentation cannot be trusted.
        SkippedCase: there is no tumour, and such volumes are not kept.
    """
    try:
        image, mask = read_volume(source.image), read_labels(source.masks[0], LABELS)
    except BadCase as error:
        # The files have the same names in every case, so the message names the case too.
        raise BadCase(f"{source.name}/{error}") from error
    require_same_grid(source, image, mask)
    return read_slices(source, image, mask.voxels == TUMOUR, options, RULES)


KITS23 = Reader(
    name="kits23",
    modality="CT",
    organ="kidney",
    licence="CC BY-NC-SA 4.0 (kits-challenge.org)",
    folder="dataset",
    layout="case_00000/imaging.nii.gz with case_00000/segmentation.nii.gz",
    list_sources=list_sources,
    read_source=read_source,
    complete=489,
    volume_rules=RULES,
)
