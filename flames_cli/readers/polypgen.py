"""PolypGen: colonoscopy frames of six centres, one polyp mask each."""

import re
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source
from flames_cli.readers.formats.stills import read_still
from flames_cli.readers.pairs import JPEG, Centre, Pair, find_centres, find_named, pair_up

_MASK = re.compile(r"([^.].*)_mask\.jpe?g", re.IGNORECASE | re.DOTALL)
_PATIENT = re.compile(r"(\d+)(?=OLC|_endocv2021_)", re.IGNORECASE)


def list_sources(root: Path) -> list[Source]:
    """Return the single frames of every centre, without the video sequences (`sequenceData`).

    Some file names contain the patient, as nki-radiology/interpretability_augmentation on GitHub reads them:
    C1's `144OLCV1_100H0024` (144) and C4's `4_endocv2021_positive_34` (4). The others only count frames (C1's
    `100H0050`, C2's `EndoCV2021_001000`, C3's `C3_EndoCV2021_00489`, C5's `EndoCV2021_C5_50000346`): there an
    image counts as a patient.
    """
    return [_source(centre, pair) for centre in find_centres(root) for pair in _pairs(centre)]


def _pairs(centre: Centre) -> list[Pair]:
    # The name of one image of C3 ends in an underscore that the name of its mask does not have.
    named, masks = find_named(centre.images, JPEG), find_named(centre.masks, _MASK)
    images = {
        stem if stem in masks or stem.rstrip("_") in named else stem.rstrip("_"): path
        for stem, path in named.items()
    }
    return pair_up(images, masks, centre.images / "{}.jpg")


def _source(centre: Centre, pair: Pair) -> Source:
    # Names include the centre: two centres may give a frame the same name.
    known = _PATIENT.match(pair.key)
    return Source(
        name=f"{centre.site}/{pair.image.name}",
        patient=f"{centre.site}/{known[1] if known else pair.key}",
        image=pair.image,
        masks=pair.masks,
        case=f"{centre.site}/{pair.key}",
        site=centre.site,
    )


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return one case: the frame with its mask, which is a JPEG."""
    expected = f"masks_{source.site}/{Path(source.case).name}_mask.jpg"
    return read_still(source, options, expected, threshold="half")


POLYPGEN = Reader(
    name="polypgen",
    modality="Endoscopy",
    organ="colon",
    licence="CC BY 4.0 (Ali et al. 2023)",
    folder="PolypGen2021_MultiCenterData_v3",
    layout="data_C1/images_C1/X.jpg with data_C1/masks_C1/X_mask.jpg, and so on to C6",
    list_sources=list_sources,
    read_source=read_source,
    complete=1537,
    patient_unit="image",
    has_colour=True,
    # FedGS's rule: its blob detector takes a rough box of the smallest polyp of 512×512 pixels.
    small_lesion_rule=SmallLesionRule("box", 150.0, 100.0),
)
