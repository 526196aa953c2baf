"""Reader of ISIC 2018 (task 1), dermoscopy of skin lesions; a second folder has the masks.

The layout, as it is downloaded:

    ISIC2018/
      images/ISIC_0000000.jpg
      masks/ISIC_0000000_segmentation.png
"""

from pathlib import Path

import numpy as np
from PIL import Image

from flames_cli import BadCase, RawCase, Reader, ReadOptions, SkippedCase, Source

ENDING = "_segmentation.png"


def list_sources(root: Path) -> list[Source]:
    """Return every image with its mask, in order; a mask or an image without the other is listed too."""
    images = {path.stem: path for path in (root / "images").glob("*.jpg")}
    masks = {path.name.removesuffix(ENDING): path for path in (root / "masks").glob(f"*{ENDING}")}
    return [
        Source(
            name=f"{name}.jpg",
            patient=name,
            image=images.get(name, root / "images" / f"{name}.jpg"),
            masks=(masks[name],) if name in masks else (),
        )
        for name in sorted(images.keys() | masks.keys())
    ]


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return one case of one image, in grey or in colour.

    Raises:
        BadCase: a file is missing or cannot be read, or the sizes differ.
        SkippedCase: the mask is empty, and such images are not kept.
    """
    if not source.masks:
        raise BadCase(f"{source.name}: no mask, expected masks/{source.patient}{ENDING}; add it")
    image = _read(source.image, "RGB" if options.colour else "L")
    mask = (_read(source.masks[0], "L") >= 128).astype(np.uint8)
    if mask.shape != image.shape[:2]:
        raise BadCase(
            f"{source.name}: its mask has {_size(mask)} pixels and the image {_size(image)}, expected the "
            "same; download both again"
        )
    if not mask.any() and not options.keep_empty:
        raise SkippedCase("the mask is empty")  # this text leaves the site: it names no file and no patient
    return [RawCase(case=source.patient, patient=source.patient, image=image, mask=mask)]


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]}×{array.shape[1]}"


def _read(path: Path, mode: str) -> np.ndarray:
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert(mode))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadCase(f"{path.name} cannot be read ({error}); download it again") from error


ISIC2018 = Reader(
    name="isic2018",
    modality="DERM",
    organ="skin",
    licence="CC-BY-NC 4.0, as the ISIC archive states",
    folder="ISIC2018",
    layout="images/ISIC_0000000.jpg with masks/ISIC_0000000_segmentation.png",
    list_sources=list_sources,
    read_source=read_source,
    patient_unit="image",
    has_colour=True,
)
