"""Separation of tumour and head by intensity alone, for both values of --percentile-of.

python benchmarks/intensity.py --brats ../shared/data/Task01_BrainTumour

Prints, for each volume, the area under the ROC curve of tumour against the other voxels above 0, over the
slices that preprocess reads, scaled to 12 bits: voxels that become white cannot be distinguished.
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
from sklearn.metrics import roc_auc_score

from flames_cli.core.imaging.intensity import PercentileOf, quantise, scale
from flames_cli.readers.base import ReadOptions, Source
from flames_cli.readers.msd import BRATS


def measure(source: Source, of: PercentileOf) -> float:
    """Return the area under the ROC curve of one volume."""
    tumour, values = [], []
    for case in BRATS.read_source(source, ReadOptions(percentile_of=of)):
        head = case.image > 0
        tumour.append(case.mask[head])
        values.append(quantise(scale(case.image, case.low, case.high), case.max_value)[head])
    return float(roc_auc_score(np.concatenate(tumour), np.concatenate(values)))


def main() -> None:
    """Print one line for each volume, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--brats", type=Path, required=True, help="folder Task01_BrainTumour")
    options = parser.parse_args()
    choices = get_args(PercentileOf)
    print("volume     ", *choices)
    found = []
    for source in BRATS.list_sources(options.brats):
        found.append([measure(source, of) for of in choices])
        print(source.name, *(f"{area:.3f}" for area in found[-1]))
    print("median", *(f"{area:.3f}" for area in np.median(found, axis=0)))


if __name__ == "__main__":
    main()
