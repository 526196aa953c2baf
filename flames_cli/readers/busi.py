"""Breast Ultrasound Images (BUSI): benign and malignant lesions, one or more masks an image."""

import re
from collections.abc import Iterator
from pathlib import Path

from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE
from flames_cli.errors import FlamesError
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.images import read_still

NAME = "busi"
ALIASES: tuple[str, ...] = ()
MODALITY = "US"
ORGAN = "breast"
LICENCE = "as its Kaggle page states (Al-Dhabyani et al. 2020)"
FOLDER = "Dataset_BUSI_with_GT"
LAYOUT = "benign/benign (1).png with benign (1)_mask.png, and malignant/ likewise"
COMPLETE = 647
SERVER_TEST = 130
STILL = True
KNOWS_PATIENTS = False
COLOUR = False
SMALL = DEFAULT_RULE

CLASSES = ("benign", "malignant")
"""The third class, normal, has no lesion."""

_FILE = re.compile(r"^(?P<stem>(?:benign|malignant) \((?P<number>\d+)\))(?P<mask>_mask(?:_\d+)?)?\.png$")


def list_sources(root: Path) -> list[Source]:
    """Every image of both classes with its `_mask`, `_mask_1`, … files, in order of number.

    Raises:
        FlamesError: one class is there and the other is not.
    """
    missing = [name for name in CLASSES if not (root / name).is_dir()]
    if len(missing) == 1:
        raise FlamesError(f"no folder {root / missing[0]}: expected {LAYOUT}; unpack {FOLDER} whole")
    return [source for name in CLASSES for source in _list_class(root / name, name)]


def _list_class(folder: Path, stratum: str) -> list[Source]:
    """A mask without its image is listed too, so that it is reported as bad."""
    names = {path.name: path for path in folder.glob("*") if not path.name.startswith(".")}
    masks: dict[tuple[int, str], list[Path]] = {}
    for name in sorted(names):
        if match := _FILE.match(name):
            listed = masks.setdefault((int(match["number"]), match["stem"]), [])
            if match["mask"]:
                listed.append(names[name])
    return [
        Source(name=stem, patient=stem, image=folder / f"{stem}.png", masks=tuple(found), stratum=stratum)
        for (_, stem), found in sorted(masks.items())
    ]


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """One case: the grey image with the union of its masks."""
    return read_still(source, options, f"'{source.name}_mask.png' beside it")


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every case under `root`, one image in memory at a time."""
    return read_all(list_sources(root), read_source)
