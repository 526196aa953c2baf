"""Numbers of the clients' reports as parts of a secure sum, and the pooled numbers of their group.

A loss or a Dice counts by the client's number of validation images, as `best_round` pools them. The numbers
of images are divided by the largest one of the clients that were asked, so that all parts are about 1.
"""

from collections.abc import Mapping, Sequence

NAMES = (
    *("train_loss", "n_val", "received_val_loss", "received_val_dice"),
    *("n_trained", "trained_val_loss", "trained_val_dice"),
    *("n_val_patients", "n_val_small", "received_val_dice_small"),
)
"""Numbers in their order in the vector."""

_BY_IMAGES = {
    "received_val_loss": "n_val",
    "received_val_dice": "n_val",
    "trained_val_loss": "n_trained",
    "trained_val_dice": "n_trained",
    "received_val_dice_small": "n_val_small",
}
"""Number of images by which each other number counts."""

_COUNTS = ("n_val", "n_trained", "n_val_patients", "n_val_small")


def to_parts(metrics: Mapping[str, float], reference: int) -> list[float]:
    """Return a client's parts of the sums, in the order of NAMES.

    Args:
        metrics: numbers of its report; those that it does not have count 0.
        reference: largest number of validation images of the clients that were asked.
    """
    found = {**metrics, "n_trained": metrics.get("n_val", 0.0) if "trained_val_dice" in metrics else 0.0}
    parts = []
    for name in NAMES:
        by = _BY_IMAGES.get(name, name)
        share = found.get(by, 0.0) / max(reference, 1) if by in _COUNTS else 1.0
        parts.append(share if name in _COUNTS else share * found.get(name, 0.0))
    return parts


def pool(sums: Sequence[float], clients: int, reference: int) -> dict[str, float]:
    """Return the pooled numbers of a group: `clients`, their mean training loss, and their validation.

    The validation is missing if no client has validation images.
    """
    found = dict(zip(NAMES, map(float, sums), strict=True))
    pooled: dict[str, float] = {"clients": clients, "train_loss": found["train_loss"] / clients}
    counts = {name: round(found[name] * max(reference, 1)) for name in _COUNTS}
    for name, by in _BY_IMAGES.items():
        if counts[by] > 0:
            mean = found[name] / found[by]
            pooled[name] = min(max(mean, 0.0), 1.0) if "dice" in name else mean
    if counts["n_val"] > 0:
        pooled |= {name: float(counts[name]) for name in _COUNTS if name != "n_trained"}
    return pooled
