"""Small pictures inside a page: the pixels as a PNG in the page's text, and the outline of a mask."""

import base64
from dataclasses import dataclass
from typing import Any

import cv2

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.quality import trace_outlines


@dataclass(frozen=True, slots=True)
class Picture:
    """One case: `image` S×S or S×S×3 (uint8), `mask` T×T of 0 and 1, and two lines of text."""

    image: Pixels
    mask: Mask
    name: str
    detail: str
    prediction: Mask | None = None
    """Predicted mask, T×T of 0 and 1, which is outlined too."""

    @property
    def side(self) -> int:
        """Number of pixels of a side of the mask."""
        return len(self.mask)

    @property
    def source(self) -> str:
        """Address of the image, which contains it as a PNG."""
        pixels: Any = self.image if self.image.ndim == 2 else self.image[..., ::-1]  # OpenCV has blue first
        _, encoded = cv2.imencode(".png", pixels)
        return png_address(encoded.tobytes())

    @property
    def outline(self) -> str:
        """SVG path through the centres of the pixels at the edge of the mask; empty without a lesion."""
        return _trace(self.mask)

    @property
    def predicted_outline(self) -> str:
        """SVG path of the predicted mask; empty if there is none, or nothing is predicted."""
        return "" if self.prediction is None else _trace(self.prediction)


def _trace(mask: Mask) -> str:
    return "".join(
        "M" + " ".join(f"{x + 0.5:g},{y + 0.5:g}" for x, y in line) + "Z" for line in trace_outlines(mask)
    )


def png_address(content: bytes) -> str:
    """Return the address of an image that contains the bytes of a PNG file."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
