"""Rule that decides which images count as images with small lesions. Areas are in pixels.

This module loads neither NumPy nor OpenCV: the configuration, and with it the command line, imports it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from flames_cli.core.imaging.lesions import LesionSize

Lesion = Literal["small", "large", "none"]
"""Result of a rule for one image; none: its mask is empty."""

Measure = Literal["area", "box"]
"""Area that a rule compares with the image: all lesions together, or the bounding box of the smallest."""

RULE_FORM = "area:RATIO or box:RATIO, or with :BASE at its end, numbers above 1, such as area:1000"

WORDS: dict[Measure, str] = {"area": "lesion area", "box": "box of the smallest lesion"}


@dataclass(frozen=True, slots=True)
class SmallLesionRule:
    """Rule for small lesions: the image has at least `ratio` times the pixels of the measured area.

    FedGS has ("box", 150, 100) for PolypGen and ("area", 1000, 1000) for LiTS, at 512×512 pixels.

    Raises:
        ValueError: an unknown measure, or a number that is not finite or not above 1.
    """

    measure: Measure
    ratio: float
    """Smallest image area / measured area for which lesions are small."""
    log_base: float
    """Base of the logarithm of that quotient in FedGS's scaling factor."""

    def __post_init__(self) -> None:
        if self.measure not in WORDS:
            raise ValueError(f"measure {self.measure!r}, expected {' or '.join(WORDS)}")
        for name, value in (("ratio", self.ratio), ("base", self.log_base)):
            if not (math.isfinite(value) and value > 1):
                raise ValueError(f"{name} {value:g}, expected a finite number above 1")

    def __str__(self) -> str:
        """Return the rule as `parse_small_lesion_rule` reads it, such as `area:1000:1000`."""
        return f"{self.measure}:{_plain(self.ratio)}:{_plain(self.log_base)}"

    @property
    def condition(self) -> str:
        """Condition in words, such as `image area / lesion area ≥ 1000`."""
        return f"image area / {WORDS[self.measure]} ≥ {_plain(self.ratio)}"

    def is_small(self, image_px: int, size: "LesionSize") -> bool:
        """Return True if an image of `image_px` pixels has lesions and they are small."""
        measured = size.area_px if self.measure == "area" else size.smallest_box_px
        return measured > 0 and image_px / measured >= self.ratio

    def judge(self, image_px: int, size: "LesionSize") -> Lesion:
        """Return the class of an image of `image_px` pixels."""
        if not size.area_px:
            return "none"
        return "small" if self.is_small(image_px, size) else "large"


DEFAULT_RULE = SmallLesionRule("area", 100.0, 100.0)
"""Rule for data sets without a rule in a paper: lesions below 1 % of the image are small."""


def parse_small_lesion_rule(text: str) -> SmallLesionRule:
    """Return the rule that `MEASURE:RATIO` or `MEASURE:RATIO:BASE` states; the default base is the ratio.

    Raises:
        ValueError: `text` does not have this form.
    """
    measure, *numbers = (part.strip() for part in text.split(":"))
    try:
        if len(numbers) not in (1, 2):
            raise ValueError(f"{len(numbers)} numbers, expected 1 or 2")
        return SmallLesionRule(cast(Measure, measure), float(numbers[0]), float(numbers[-1]))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a rule ({error}); expected {RULE_FORM}") from None


def _plain(number: float) -> str:
    """Return all digits of a number, without a trailing `.0`."""
    return str(float(number)).removesuffix(".0")
