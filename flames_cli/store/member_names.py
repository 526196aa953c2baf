"""Names of the runs of one family: several seeds, several folds of a cross-validation, or both."""

import re

_SEED, _FOLD = re.compile(r"(.+)-seed-(\d+)"), re.compile(r"(.+)-fold-(\d+)")


def member_name(family: str, fold: int | None = None, seed: int | None = None) -> str:
    """Return the name of the run of a family with `fold` and `seed`, such as flames-fold-2-seed-0; None for a
    family with one fold or one seed."""
    of_fold = "" if fold is None else f"-fold-{fold}"
    of_seed = "" if seed is None else f"-seed-{seed}"
    return f"{family}{of_fold}{of_seed}"


def split_name(run: str, folds: bool, seeds: bool) -> tuple[str, int | None, int | None]:
    """Return the family, the fold and the seed in the name of a run; the family is empty if the name does not
    have them.

    Args:
        run: name of the run.
        folds: True if the family has several folds.
        seeds: True if the family has several seeds.
    """
    name, numbers = run, []
    for wanted, form in ((seeds, _SEED), (folds, _FOLD)):
        found = form.fullmatch(name) if wanted else None
        if wanted and not found:
            return "", None, None
        numbers.append(int(found[2]) if found else None)
        name = found[1] if found else name
    seed, fold = numbers
    return (name if folds or seeds else ""), fold, seed


def family_name(run: str) -> str:
    """Return the name of the family to which a run of this name may belong; empty if its name has neither a
    seed nor a fold."""
    for folds, seeds in ((True, True), (False, True), (True, False)):
        if family := split_name(run, folds, seeds)[0]:
            return family
    return ""


def partition_name(folds: str, fold: int) -> str:
    """Return the name of the partition of a fold in the set called `folds`; the set `default` has no
    prefix."""
    return f"fold-{fold}" if folds == DEFAULT_SET else f"{folds}-fold-{fold}"


def split_partition_name(partition: str) -> tuple[str, int | None]:
    """Return the name of the set of folds and the fold in the name of a partition; an empty set if it has
    none."""
    if partition.startswith("fold-") and partition.removeprefix("fold-").isdecimal():
        return DEFAULT_SET, int(partition.removeprefix("fold-"))
    found = _FOLD.fullmatch(partition)
    return (found[1], int(found[2])) if found else ("", None)


DEFAULT_SET = "default"
"""Name of the set of folds fold-1, fold-2, …"""
