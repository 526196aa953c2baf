"""Records of a run with secure aggregation: numbers of model groups in place of those of clients."""

from typing import Any


def group(
    clients: int, loss: float, dice: float | None = None, images: float = 0.0, name: str = "received"
) -> dict[str, float]:
    """Return the pooled numbers of a group; without `dice` it has no validation images."""
    numbers: dict[str, float] = {"clients": clients, "train_loss": loss}
    if dice is not None:
        before = f"{name}_" if name else ""
        numbers |= {f"{before}val_dice": dice, f"{before}val_loss": 1 - dice}
        numbers |= {"n_val": images, "n_val_patients": images / 2, "n_val_small": 0.0}
    return numbers


def grouped_line(number: int, groups: dict[str, Any], clients: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return a line of rounds.jsonl; `clients` has the modality of each client by name."""
    rejected = more.pop("rejected", {})
    return {
        "round": number,
        "seconds": 2.0,
        "clients": [
            {
                "client": name,
                "modality": modality,
                "seconds": 1.0,
                **({"rejection_reason": rejected[name]} if name in rejected else {}),
            }
            for name, modality in clients.items()
        ],
        "groups": groups,
        "accepted": [name for name in clients if name not in rejected],
        "unchanged_groups": [],
        "rejected": rejected,
        "bytes_down": 1000,
        "bytes_up": 2000,
        "rss_mb": 100.0,
        **more,
    }
