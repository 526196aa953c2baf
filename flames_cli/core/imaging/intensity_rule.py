"""Rule that made the intensities of a data set 0..1, so that new images can be prepared in the same way."""

from dataclasses import dataclass

from flames_cli.core.imaging.intensity import PercentileOf


@dataclass(frozen=True, slots=True)
class IntensityRule:
    """Rule for volumes and for images of more than 8 bits; images of 8 bits keep their values: 0..255 become
    0..1."""

    window: tuple[float, float] | None = None
    """Intensities that become 0 and 1, such as (-160, 240) HU; None: 0 and a percentile of each volume."""
    percentile: float = 95.0
    """Percentile of the complete volume, or of the image, that becomes 1 where there is no window."""
    percentile_of: PercentileOf = "all"
    """Voxels of which the percentile is taken: all, or those above 0 (foreground)."""

    def __str__(self) -> str:
        if self.window:
            return f"window {self.window[0]:g} to {self.window[1]:g}"
        return f"0 to the {self.percentile:g}th percentile of {self.percentile_of} voxels"
