"""Choose the intensities of an image that become black and white: a window, or 0 to a percentile."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.intensity import count_values, percentile_range, round_outwards, sample_voxels
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.readers.base import BadCase, ReadOptions, VolumeRules

Range = tuple[float, float]
"""Intensities that become black and white."""

CT_WINDOW = (-160.0, 240.0)
"""Window of soft tissue in HU (width 400, level 40), for CT data sets without their own window."""

OFFSETS = (1024, 8192, 32768, -1024)
"""Values of water where a converter lost the intercept of CT, stored HU + 32768 in a PNG, or subtracted the
intercept twice."""

# These limits are our own choice, from measurements (docs/decisions.md).
MOST_NEGATIVE = 0.1
"""Share of an image outside the background that may be below 0 where 0 becomes black."""
MOST_NEGATIVE_OF_TISSUE = 0.02
"""The same share if the background itself is below 0."""
LEAST_BACKGROUND = 0.05
"""Share of an image that its most frequent value has if it is a background."""
NEAR = 0.05
"""Share of the range of values in which a voxel counts as 0, or as background."""
LEAST_AIR, MOST_BONE, LEAST_BODY = 0.01, 0.3, 0.05
"""Shares of a CT below -200 HU, above 400 HU, and from 700 to 1300 HU. It is not in HU if it has less air
than the first, and more bone than the second; or more than the third from 700 HU, and less from 240 HU."""
LEAST_TISSUE = 0.01
"""Share above -500 HU of a CT that is not in HU, if its lowest value is below that of air."""
CLIPPED_AIR = (-1030.0, -990.0)
"""Values in HU to which programs clip air."""
BELOW_AIR = -1100.0
"""Value in HU that only padding is below."""
FEWEST_HU = 20.0
"""Distance from 0 HU within which no CT lies completely: its noise alone is wider."""

OTHER_UNITS = (
    "no value is below 0, but the window of the model begins below 0: the values may not be Hounsfield units"
)
"""Remark on an image whose values do not fit the window of the model."""
NEGATIVE = "many values are below 0, which the rule of the model makes black"
"""Remark on an image such as one of z-scores."""

_CT = re.compile(r"CTA?(?![A-Za-z])", re.IGNORECASE)
_AIR_HU = (-3100.0, -900.0)


def is_ct(modality: str) -> bool:
    """Return whether the name starts with CT or CTA as a word, such as CT, CT-CE, ct_portal or CTA."""
    return _CT.match(modality) is not None


def family_of(modality: str) -> str:
    """Return CT for CT of any name, else the name itself: within a family, intensities have one meaning."""
    return "CT" if is_ct(modality) else modality


def find_window(windows: Mapping[str, Range], modality: str) -> Range | None:
    """Return the user's window for `modality`: that of its exact name, then for CT of any name that of CT."""
    return windows.get(modality) or (windows.get("CT") if is_ct(modality) else None)


def resolve_rule(rules: VolumeRules, options: ReadOptions) -> IntensityRule:
    """Return the rule by which `choose_range` makes intensities 0..1.

    It has the user's window; else the window of the data set, or CT_WINDOW for CT; else 0 and a percentile.
    """
    given = find_window(options.windows, rules.modality) or rules.window
    if window := given or (CT_WINDOW if is_ct(rules.modality) else None):
        return IntensityRule(window)
    return IntensityRule(None, options.percentile, options.percentile_of)


def choose_range(name: str, voxels: Pixels, rules: VolumeRules, options: ReadOptions) -> Range:
    """Return the intensities that become black and white in an image or a volume.

    They follow the rule of the model, if there is one; else that of the data set (see `resolve_rule`).

    Args:
        name: name of the file, for messages.
        voxels: the complete volume, or the image.
        rules: modality and window of the data set.
        options: the user's windows and percentile.

    Raises:
        BadCase: the window is in HU and the values are not; or many values are below 0, or the percentile is
            not above 0, where 0 would become black. The message names the option that helps.
    """
    if options.intensities:
        return _range_of_model(name, voxels, options.intensities)
    rule = resolve_rule(rules, options)
    if rule.window:
        if not find_window(options.windows, rules.modality):
            _require_hu(name, voxels, rules.modality, rule.window)
        return rule.window
    _require_few_negative(name, voxels, rules.modality)
    try:
        return percentile_range(voxels, rule.percentile, rule.percentile_of)
    except ValueError as error:
        raise BadCase(f"{name}: {error}; {_other_percentile(voxels, rules.modality, options)}") from error


def _range_of_model(name: str, voxels: Pixels, rule: IntensityRule) -> Range:
    if rule.window:
        return rule.window
    try:
        return percentile_range(voxels, rule.percentile, rule.percentile_of)
    except ValueError as error:
        raise BadCase(f"{name}: {error} by the rule of the model; check the file") from error


def remark_on_units(slices: Sequence[Pixels], rule: IntensityRule) -> tuple[str, ...]:
    """Return a remark if the intensities of an image do not have the units of the model's rule."""
    lowest = min(float(one.min()) for one in slices)
    if rule.window:
        return (OTHER_UNITS,) if rule.window[0] < 0 <= lowest else ()
    shown = [(one < 0).mean() for one in slices] if lowest < 0 else [0.0]
    return (NEGATIVE,) if float(np.mean(shown)) > MOST_NEGATIVE else ()


