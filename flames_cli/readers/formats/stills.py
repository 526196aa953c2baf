"""Read a still image with its masks."""

from collections.abc import Sequence

from flames_cli.readers.base import EMPTY_MASK, BadCase, RawCase, ReadOptions, SkippedCase, Source
from flames_cli.readers.formats.images import read_image
from flames_cli.readers.formats.masks import BLACK_AND_WHITE, Values, read_masks


def read_still(
    source: Source, options: ReadOptions, mask_name: str, allowed: Sequence[Values] | None = BLACK_AND_WHITE
) -> list[RawCase]:
    """Return one case: the source's image with the union of its masks.

    Args:
        source: an image and its masks.
        options: `colour` and `keep_empty` are used.
        mask_name: name of the expected mask, for the message if it is missing.
        allowed: see `read_masks`.

    Raises:
        BadCase: there is no mask, or image or mask is not valid.
        SkippedCase: the mask is empty, and such images are not kept.
    """
    if not source.masks:
        raise BadCase(f"{source.name}: no mask, expected {mask_name}")
    image = read_image(source.image, options.colour)
    mask = read_masks(source.masks, image.shape[:2], allowed)
    if not mask.any() and not options.keep_empty:
        raise SkippedCase(EMPTY_MASK)
    return [RawCase(case=source.case or source.patient, patient=source.patient, image=image, mask=mask)]
