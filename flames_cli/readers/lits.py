"""LiTS, the liver tumour segmentation challenge: CT in HU (Bilic et al. 2023); rules as in FedGS."""

import re
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.imaging.volumes import from_ras, to_ras
from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source, VolumeRules
from flames_cli.readers.formats.nifti import read_labels, read_volume
from flames_cli.readers.formats.volumes import Volume, read_slices, require_same_grid

LABELS = frozenset({0, 1, 2})
"""Background, liver, tumour."""
TUMOUR = 2
RULES = VolumeRules("CT", window=(-200.0, 200.0), min_lesion_px=51)
"""Window in HU; slices with more than 50 tumour pixels."""
VOLUMES_PER_SITE, LAST_SITE = 30, 5
"""FedGS distinguishes five centres by the numbers of the volumes: 0-29, 30-59, 60-89, 90-119, 120-130."""

_FILE = re.compile(r"^(volume|segmentation)-(\d+)\.nii(\.gz)?$")


def list_sources(root: Path) -> list[Source]:
    """Return every volume with its segmentation, in `root` or up to two folders below.

    A segmentation without its volume is listed too, so that it is reported as bad.
    """
    volumes, segmentations = _numbered(root, "volume"), _numbered(root, "segmentation")
    return [
        Source(
            name=f"volume-{number}",
            patient=f"volume-{number}",
            image=volumes.get(number, root / f"volume-{number}.nii"),
            masks=(segmentations.get(number, root / f"segmentation-{number}.nii"),),
            site=f"C{min(number // VOLUMES_PER_SITE + 1, LAST_SITE)}",
        )
        for number in sorted(volumes | segmentations)
    ]


def _numbered(root: Path, kind: str) -> dict[int, Path]:
    """Return {number: file}; of several files with one number, the nearest to `root`."""
    found: dict[int, Path] = {}
    for depth in ("*", "*/*", "*/*/*"):
        for path in sorted(root.glob(depth)):
            match = _FILE.match(path.name)
            if match and match[1] == kind:
                found.setdefault(int(match[2]), path)
    return found


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return the axial slices with more than 50 tumour pixels.

    Raises:
        BadCase: volume or segmentation cannot be trusted.
        SkippedCase: no slice has enough tumour pixels.
    """
    image, mask = read_volume(source.image), read_labels(source.masks[0], LABELS)
    mask = _with_header_of(image, mask)
    require_same_grid(source, image, mask)
    return read_slices(source, image, mask.voxels == TUMOUR, options, RULES)


def _with_header_of(image: Volume, mask: Volume) -> Volume:
    """Return `mask` with the header of `image`.

    Some of LiTS's segmentations have a meaningless header (an identity with origin 1, while the volume is LAS
    with its spacing: MIC-DKFZ/nnUNet issues 850 and 2751). Their voxels are in the order of the volume, which
    is what others who train on LiTS rely on. So the volume's header is used for both; only the shapes must
    agree.
    """
    return Volume(to_ras(from_ras(mask.voxels, mask.axes), image.axes), image.affine, image.axes)


LITS = Reader(
    name="lits",
    modality="CT",
    organ="liver",
    licence="CC BY-NC-ND 4.0 (LiTS, codalab.org)",
    folder="LITS",
    layout="volume-0.nii with segmentation-0.nii, together or in folders such as 'Training Batch 1'",
    list_sources=list_sources,
    read_source=read_source,
    complete=131,
    volume_rules=RULES,
    small_lesion_rule=SmallLesionRule("area", 1000.0, 1000.0),  # as in FedGS
)