def advise_window(modality: str, window: Range) -> str:
    """Return the option that sets `window`, as a user types it: `--window CT=-160,240`."""
    low, high = (np.format_float_positional(end, trim="-") for end in window)
    option = f"{modality}={low},{high}"
    return f'--window "{option}"' if " " in modality else f"--window {option}"


def _require_hu(name: str, voxels: Pixels, modality: str, window: Range) -> None:
    lowest, highest = float(voxels.min()), float(voxels.max())
    sample = sample_voxels(voxels)
    is_scaled = (lowest > -FEWEST_HU and highest < FEWEST_HU) or voxels.dtype.itemsize == 1
    if lowest < 0 and not is_scaled and not _is_shifted(sample, lowest):
        return
    raise BadCase(
        f"{name}: its values run from {lowest:g} to {highest:g}, expected HU (air -1000, water 0); convert "
        f"it, or pass {_for_other_units(sample, modality, window)}; if it is HU nevertheless, pass "
        f"{advise_window(modality, window)}"
    )


def _is_shifted(sample: Pixels, lowest: float) -> bool:
    """Return whether soft tissue cannot be near 0 HU: nothing is as bright, or what is dark is as bright."""
    if lowest < BELOW_AIR and (sample > -500).mean() < LEAST_TISSUE:
        return True
    inside = sample[sample != lowest]  # the lowest value is often padding
    if not inside.size or (inside < -200).mean() >= LEAST_AIR:
        return False
    if (inside > 400).mean() > MOST_BONE:
        return True
    dense, other = (((inside > low) & (inside <= high)).mean() for low, high in ((700, 1300), (240, 700)))
    # Clipped air is one value; then nothing else shows that a small body is not bone.
    return bool(dense > max(LEAST_BODY, other)) and not CLIPPED_AIR[0] <= lowest <= CLIPPED_AIR[1]


def _for_other_units(sample: Pixels, modality: str, window: Range) -> str:
    """Return the window that shows the same as `window` (in HU) does, in the units of the image."""
    low, high = window
    tissue = sample > sample.min()  # the lowest value is often padding
    shown = [tissue & (sample >= water + low) & (sample <= water + high) for water in OFFSETS]
    best = int(np.argmax([one.sum() for one in shown]))
    if shown[best].mean() >= NEAR:
        water = OFFSETS[best]
        return f"{advise_window(modality, (water + low, water + high))}, if water is {water} in it"
    if 1 < sample.max() <= 255 and sample.min() >= 0:
        ends = 0.0, 255.0
    else:
        low, high = (float(end) for end in np.percentile(sample, (0.5, 99.5)))
        ends = round_outwards(low, high, symmetric=True)
    return f"{advise_window(modality, ends)}, the values that become black and white"


def _require_few_negative(name: str, voxels: Pixels, modality: str) -> None:
    if voxels.dtype.kind == "u" or (lowest := float(voxels.min())) >= 0:
        return
    sample = sample_voxels(voxels, 100_000)
    others = sample[sample != lowest]
    begins_as_air = _AIR_HU[0] <= lowest <= _AIR_HU[1]
    if begins_as_air and others.size and (others < -500).mean() > LEAST_AIR:
        raise _unnamed_ct(name, lowest, modality)
    values, counts = count_values(sample)
    low, high = (float(end) for end in np.percentile(sample, (0.5, 99.5)))
    near = NEAR * (high - low)
    background, n_background = float(values[counts.argmax()]), int(counts.max())
    window = advise_window(modality, round_outwards(low, high, symmetric=True))
    shown = others[np.abs(others - background) > near]
    # A background below 0 shows that 0 is in the middle of the values, as in -1..1; padding alone does not.
    is_below = background < -near and n_background > LEAST_BACKGROUND * sample.size
    share = float((shown < (0 if is_below else -near)).mean()) if shown.size else 0.0
    if share > (MOST_NEGATIVE_OF_TISSUE if is_below else MOST_NEGATIVE):
        if begins_as_air:
            raise _unnamed_ct(name, lowest, modality)
        raise BadCase(
            f"{name}: {share:.0%} of its voxels outside the background are below 0, expected almost none, "
            f"since 0 becomes black; pass {window}"
        )


def _unnamed_ct(name: str, lowest: float, modality: str) -> BadCase:
    return BadCase(
        f"{name}: its values begin at {lowest:g} like air in HU, and its modality is {modality}; "
        f"write CT as its modality if it is CT, or pass {advise_window(modality, CT_WINDOW)}"
    )


def _other_percentile(voxels: Pixels, modality: str, options: ReadOptions) -> str:
    """Return what to do about a percentile that is not above 0."""
    above = voxels[voxels > 0]
    if not above.size:
        return f"no voxel is above 0: replace the file, or pass --window {modality}=LOW,HIGH"
    window = round_outwards(0.0, float(np.percentile(above, 99.5)))
    first = "" if options.percentile_of == "foreground" else "--percentile-of foreground, "
    return f"pass {first}a higher --percentile, or {advise_window(modality, window)}"
