"""Breast Ultrasound Images (BUSI): benign and malignant lesions with one or more masks, and normal images."""

import re
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.readers.base import BadCase, RawCase, Reader, ReadOptions, Source
from flames_cli.readers.formats.stills import read_still

FOLDER = "Dataset_BUSI_with_GT"
LAYOUT = "benign/benign (1).png with benign (1)_mask.png, and malignant/ likewise"

CLASSES = ("benign", "malignant")
"""The two classes with lesions."""
NORMAL = "normal"
"""Class without lesions, whose masks are black; its folder may be absent."""

_FILE = re.compile(
    r"^(?P<stem>(?:benign|malignant|normal) \((?P<number>\d+)\))(?P<mask>_mask(?:_\d+)?)?\.png$"
)


def list_sources(root: Path) -> list[Source]:
    """Return every image of each class with its `_mask`, `_mask_1`, … files, in order of number.

    Raises:
        FlamesError: the folder of only one of the two classes exists.
    """
    missing = [name for name in CLASSES if not (root / name).is_dir()]
    if len(missing) == len(CLASSES):
        return []
    if missing:
        raise FlamesError(f"no folder {root / missing[0]}: expected {LAYOUT}; unpack all of {FOLDER}")
    return [source for name in (*CLASSES, NORMAL) for source in _list_class(root / name, name)]


def _list_class(folder: Path, stratum: str) -> list[Source]:
    """List the sources of one class.

    A mask without its image is listed too, so that it is reported as bad.
    """
    names = {path.name: path for path in folder.glob("*") if not path.name.startswith(".")}
    masks: dict[tuple[int, str], list[Path]] = {}
    for name in sorted(names):
        if match := _FILE.match(name):
            listed = masks.setdefault((int(match["number"]), match["stem"]), [])
            if match["mask"]:
                listed.append(names[name])
    return [
        Source(
            name=stem,
            patient=stem,
            image=folder / f"{stem}.png",
            masks=tuple(found),
            stratum=stratum,
            is_healthy=stratum == NORMAL,
            # The numbers follow the scanner: neighbours are often two images of one woman.
            place_in_series=(stratum, number),
        )
        for (number, stem), found in sorted(masks.items())
    ]


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return one case: the grey image with the union of its masks.

    Raises:
        BadCase: a file is not valid, or the mask of a normal image has a lesion.
    """
    cases = read_still(source, options, f"'{source.name}_mask.png' next to it")
    if source.is_healthy and any(case.mask.any() for case in cases):
        raise BadCase(
            f"{source.name}: its mask has a lesion, expected none in the folder {NORMAL}; correct the mask, "
            "or move the image to its class"
        )
    return cases


BUSI = Reader(
    name="busi",
    modality="US",
    organ="breast",
    licence="as its Kaggle page states (Al-Dhabyani et al. 2020)",
    folder=FOLDER,
    layout=LAYOUT,
    list_sources=list_sources,
    read_source=read_source,
    complete=647,
    server_test=130,
    patient_unit="image",
)
