"""Read a still image with its masks."""

import numpy as np

from flames_cli.core.imaging.labels import Threshold
from flames_cli.readers.base import EMPTY_MASK, BadCase, RawCase, ReadOptions, SkippedCase, Source
from flames_cli.readers.formats.exif import compare_orientations, explained_shapes
from flames_cli.readers.formats.images import read_image
from flames_cli.readers.formats.masks import MaskRule, join, read_mask


def read_still(
    source: Source, options: ReadOptions, mask_name: str, threshold: Threshold = None
) -> list[RawCase]:
    """Return one case: the source's image with the union of its masks.

    Args:
        source: an image and its masks.
        options: `colour` and `keep_empty` are used, and `mask_threshold` in place of `threshold`.
        mask_name: name of the expected mask, for the message if it is missing.
        threshold: smallest value that is tumour, if the masks of the data set are soft.

    Raises:
        BadCase: there is no mask, or image or mask is not valid.
        SkippedCase: the mask is empty, and such images are not kept.
    """
    if not source.masks:
        raise BadCase(f"{source.name}: no mask, expected {mask_name}")
    image = read_image(source.image, options.colour)
    rule = MaskRule(threshold=options.mask_threshold or threshold)
    with explained_shapes(source.image, source.masks):
        marked = join([read_mask(path, image.shape[:2], rule) for path in source.masks])
    if not marked.tumour.any() and not options.keep_empty:
        raise SkippedCase(EMPTY_MASK)
    return [
        RawCase(
            case=source.case or source.patient,
            patient=source.patient,
            image=image,
            mask=marked.tumour.view(np.uint8),
            notes=compare_orientations(source.image, source.masks),
        )
    ]
