"""Compare the folds of `flames partition --folds` with those of scikit-learn's StratifiedGroupKFold.

python benchmarks/folds.py flames-workspace/preprocessed/busi.h5 … [--folds 5] [--seeds 20]

For each file: the largest difference between two folds of a draw, as the median and the maximum over seeds,
in units (patients, or clusters of near copies), in images, and in the share of the units of the first class.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import deal_folds
from flames_cli.store.h5 import read_preprocessed_cases


def spreads(fold_of: dict[str, int], class_of: dict[str, str], images: Counter[str]) -> tuple[float, ...]:
    """Return the three differences between the folds of one draw."""
    folds = sorted(set(fold_of.values()))
    units = [[name for name, fold in fold_of.items() if fold == one] for one in folds]
    first = min(class_of.values())
    counts = [len(own) for own in units]
    pictures = [sum(images[name] for name in own) for own in units]
    shares = [sum(class_of[name] == first for name in own) / len(own) for own in units]
    return tuple(float(max(one) - min(one)) for one in (counts, pictures, shares))


def main() -> None:
    """Print a line for each file and each way to deal folds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    print("| data set | units (images) | folds by | units | images | share of a class |")
    print("|---|---|---|---|---|---|")
    for path in options.files:
        sets = read_preprocessed_cases(path)[1]
        cases = [case for own in sets.values() for case in own if case.selected]
        class_of = {case.split_unit: case.stratum for case in reversed(cases)}
        images = Counter(case.split_unit for case in cases)
        ours, theirs = [], []
        for seed in range(options.seeds):
            strata = {name: (class_of[name],) for name in class_of}
            dealt = deal_folds(strata, options.folds, derive_rng(seed, "folds", path.stem))
            ours.append(spreads(dealt, class_of, images))
            sampler = StratifiedGroupKFold(options.folds, shuffle=True, random_state=seed)
            groups = [case.split_unit for case in cases]
            labels = [case.stratum for case in cases]
            drawn = {
                groups[row]: fold
                for fold, (_, tested) in enumerate(sampler.split(groups, labels, groups))
                for row in tested
            }
            theirs.append(spreads(drawn, class_of, images))
        for name, found in (("deal_folds", ours), ("StratifiedGroupKFold", theirs)):
            middle, most = np.median(found, axis=0), np.max(found, axis=0)
            cells = [f"{a:.3g} ({b:.3g})" for a, b in zip(middle, most, strict=True)]
            print(f"| {path.stem} | {len(class_of)} ({len(cases)}) | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
