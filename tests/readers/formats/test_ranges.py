"""Ranges of volumes that other programs have scaled, and of CT that is not in HU."""

import numpy as np
import pytest

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase, ReadOptions, VolumeRules
from flames_cli.readers.formats.ranges import (
    CT_WINDOW,
    advise_window,
    choose_range,
    find_window,
    is_ct,
    resolve_rule,
)

SHAPE = (24, 24, 10)
BODY = np.s_[4:20, 4:20, :]


def noise(mean, sd, shape=SHAPE):
    return derive_rng(0, "ranges", mean, sd).normal(mean, sd, shape)


def ct():
    """Return a body of 40 HU, with some bone, in air."""
    volume = noise(-1000, 10)
    volume[BODY] = noise(40, 20)[BODY]
    volume[5:7, 5:7] = 900
    return np.rint(volume).astype(np.int16)


def mri():
    """Return a head in a background of 0."""
    volume = np.zeros(SHAPE)
    volume[BODY] = noise(400, 100)[BODY]
    return np.rint(np.clip(volume, 0, None)).astype(np.int16)


def zscore(volume):
    inside = volume > 0
    return np.where(inside, (volume - volume[inside].mean()) / volume[inside].std(), 0).astype(np.float32)


def choose(volume, modality="MRI", window=None, **options):
    return choose_range("a.nii", volume, VolumeRules(modality, window), ReadOptions(**options))


RULES = {
    "the user's window": ("MRI", None, {"windows": {"MRI": (1.0, 5.0)}}, IntensityRule((1.0, 5.0))),
    "the user's, not the data set's": (
        "CT",
        (-9.0, 9.0),
        {"windows": {"CT": (1.0, 5.0)}},
        IntensityRule((1.0, 5.0)),
    ),
    "the data set's": ("CT", (-200.0, 200.0), {}, IntensityRule((-200.0, 200.0))),
    "that of CT": ("CT-CE", None, {}, IntensityRule(CT_WINDOW)),
    "a percentile of all": ("MRI", None, {"percentile": 99.0}, IntensityRule(None, 99.0, "all")),
    "of the foreground": (
        "MRI",
        None,
        {"percentile_of": "foreground"},
        IntensityRule(None, 95.0, "foreground"),
    ),
    "a percentile that no window needs": ("CT", None, {"percentile": 99.0}, IntensityRule(CT_WINDOW)),
}


@pytest.mark.parametrize("name", RULES)
def test_the_stored_rule_gives_the_range_that_is_chosen(name):
    modality, window, options, expected = RULES[name]
    rule = resolve_rule(VolumeRules(modality, window), ReadOptions(**options))
    assert rule == expected
    volume = ct() if modality.startswith("CT") else np.abs(ct())
    by_rule = choose_range("a.nii", volume, VolumeRules("other"), ReadOptions(intensities=rule))
    assert choose(volume, modality, window, **options) == by_rule


@pytest.mark.parametrize("name", ["CT", "ct", "CT-CE", "CT contrast", "ct_portal", "CTA", "CTA neck", "CT2"])
def test_a_name_that_starts_with_ct_is_ct(name):
    assert is_ct(name)
    assert choose(ct(), name) == CT_WINDOW
    assert choose(ct(), name, windows={"CT": (-100.0, 100.0)}) == (-100.0, 100.0)
    assert choose(ct(), name, windows={"CT": (-100.0, 100.0), name: (0.0, 80.0)}) == (0.0, 80.0)


@pytest.mark.parametrize("name", ["PT", "PET-CT", "PET", "CTx", "MRI", "CECT", "US", "CTAB"])
def test_other_names_are_not_ct(name):
    assert not is_ct(name)
    assert find_window({"CT": (0.0, 1.0)}, name) is None


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda hu: np.clip(hu + 1024, 0, None), "--window CT=864,1264, if water is 1024"),
        (lambda hu: hu + 1024, "--window CT=864,1264"),
        (lambda hu: np.pad(np.clip(hu + 1024, 0, None), 3, constant_values=-2000), "--window CT=864,1264"),
        (lambda hu: hu.astype(np.int32) + 8192, "--window CT=8032,8432"),
        (lambda hu: (hu.astype(np.int32) + 32768).astype(np.uint16), "--window CT=32608,33008"),
        (lambda hu: np.rint((np.clip(hu, -160, 240) + 160) / 400 * 255), "--window CT=0,255"),
        (
            lambda hu: np.rint((np.clip(hu, -160, 240) + 160) / 400 * 65535).astype(np.uint16),
            "--window CT=0,",
        ),
        (lambda hu: (np.clip(hu, -160, 240) + 160) / 400, "--window CT=0,1,"),
        (lambda hu: np.clip(hu, -1000, 1000) / 1000, "--window CT=-1,1,"),
        (lambda hu: (hu - hu.mean()) / hu.std(), "--window CT="),
        (np.zeros_like, "--window CT="),
        (lambda hu: hu - 1024, "--window CT=-1184,-784, if water is -1024"),
        (lambda hu: np.pad(hu - 1024, 3, constant_values=-4048), "--window CT=-1184,-784"),
        (lambda hu: np.pad(hu, 6, constant_values=-1000) + 1024 + noise(0, 20, (36, 36, 22)), "=864,1264"),
        (lambda hu: np.pad(np.pad(hu, 6, constant_values=-1000) + 1024, 1, constant_values=-976), "=864,"),
        (lambda hu: np.rint((np.clip(hu, -160, 240) + 160) / 400 * 255 - 128).astype(np.int8), "CT="),
    ],
)
def test_ct_that_is_not_in_hu_is_bad_unless_the_user_gives_a_window(make, advice):
    volume = make(ct())
    with pytest.raises(BadCase, match=r"^a\.nii: its values run from .*, expected HU .*--window CT=") as info:
        choose(volume, "CT")
    assert advice in str(info.value)
    assert choose(volume, "CT", windows={"CT": (864.0, 1264.0)}) == (864.0, 1264.0)


