"""Rows of figures: what images a second come to in TFLOP/s and of the roof, and how they are shown."""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Meter:
    """Converts images per second to a share of the card's roof."""

    gflop: tuple[float, float]
    """GFLOP of an image: forward and backward, and forward alone."""
    roofs: dict[str, float]

    def rate(self, images_s: float, roof: str, training: bool = True) -> Row:
        """Return TFLOP/s, and their share of the measured roof where there is one."""
        tflops = images_s * self.gflop[0 if training else 1] / 1000
        known = self.roofs.get(roof)
        return {"tflop_s": tflops, "share": tflops / known if known else None}


HEAD = ["setup", "train im/s", "ms", "TFLOP/s", "roof %", "GB", "first s", "predict im/s"]


def cells(row: Row) -> list[str]:
    """Return a row as the cells below HEAD."""
    if "failed" in row:
        return [row["setup"], "FAILED", *[""] * (len(HEAD) - 2)]
    share = row.get("share")
    return [
        row["setup"],
        f"{row['images_s']:.0f}",
        f"{row['step_ms']:.1f}",
        f"{row['tflop_s']:.1f}",
        "" if share is None else f"{100 * share:.1f}",
        _number(row.get("peak_gb"), ".1f"),
        _number(row.get("first_step_s"), ".1f"),
        _number(row.get("predicted_images_s"), ".0f"),
    ]


def describe(row: Row) -> str:
    """Return a row as a sentence."""
    named = zip(HEAD[1:], cells(row)[1:], strict=True)
    return ", ".join(f"{name} {value}" for name, value in named if value)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def images_s(row: Row) -> float:
    """Return how fast a row trains; 0 where it failed."""
    return float(row.get("images_s", 0.0))
