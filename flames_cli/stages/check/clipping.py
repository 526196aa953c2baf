"""Images whose tissue or lesions the window makes white or black, and windows that show too little."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flames_cli.core.imaging.clipping import Clipping
from flames_cli.core.imaging.intensity import round_outwards
from flames_cli.readers.base import ReadOptions
from flames_cli.readers.formats.ranges import advise_window, find_window, is_ct
from flames_cli.stages.check.inspection import Inspected
from flames_cli.stages.check.survey import Finding, Part, Survey, Where, count_noun

# These limits are our own choice, from measurements (docs/decisions.md).
LOST_TISSUE, LOST_TISSUE_CT = 0.25, 0.5
"""Share of the tissue at the ends of the window above which it is lost; CT's window makes bone white."""
LOST_LESION = 0.5
"""Share of the lesion's pixels at the ends of the window above which the lesion is lost."""
FAR_ABOVE = 2.0
"""Level, in windows, above which the median of a white lesion is far from all that the window shows."""
HIGHER_PERCENTILE = 99.5
ALIKE = 2.0
"""Ratio of the brightest to the darkest source below which one window suits all of them."""
SHOWN = 3
"""Number of volumes or images with pictures, for each part."""


class Lost(NamedTuple):
    """Shares of one source that become white or black; those of the lesion are NaN if there is none."""

    white: float
    """Share of the visible tissue."""
    black: float
    """Share of the tissue."""
    lesion: float
    lesion_black: float
    lesion_level: float
    """Median level of the lesion, 0 and 1 at the ends of the window."""
    lesion_of_foreground: float
    """Share of the lesion that the percentile of the foreground would make white."""

    def describe(self) -> str:
        """Return the shares as text."""
        colour = "black" if self.black > self.white else "white"
        tissue = f"{max(self.white, self.black):.0%} of the tissue is {colour}"
        return (
            tissue if np.isnan(self.lesion) else f"{tissue}, {self.lesion:.0%} of the lesion white or black"
        )


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of the sources of one part."""

    part: Part
    sources: Sequence[tuple[Inspected, Lost]]
    """Sources and their losses, one or more."""

    @property
    def median(self) -> Lost:
        """The median of each share, over the sources that have it."""
        columns = np.array([lost for _, lost in self.sources]).T
        known = (column[~np.isnan(column)] for column in columns)
        return Lost(*(float(np.median(column)) if column.size else float("nan") for column in known))

    @property
    def is_problem(self) -> bool:
        """True if the median source loses most of its tissue's contrast or of its lesion.

        Outside CT, the brightest voxels become white on purpose: a white lesion is a problem only if it is
        far above the window.
        """
        median = self.median
        if self._loses_tissue(median) or median.lesion_black > LOST_LESION:
            return True
        return median.lesion > LOST_LESION and (is_ct(self.part.modality) or median.lesion_level > FAR_ABOVE)

    def _loses_tissue(self, lost: Lost) -> bool:
        return max(lost.white, lost.black) > (LOST_TISSUE_CT if is_ct(self.part.modality) else LOST_TISSUE)

    def above_limits(self) -> "Losses":
        """Return the sources that lose too much, those that lose most first."""
        chosen = [
            (one, lost) for one, lost in self.sources if self._loses_tissue(lost) or lost.lesion > LOST_LESION
        ]
        return Losses(self.part, sorted(chosen, key=lambda pair: np.nanmax(pair[1][:3]), reverse=True))


def find_clipped(survey: Survey) -> Iterator[Finding]:
    """Return the finding for tissue and lesions that become white or black.

    It is a problem for parts whose median volume or image loses too much; else a note with the volumes and
    images that lose much.
    """
    throughout = clipped_parts(survey)
    single = [] if throughout else [above for one in _losses(survey) if (above := one.above_limits()).sources]
    fixes = dict.fromkeys(_advise(one, survey.options) for one in throughout or single)
    if throughout:
        yield Finding(
            severity="problem",
            code="clipped",
            what="most of the tissue or of the lesions becomes white or black, and is lost",
            fix="; ".join(fixes),
            where=tuple(_where(one, survey.noun) for one in throughout),
        )
    elif single:
        chosen = [pair for one in single for pair in one.sources]
        yield Finding(
            severity="note",
            code="clipped",
            what=f"{count_noun(len(chosen), survey.noun)} with much tissue or lesion that becomes white "
            "or black",
            fix="; ".join(fixes),
            where=tuple(
                Where(f"{one.source.name}: {lost.describe()}", (one.source.name,)) for one, lost in chosen
            ),
        )


def clipped_parts(survey: Survey) -> list[Losses]:
    """Return the parts whose median source loses so much that it is a problem."""
    return [one for one in _losses(survey) if one.is_problem]


def advise_wider(survey: Survey, contrast: float) -> str:
    """Return the `--window` options for parts of which the median image has less than `contrast`, a share of
    the window; empty if there are none. 8-bit images do not count."""
    advice = []
    for part, own in survey.parts().items():
        deep = [case.contrast for one in own for case in one.cases if case.clipping]
        if deep and np.median(deep) < contrast:
            advice.append(f"pass {_window_for(part, own, widen=False)}")
    return "; ".join(advice)


def _losses(survey: Survey) -> list[Losses]:
    """Return the losses of every part that has volumes or 16-bit images."""
    parts = (
        Losses(part, [(one, lost) for one in own if (lost := _lost(one, part.modality))])
        for part, own in survey.parts().items()
    )
    return [one for one in parts if one.sources]


def _lost(one: Inspected, modality: str) -> Lost | None:
    """Return the shares of one source; None for 8-bit images, for which no window was chosen."""
    figures = _figures([one])
    if not figures:
        return None
    # Below CT's window there are air and lung; a low end above 0 is the user's, to cut off noise.
    blackens_tissue = not is_ct(modality) and figures[0].low <= 0
    lesion_px = sum(figure.lesion_px for figure in figures) or float("nan")
    visible_px = max(sum(figure.visible_px for figure in figures), 1)
    tissue_px = max(sum(figure.tissue_px for figure in figures), 1)
    return Lost(
        white=sum(figure.white_px for figure in figures) / visible_px,
        black=sum(figure.black_px for figure in figures) / tissue_px if blackens_tissue else 0.0,
        lesion=sum(figure.lesion_white_px + figure.lesion_black_px for figure in figures) / lesion_px,
        lesion_black=sum(figure.lesion_black_px for figure in figures) / lesion_px,
        lesion_level=float(
            np.median([figure.lesion_level for figure in figures if figure.lesion_px] or [np.nan])
        ),
        lesion_of_foreground=sum(figure.lesion_white_px_of_foreground for figure in figures) / lesion_px,
    )


def _figures(own: Sequence[Inspected]) -> list[Clipping]:
    return [case.clipping for one in own for case in one.cases if case.clipping]


def _where(losses: Losses, noun: str) -> Where:
    worst = [one.source.name for one, _ in losses.above_limits().sources[:SHOWN]]
    window = _figures([losses.sources[0][0]])[0]
    text = (
        f"{' '.join(filter(None, losses.part))}: {losses.median.describe()} (median of "
        f"{count_noun(len(losses.sources), noun)}; window of the first: {window.low:g} to {window.high:g})"
    )
    return Where(text, tuple(worst), tuple(filter(None, losses.part)))


def _advise(losses: Losses, options: ReadOptions) -> str:
    """Return the options that keep more of the sources."""
    part, own, median = losses.part, [one for one, _ in losses.sources], losses.median
    if is_ct(part.modality) or find_window(options.windows, part.modality):
        return f"pass {_window_for(part, own, widen=max(median.white, median.black) <= LOST_TISSUE_CT)}"
    ways = []
    if options.percentile_of == "all" and not median.lesion_of_foreground > LOST_LESION:
        ways.append("--percentile-of foreground")
    if options.percentile < HIGHER_PERCENTILE:
        ways.append(f"--percentile {HIGHER_PERCENTILE:g}")
    highs = [np.median([figure.tissue_range[1] for figure in _figures([one])]) for one in own]
    if not ways or max(highs) < ALIKE * min(highs):
        ways.append(_window_for(part, own, widen=False))
    return f"pass {' or '.join(ways)}, and check again"


def _window_for(part: Part, own: Sequence[Inspected], widen: bool) -> str:
    """Return the `--window` option that shows the tissue and the lesions of `own`, or the present window
    widened until it shows the lesions."""
    ends = [
        (figure.low, figure.high, *figure.lesion_range)
        if widen
        else (*figure.tissue_range, *figure.lesion_range)
        for figure in _figures(own)
    ]
    low = float(np.percentile([min(first, third) for first, _, third, _ in ends], 10))
    high = float(np.percentile([max(second, fourth) for _, second, _, fourth in ends], 90))
    low = 0.0 if 0 <= low < high / 2 else low
    return advise_window(part.modality, round_outwards(low, high, symmetric=not is_ct(part.modality)))
