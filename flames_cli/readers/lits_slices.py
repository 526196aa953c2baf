"""LiTS as the authors of FedGS slice it: axial CT of the liver in a display window, by centre.

Volumes are numbered as in LiTS, across the centres. The slices were selected when they were cut: those with
more than 50 tumour pixels.
"""

import re
from dataclasses import replace
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source
from flames_cli.readers.formats.stills import read_still
from flames_cli.readers.pairs import Centre, Pair, find_centres, find_named, pair_up

_IMAGE = re.compile(r"image(\d+_slice\d{1,9})\.jpe?g", re.IGNORECASE)
_MASK = re.compile(r"mask(\d+_slice\d{1,9})\.jpe?g", re.IGNORECASE)


def list_sources(root: Path) -> list[Source]:
    """Return every slice of every centre, by volume; a volume is a patient."""
    return [_source(centre, pair) for centre in find_centres(root) for pair in _pairs(centre)]


def _pairs(centre: Centre) -> list[Pair]:
    images, masks = find_named(centre.images, _IMAGE), find_named(centre.masks, _MASK)
    return pair_up(images, masks, centre.images / "image{}.jpg")


def _source(centre: Centre, pair: Pair) -> Source:
    volume, index = pair.key.split("_slice")
    return Source(
        name=f"{centre.site}/{pair.image.name}",
        patient=f"volume-{volume}",
        image=pair.image,
        masks=pair.masks,
        case=f"{centre.site}/volume-{volume}/z{index}",
        site=centre.site,
    )


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return one case: the grey slice with its mask, which is a JPEG."""
    expected = f"masks_{source.site}/{source.image.name.replace('image', 'mask')}"
    cases = read_still(source, options, expected, threshold="half")
    return [replace(case, slice_index=int(source.case.rsplit("z")[-1])) for case in cases]


LITS_SLICES = Reader(
    name="lits-slices",
    modality="CT",
    organ="liver",
    licence="CC BY-NC-ND (LiTS, Bilic et al. 2023)",
    folder="data_lits",
    layout="data_C1/images_C1/image4_slice340.jpg with data_C1/masks_C1/mask4_slice340.jpg, for each centre",
    list_sources=list_sources,
    read_source=read_source,
    small_lesion_rule=SmallLesionRule("area", 1000.0, 1000.0),  # as in FedGS
)
