"""Kvasir-SEG: polyps in colonoscopy frames."""

from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source
from flames_cli.readers.formats.stills import read_still
from flames_cli.readers.pairs import JPEG, find_named, pair_up


def list_sources(root: Path) -> list[Source]:
    """Return every image with the mask of the same name.

    The data set does not state which frames show the same patient.
    """
    images, masks = find_named(root / "images", JPEG), find_named(root / "masks", JPEG)
    return [
        Source(name=pair.image.name, patient=pair.key, image=pair.image, masks=pair.masks)
        for pair in pair_up(images, masks, root / "images" / "{}.jpg")
    ]


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return one case: the frame with its mask, which is a JPEG."""
    return read_still(source, options, f"masks/{source.image.name}", threshold="half")


KVASIR = Reader(
    name="kvasir",
    modality="Endoscopy",
    organ="colon",
    licence="research and education only (Jha et al. 2020)",
    folder="Kvasir-SEG",
    layout="images/X.jpg with masks/X.jpg",
    list_sources=list_sources,
    read_source=read_source,
    complete=1000,
    patient_unit="image",
    has_colour=True,
    # FedGS's rule for PolypGen, which is endoscopy of the colon too.
    small_lesion_rule=SmallLesionRule("box", 150.0, 100.0),
)
