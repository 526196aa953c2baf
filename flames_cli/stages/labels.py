"""Labels of the masks of a data set: chosen ones that no mask has, and different ones without a choice."""

from collections.abc import Collection, Iterable

FULL_SCALES = frozenset({"1", "255", "65535", "#ffffff"})
"""Ways to write the same: pixels of tumour have the largest value."""


def absent_labels(choices: Iterable[Collection[str]], found: Collection[str]) -> list[str]:
    """Return the chosen labels that no mask has, such as misspelt ones.

    Args:
        choices: labels that the user chose, by source.
        found: labels that exist in the masks.
    """
    chosen = dict.fromkeys(label for choice in choices for label in choice)
    return [label for label in chosen if label not in found]


def differing_labels(only: Collection[str]) -> list[str]:
    """Return the labels of masks with one label each, if they are not the same in all masks.

    Such labels may be organs in some masks, and tumour in others.

    Args:
        only: the only labels of the masks of which none was chosen.
    """
    return [] if len(only) < 2 or set(only) <= FULL_SCALES else sorted(only, key=lambda x: (len(x), x))