def test_a_data_sets_own_window_is_moved_to_the_units_of_the_file():
    with pytest.raises(
        BadCase, match=r"--window CT=824,1224, if water is 1024 in it; if it is HU .* CT=-200,200$"
    ):
        choose(np.clip(ct() + 1024, 0, None), "CT", (-200.0, 200.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda hu: hu,
        lambda hu: hu[BODY],
        lambda hu: np.clip(hu, -160, 240),
        lambda hu: np.where(hu > -500, hu, 0),
        lambda hu: np.pad(hu, 3, constant_values=-2000),
        lambda hu: hu.astype(np.float32),
        lambda hu: hu + noise(0, 200),
        lambda hu: np.pad(hu, 12, constant_values=-3024),
        lambda hu: np.where(hu > -500, hu * 1.5 + 100, -1024),
        lambda hu: np.where(hu > -500, -850, hu),
    ],
)
def test_ct_in_hu_is_accepted_cropped_clipped_masked_or_padded(make):
    assert choose(make(ct()), "CT") == CT_WINDOW


def test_ct_of_sixteen_bits_without_a_sign_is_advised_in_its_own_modalitys_name():
    with pytest.raises(BadCase, match=r'pass --window "CT contrast=864,1264"'):
        choose(np.clip(ct() + 1024, 0, None).astype(np.uint16), "CT contrast")


@pytest.mark.parametrize(
    ("volume", "advice"),
    [
        (zscore(mri()), r"pass --window MRI=-[34],[34]$"),
        (zscore(mri())[BODY], r"pass --window MRI=-[34],[34]$"),
        (mri() / mri().max() * 2 - 1, r"pass --window MRI=-1,1$"),
        ((noise(0, 1) * 100).astype(np.int16), r"pass --window MRI=-\d+,\d+$"),
    ],
)
def test_a_volume_of_which_much_is_below_0_is_bad_unless_the_user_gives_a_window(volume, advice):
    with pytest.raises(
        BadCase, match=r"^a\.nii: \d+% of its voxels outside the background are below 0"
    ) as info:
        choose(volume)
    assert info.match(advice)
    assert choose(volume, windows={"MRI": (-3.0, 3.0)}) == (-3.0, 3.0)


def test_a_background_below_0_makes_a_few_dark_voxels_count():
    volume = mri()
    zero = np.quantile(volume[volume > 0], 0.05)
    scaled = np.where(volume > 0, (volume - zero) / (volume.max() - zero), -1.0)
    body = scaled[volume > 0]
    assert 0.02 < (body < 0).mean() < 0.1
    with pytest.raises(BadCase, match=r"outside the background are below 0.*--window MRI=-1,1$"):
        choose(scaled)


def test_ct_under_a_name_that_is_not_cts_is_bad():
    with pytest.raises(BadCase, match=r"air in HU, and its modality is CECT; .*--window CECT=-160,240$"):
        choose(ct(), "CECT")
    clipped = np.where(ct() < -200, -1024, ct() - 100)
    with pytest.raises(BadCase, match=r"begin at -1024 like air in HU, .*--window CBCT=-160,240$"):
        choose(clipped, "CBCT")


@pytest.mark.parametrize(
    "volume",
    [
        mri(),
        mri() + np.where(mri() == 0, noise(0, 10), 0),
        np.pad(mri(), 4, constant_values=-1),
        np.pad(mri() / 1000, 2, constant_values=-1),
    ],
    ids=["as it is", "noise around 0", "padding", "padding of 0..1"],
)
def test_a_few_values_below_0_are_accepted(volume):
    assert choose(volume) == (0.0, pytest.approx(np.percentile(volume, 95)))


def test_the_percentile_of_the_foreground_ignores_the_background():
    volume = mri()
    for stored in (volume, volume.astype(np.float32)):
        high = choose(stored, percentile_of="foreground", percentile=90.0)[1]
        assert high == pytest.approx(np.percentile(volume[volume > 0], 90))
    assert high > choose(volume, percentile=90.0)[1]


def test_a_volume_that_is_nearly_all_background_is_bad_with_a_remedy():
    volume = np.pad(mri(), ((40, 40), (40, 40), (0, 0)))
    with pytest.raises(BadCase, match=r"expected above 0; pass --percentile-of foreground, a higher") as info:
        choose(volume)
    assert info.match(r"or --window MRI=0,\d+$")
    assert choose(volume, percentile_of="foreground")[1] > 0


def test_a_black_image_is_bad_without_a_promise():
    with pytest.raises(
        BadCase, match=r"no voxel is above 0: replace the file, or pass --window MRI=LOW,HIGH"
    ):
        choose(np.zeros(SHAPE, np.int16), percentile_of="foreground")


def test_a_window_is_written_as_a_user_types_it():
    assert advise_window("CT", (-160.0, 240.0)) == "--window CT=-160,240"
    assert advise_window("PET", (0.0, 12.5)) == "--window PET=0,12.5"
    assert advise_window("CT CE", (0.0, 40000000.0)) == '--window "CT CE=0,40000000"'
