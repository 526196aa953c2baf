import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import surface_distance as deepmind
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from flames_cli.core.scores.surfaces import SurfaceDistances, surface_dice, surface_distances

GOLDEN = json.loads((Path(__file__).parent / "golden" / "monai.json").read_text("utf-8"))
SPACINGS = {2: (0.7, 1.3), 3: (4.0, 0.7, 1.3)}


def shapes(n_axes, largest):
    return hnp.array_shapes(min_dims=n_axes, max_dims=n_axes, min_side=1, max_side=largest)


PAIRS = st.sampled_from([(2, 9), (3, 5)]).flatmap(
    lambda kind: shapes(*kind).flatmap(
        lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
    )
)
BOTH_FILLED = PAIRS.filter(lambda pair: pair[0].any() and pair[1].any())


def blobs(shape, seed):
    """Draw two smooth masks that overlap in part."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    level = np.quantile(noise, 0.85)
    return noise > level, np.roll(noise, 2, axis=-1) > level * 1.1


def unpack(bits, shape):
    flat = np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=math.prod(shape))
    return flat.astype(bool).reshape(shape)


def by_deepmind(pred, target, spacing):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it uses an old name of scipy
        return deepmind.compute_surface_distances(target, pred, spacing)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{len(case['shape'])}D")
def test_distances_and_surface_dice_are_those_of_monai(case):
    pred, target = (unpack(case[name], case["shape"]) for name in ("pred", "target"))
    found = surface_distances(pred, target, case["spacing"])
    assert found.hd95 == pytest.approx(case["hd95"], rel=1e-6)  # theirs is float32
    assert found.assd == pytest.approx(case["assd"], rel=1e-6)
    nsd = surface_dice(pred, target, case["spacing"], case["tolerance"])
    assert nsd == pytest.approx(case["nsd"], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(40, 50), (12, 30, 36)])
def test_surface_dice_is_that_of_deepmind(shape, seed):
    pred, target = blobs(shape, seed)
    spacing = SPACINGS[len(shape)]
    theirs = by_deepmind(pred, target, spacing)
    for tolerance in (0.5, 1.5, 4.0):
        expected = deepmind.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert surface_dice(pred, target, spacing, tolerance) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(40, 50), (12, 30, 36)])
def test_distances_are_within_a_voxel_of_those_of_deepmind(shape, seed):
    # Their surfaces pass between voxels and count by area, ours are the outermost voxels.
    pred, target = blobs(shape, seed)
    spacing = (1.0,) * len(shape)
    theirs = by_deepmind(pred, target, spacing)
    found, voxel = surface_distances(pred, target, spacing), math.sqrt(len(shape))
    assert found.hd95 == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 95), abs=voxel)
    assert found.assd == pytest.approx(
        np.mean(deepmind.compute_average_surface_distance(theirs)), abs=voxel / 2
    )


def test_distances_by_hand():
    pred, target = np.zeros((2, 6, 6), bool), np.zeros((2, 6, 6), bool)
    pred[0, 3, 1] = target[1, 3, 4] = True
    # One voxel each, 3 columns of 0.5 mm and one slice of 2 mm apart.
    expected = math.hypot(3 * 0.5, 2.0)
    found = surface_distances(pred, target, (2.0, 1.0, 0.5))
    assert found == SurfaceDistances(pytest.approx(expected), pytest.approx(expected))


def test_surface_dice_by_hand():
    target = np.zeros((12, 20), bool)
    target[1:11, 3:13] = True
    pred = np.roll(target, 2, axis=1)  # by 2 columns of 0.5 mm: left and right sides are 1 mm apart
    assert surface_dice(pred, target, (1.0, 0.5), 1.01) == 1.0
    assert surface_dice(pred, target, (1.0, 0.5), 0.0) == pytest.approx(
        2 * 8 * 0.5 / (2 * 10 + 2 * 10 * 0.5), abs=0.05
    )


def test_the_largest_twentieth_of_the_distances_is_left_out_of_hd95():
    target = np.zeros((30, 30), bool)
    target[5:20, 5:20] = True
    pred = target.copy()
    pred[28, 28] = True
    found = surface_distances(pred, target, (1.0, 1.0))
    assert found.hd95 == 0.0
    assert found.assd > 0.05


@settings(max_examples=25)
@given(BOTH_FILLED)
def test_scores_are_symmetric(pair):
    spacing = SPACINGS[pair[0].ndim]
    forth, back = surface_distances(*pair, spacing), surface_distances(*pair[::-1], spacing)
    assert forth.hd95 == back.hd95
    assert forth.assd == pytest.approx(back.assd)
    assert surface_dice(*pair, spacing, 1.0) == pytest.approx(
        surface_dice(*pair[::-1], spacing, 1.0), abs=1e-6
    )


@settings(max_examples=25)
@given(PAIRS)
def test_a_mask_agrees_with_itself(pair):
    spacing = SPACINGS[pair[0].ndim]
    assert surface_distances(pair[0], pair[0], spacing) == SurfaceDistances(0.0, 0.0)
    assert surface_dice(pair[0], pair[0], spacing, 0.0) == 1.0


@settings(max_examples=25)
@given(BOTH_FILLED, st.sampled_from([0.25, 2.0, 8.0]))
def test_distances_have_the_unit_of_the_spacing(pair, scale):
    spacing = SPACINGS[pair[0].ndim]
    scaled = [scale * length for length in spacing]
    one, other = surface_distances(*pair, spacing), surface_distances(*pair, scaled)
    assert other.hd95 == pytest.approx(scale * one.hd95, rel=1e-6)
    assert other.assd == pytest.approx(scale * one.assd, rel=1e-6)
    assert one.scaled(scale).hd95 == pytest.approx(other.hd95, rel=1e-6)
    assert surface_dice(*pair, scaled, 1.01 * scale) == pytest.approx(
        surface_dice(*pair, spacing, 1.01), abs=1e-5
    )


@pytest.mark.parametrize("shape", [(5, 5), (3, 5, 5)])
def test_empty_masks_have_defined_scores(shape):
    empty, full, spacing = np.zeros(shape, bool), np.ones(shape, bool), SPACINGS[len(shape)]
    for pair in ((empty, full), (full, empty)):
        assert surface_distances(*pair, spacing) == SurfaceDistances(math.inf, math.inf)
        assert surface_dice(*pair, spacing, 100.0) == 0.0
    assert surface_distances(empty, empty, spacing) == SurfaceDistances(0.0, 0.0)
    assert surface_dice(empty, empty, spacing, 0.0) == 1.0


FULL = np.ones((4, 4), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surface_distances(FULL, FULL[:3], (1, 1)), "expected two H×W or D×H×W masks of one shape"),
        (lambda: surface_distances(FULL[0], FULL[0], (1,)), "expected two H×W or D×H×W masks"),
        (lambda: surface_dice(FULL * 2, FULL, (1, 1), 1), "got the value 2 in the prediction"),
        (lambda: surface_dice(FULL, FULL, (1, 1, 1), 1), "masks with 2 axes, expected a positive number"),
        (lambda: surface_distances(FULL, FULL, (1, 0)), "expected a positive number for each axis"),
        (lambda: surface_distances(FULL, FULL, (1, math.nan)), "expected a positive number for each axis"),
        (lambda: surface_dice(FULL, FULL, (1, 1), -1), "got a tolerance of -1"),
        (lambda: surface_dice(FULL, FULL, (1, 1), math.inf), "got a tolerance of inf"),
    ],
)
def test_wrong_input_is_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
