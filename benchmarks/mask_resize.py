"""Overlap of resized masks with their images, for both ways of `--mask-resize`, on small and large lesions.

python benchmarks/mask_resize.py lits-slices ../shared/data/lits-slices --sizes 96 128 240

The reference is the mask averaged over the area of each new pixel, at a threshold of one half. The data set's
rule decides which images have small lesions; images whose reference is empty are left out.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from flames_cli.core.imaging.geometry import pad_to_square, to_square
from flames_cli.core.imaging.lesions import measure_lesions
from flames_cli.readers import READERS
from flames_cli.readers.base import ReadOptions, SkippedCase


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice coefficient of two masks, of which one is not empty."""
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def main() -> None:
    """Measure one data set of still images and print the mean Dice of each way and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", choices=sorted(READERS))
    parser.add_argument("root", type=Path, help="raw folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 240])
    options = parser.parse_args()
    reader = READERS[options.dataset]
    overlaps: dict[tuple[int, str, str], list[float]] = {}
    vanished: dict[tuple[int, str, str], int] = {}
    for source in reader.list_sources(options.root):
        try:
            masks = [case.mask for case in reader.read_source(source, ReadOptions())]
        except SkippedCase:
            continue
        for mask in masks:
            padded = pad_to_square(mask)
            kind = reader.small_lesion_rule.judge(padded.size, measure_lesions(padded))
            for size in options.sizes:
                averaged = cv2.resize(padded * 255.0, (size, size), interpolation=cv2.INTER_AREA)
                reference = (averaged >= 127.5).astype(np.uint8)
                for way in ("aligned", "paper"):
                    resized = to_square(mask, mask, size, way)[1]
                    key = size, kind, way
                    vanished[key] = vanished.get(key, 0) + (not resized.any())
                    if reference.any():
                        overlaps.setdefault(key, []).append(dice(resized, reference))
    print("size  lesions  way      images  mean Dice  lowest tenth  vanished")
    for (size, kind, way), values in sorted(overlaps.items()):
        tenth = np.quantile(values, 0.1)
        print(
            f"{size:4}  {kind:7}  {way:7}  {len(values):6}  {np.mean(values):9.3f}  {tenth:12.3f}"
            f"  {vanished[size, kind, way]:8}"
        )


if __name__ == "__main__":
    main()
