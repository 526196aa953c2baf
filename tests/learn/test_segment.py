import numpy as np
import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset, iterate_batches
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.predict import MaskRule
from flames_cli.learn.segment import Ensemble, Segmenter
from tests.support.datasets import draw_discs
from tests.support.masks import predict_masks

OPTIONS = {"base_channels": 4, "depth": 2}
CPU = torch.device("cpu")


@pytest.fixture
def dataset():
    return ShardDataset([draw_discs(5)])


def make(seed):
    return build_model("unet", seed=seed, **OPTIONS)


def segmenter(batch_size=2, **options):
    return Segmenter(
        "unet", OPTIONS, options.get("device", "cpu"), options.get("precision", "fp32"), batch_size
    )


def test_masks_are_those_of_the_weights_given(dataset):
    ours = segmenter()
    for seed in (1, 2, 1):
        found = list(ours.masks(to_weights(make(seed)), dataset))
        np.testing.assert_array_equal(found, list(predict_masks(make(seed), dataset)))


def test_masks_follow_the_order_asked_for(dataset):
    weights = to_weights(make(1))
    every = list(segmenter().masks(weights, dataset))
    chosen = list(segmenter().masks(weights, dataset, [3, 0]))
    np.testing.assert_array_equal(chosen, [every[3], every[0]])


def test_masks_follow_the_rule_and_are_those_of_the_probabilities(dataset):
    weights = to_weights(make(1))
    for tta in ("none", "flips"):
        found = list(segmenter().probabilities(weights, dataset, [3, 0], tta))
        assert found[0].shape == dataset.example(0)[1].shape
        assert found[0].dtype == np.float32
        middle = float(np.median(found))
        masks = list(segmenter().masks(weights, dataset, [3, 0], MaskRule(middle, tta)))
        np.testing.assert_array_equal(masks, np.array(found) > middle)
        assert 0 < np.mean(masks) < 1


def test_features_are_the_bottleneck_averaged_over_its_pixels(dataset):
    model = make(1).eval()
    found = segmenter().features(to_weights(model), dataset, [4, 0, 2])
    assert found.shape == (3, 16)
    assert found.dtype == np.float32
    ((images, _),) = iterate_batches(dataset, [4, 0, 2], 3)
    with torch.no_grad():
        np.testing.assert_allclose(found, model.bottleneck(images).mean((2, 3)).numpy(), rtol=1e-5, atol=1e-6)


def test_colour_images_are_segmented_and_embedded():
    dataset, options = ShardDataset([draw_discs(3, channels=3)]), {**OPTIONS, "in_channels": 3}
    model = build_model("unet", seed=1, **options).eval()
    colour = Segmenter("unet", options, "cpu", "fp32", 2)
    masks = list(colour.masks(to_weights(model), dataset))
    np.testing.assert_array_equal(masks, list(predict_masks(model, dataset)))
    assert masks[0].shape == (16, 16)
    assert colour.features(to_weights(model), dataset, range(3)).shape == (3, 16)


def test_images_of_other_channels_than_the_models_are_rejected():
    with pytest.raises(FlamesError, match=r"\(2, 3, 16, 16\), expected B×1×H×W"):
        list(segmenter().masks(to_weights(make(1)), ShardDataset([draw_discs(3, channels=3)])))


def test_the_batch_size_does_not_change_features(dataset):
    weights = to_weights(make(1))
    one, other = (segmenter(size).features(weights, dataset, range(5)) for size in (1, 64))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_weights_do_not_change_when_they_are_used(dataset):
    weights = to_weights(make(1))
    before = {name: array.copy() for name, array in weights.items()}
    segmenter().features(weights, dataset, [0])
    list(segmenter().masks(weights, dataset))
    for name, array in before.items():
        np.testing.assert_array_equal(weights[name], array)


def test_weights_of_another_model_are_rejected(dataset):
    other = to_weights(build_model("unet", seed=1, base_channels=8, depth=2))
    with pytest.raises(FlamesError, match="weights do not fit the model"):
        list(segmenter().masks(other, dataset))


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"precision": "fp8"}])
def test_an_unknown_device_or_precision_is_rejected(options):
    with pytest.raises(FlamesError, match="unknown"):
        segmenter(**options)


def test_the_callers_random_state_does_not_change():
    before = torch.get_rng_state()
    segmenter()
    assert torch.equal(torch.get_rng_state(), before)


def test_iterators_of_one_segmenter_that_are_read_in_turn_have_their_own_weights(dataset):
    shared, weights = segmenter(), [to_weights(make(seed)) for seed in (1, 2)]
    alone = [list(segmenter().probabilities(one, dataset)) for one in weights]
    assert not np.array_equal(*alone)
    both = zip(*(shared.probabilities(one, dataset) for one in weights), strict=True)
    np.testing.assert_array_equal(list(both), list(zip(*alone, strict=True)))
    mean = np.mean(alone, axis=0, dtype=np.float64).astype(np.float32)
    ensemble = Ensemble([(shared, one) for one in weights])
    np.testing.assert_array_equal(list(ensemble.probabilities({}, dataset)), mean)


def test_features_between_two_batches_leave_the_probabilities_as_they_are(dataset):
    shared, weights, other = segmenter(), to_weights(make(1)), to_weights(make(2))
    alone = list(segmenter().probabilities(weights, dataset))
    found = shared.probabilities(weights, dataset)
    first = next(found)
    shared.features(other, dataset, [0])
    np.testing.assert_array_equal([first, *found], alone)
