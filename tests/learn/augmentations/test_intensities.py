import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.learn.augmentations import AUGMENTATIONS, SUMMARIES
from flames_cli.learn.augmentations import intensities as built_in
from flames_cli.learn.augmentations.intensities import CHANGED, FIELD_DEGREE, GAMMA, NOISE

ALL = pytest.mark.parametrize("name", list(SUMMARIES))


def image_of(size=24, channels=1, seed=0):
    return np.random.default_rng(seed).random((channels, size, size), np.float32)


def always(name):
    """The change alone, without the draw that decides whether there is one."""
    return AUGMENTATIONS[name].__wrapped__


def test_every_built_in_augmentation_has_a_summary():
    assert list(SUMMARIES) == list(AUGMENTATIONS.builtin)


@ALL
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 3]),
    st.sampled_from([(1, 1), (2, 3), (17, 16)]),
    st.sampled_from([0.0, 1.0, None]),
)
def test_images_keep_shape_type_and_range_and_draws_are_by_the_generator_alone(
    name, seed, channels, shape, value
):
    image = np.full((channels, *shape), value, np.float32) if value is not None else None
    image = np.random.default_rng(seed).random((channels, *shape), np.float32) if image is None else image
    before = image.copy()
    first, again = (AUGMENTATIONS[name](image, np.random.default_rng(seed)) for _ in range(2))
    assert first.dtype == np.float32
    assert first.shape == image.shape
    assert 0 <= first.min() <= first.max() <= 1
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)


@ALL
def test_some_images_change_and_the_others_are_the_same_bytes(name):
    image = image_of()
    changed = [
        not np.array_equal(AUGMENTATIONS[name](image, np.random.default_rng(seed)), image)
        for seed in range(400)
    ]
    assert np.mean(changed) == pytest.approx(CHANGED, abs=0.08)


@ALL
def test_channels_of_a_colour_image_change_alike_but_for_noise(name):
    grey = image_of()
    colour = np.repeat(grey, 3, axis=0)
    found = always(name)(colour, np.random.default_rng(5))
    same = np.array_equal(found[0], found[1]) and np.array_equal(found[1], found[2])
    assert same == (name != "noise")
    if name != "noise":
        np.testing.assert_allclose(found[:1], always(name)(grey, np.random.default_rng(5)), atol=1e-6)


def test_gamma_is_as_often_below_one_as_above_and_within_its_limits():
    half = np.full((1, 1, 1), 0.5, np.float32)
    rng = np.random.default_rng(0)
    drawn = [np.log(always("gamma")(half, rng).item()) / np.log(0.5) for _ in range(300)]
    assert min(drawn) == pytest.approx(1 / GAMMA, abs=0.02)
    assert max(drawn) == pytest.approx(GAMMA, abs=0.02)
    assert np.mean(np.array(drawn) > 1) == pytest.approx(0.5, abs=0.08)


def test_blur_keeps_the_mean_and_takes_away_detail():
    image = image_of(64)
    found = always("blur")(image, np.random.default_rng(1))
    assert found.std() < 0.9 * image.std()
    assert found.mean() == pytest.approx(image.mean(), abs=0.01)


def test_noise_has_a_mean_of_zero_and_at_most_its_strength():
    grey = np.full((1, 64, 64), 0.5, np.float32)
    found = [always("noise")(grey, np.random.default_rng(seed)) - 0.5 for seed in range(40)]
    deviations = [one.std() for one in found]
    assert max(deviations) < 1.1 * NOISE
    assert max(deviations) > 2 * min(deviations)
    assert max(abs(one.mean()) for one in found) < 0.005


def test_a_bias_field_is_the_exponential_of_a_low_polynomial():
    ones = np.ones((1, 32, 32), np.float32)
    field = np.log(always("bias-field")(ones, np.random.default_rng(3)))[0].astype(float)
    along = np.linspace(-1, 1, 32)
    rows, columns = np.meshgrid(along, along, indexing="ij")
    powers = [(i, j) for i in range(4) for j in range(4) if i + j <= FIELD_DEGREE]
    terms = np.stack([rows**i * columns**j for i, j in powers], axis=-1).reshape(-1, len(powers))
    fitted, *_ = np.linalg.lstsq(terms, field.ravel(), rcond=None)
    np.testing.assert_allclose(terms @ fitted, field.ravel(), atol=1e-5)
    assert field.std() > 0.02


def test_the_strengths_that_summaries_state_are_those_of_the_code():
    assert SUMMARIES["gamma"].endswith(f"{1 / GAMMA:.2f} to {GAMMA:g}")
    low, high = built_in.BLUR_PIXELS
    assert f"{low:g} to {high:g} pixels" in SUMMARIES["blur"]
    assert f"{100 * NOISE:g} %" in SUMMARIES["noise"]
