"""OTU_2d of MMOTU: ovarian tumours in ultrasound."""

import re
from pathlib import Path

from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source
from flames_cli.readers.formats.stills import read_still

_IMAGE = re.compile(r"^(\d+)\.jpe?g$", re.IGNORECASE)
_MASK = re.compile(r"^(\d+)_binary\.png$", re.IGNORECASE)


def list_sources(root: Path) -> list[Source]:
    """Return every numbered image with its `N_binary.PNG`; other annotation files are ignored.

    A mask without its image is listed too, so that it is reported as bad.
    """
    images = _numbered(root / "images", _IMAGE)
    masks = _numbered(root / "annotations", _MASK)
    return [
        Source(
            name=images[number].name if number in images else f"{number}.JPG",
            patient=str(number),
            image=images.get(number) or root / "images" / f"{number}.JPG",
            masks=(masks[number],) if number in masks else (),
            # The numbers follow the scanner: neighbours are often two images of one woman.
            place_in_series=("", number),
        )
        for number in sorted(images | masks)
    ]


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    return {int(match[1]): path for path in folder.glob("*") if (match := pattern.match(path.name))}


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return one case: the grey image with its binary mask."""
    return read_still(source, options, f"annotations/{source.patient}_binary.PNG")


OTU2D = Reader(
    name="otu2d",
    modality="US",
    organ="ovary",
    licence="as its download page states (MMOTU, Zhao et al. 2022)",
    folder="OTU_2d",
    layout="images/1.JPG with annotations/1_binary.PNG",
    list_sources=list_sources,
    read_source=read_source,
    complete=1469,
    server_test=230,
    patient_unit="image",
)
