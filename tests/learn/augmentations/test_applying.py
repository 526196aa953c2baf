from dataclasses import replace

import numpy as np
import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn import batches
from flames_cli.learn.augmentations import AUGMENTATIONS
from flames_cli.learn.augmentations.applying import checked, make_change, probe_augmentations
from flames_cli.learn.batches import batches_on
from flames_cli.learn.data import ShardDataset, iterate_batches
from flames_cli.learn.models import build_model
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from flames_cli.plugins import use_files
from tests.support.asserts import assert_same
from tests.support.datasets import draw_discs
from tests.support.plugins import make_site

__all__ = ["make_site"]

CPU = torch.device("cpu")
NAMES = ("gamma", "noise")
ROUND = LocalRound(seed=3, round=2, client="a", options=TrainOptions(augmentations=NAMES, batch_size=4))


@pytest.fixture
def cases():
    return ShardDataset([draw_discs(8)])


def images_of(cases, local, epoch=1, order=range(8), **options):
    found = iterate_batches(cases, order, 4, change=make_change(local, epoch), **options)
    images, masks = zip(*found, strict=True)
    return torch.cat(images), torch.cat(masks)


def test_without_augmentations_there_is_no_change():
    assert make_change(replace(ROUND, options=TrainOptions()), 1) is None


def test_images_change_and_masks_do_not(cases):
    plain, masks = zip(*iterate_batches(cases, range(8), 4), strict=True)
    images, same = images_of(cases, ROUND)
    assert torch.equal(torch.cat(masks), same)
    differ = [not torch.equal(one, other) for one, other in zip(images, torch.cat(plain), strict=True)]
    assert any(differ)
    assert -1 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize("workers", [1, 5])
def test_draws_depend_on_the_case_and_not_on_order_or_threads(workers, cases):
    images, _ = images_of(cases, ROUND)
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    shuffled, _ = images_of(cases, ROUND, order=order, workers=workers)
    assert torch.equal(shuffled, images[order])


@pytest.mark.parametrize(
    "other", [{"seed": 4}, {"round": 3}, {"client": "b"}], ids=["seed", "round", "client"]
)
def test_another_place_in_the_run_has_other_draws(other, cases):
    images, _ = images_of(cases, ROUND)
    assert not torch.equal(images_of(cases, replace(ROUND, **other))[0], images)
    assert not torch.equal(images_of(cases, ROUND, epoch=2)[0], images)


def test_another_augmentation_leaves_the_draws_of_the_first_as_they_are(cases):
    def only(*names):
        return replace(ROUND, options=replace(ROUND.options, augmentations=names))

    gamma, _ = images_of(cases, only("gamma"))
    both, _ = images_of(cases, only("gamma", "blur"))
    sharp = [index for index in range(8) if torch.equal(gamma[index], both[index])]
    assert 0 < len(sharp) < 8  # blur changes about a third of the images


def test_a_gpu_gets_the_images_of_the_cpu_and_not_those_of_its_own_memory(cases, monkeypatch):
    monkeypatch.setattr(batches, "is_async", lambda _device: True)
    monkeypatch.setattr(batches.SHARDS, "find", lambda *_: pytest.fail("it took the shard of the device"))
    ((images, _),) = batches_on(CPU, "fp32", cases, range(8), 8, change=make_change(ROUND, 1))
    assert torch.equal(images, images_of(cases, ROUND)[0])


def test_training_differs_with_augmentations_and_is_the_same_again(cases):
    def train(names):
        options = TrainOptions(local_epochs=1, batch_size=4, lr=1e-2, augmentations=names, precise_norm=False)
        model = build_model("unet", seed=1, base_channels=2, depth=1)
        local = replace(ROUND, options=options)
        return train_epochs(model, cases, ShardDataset([]), local, CPU, "fp32").weights

    assert_same(train(NAMES), train(NAMES))
    assert not np.array_equal(train(NAMES)["head.weight"], train(())["head.weight"])


GOOD = np.full((3, 4, 5), 0.5, np.float32)
WHO = "augmentation 'x' of the plug-in some 1.0"
FAULTS = {
    "another shape": (lambda image, rng: image[:, :2], "returns float32 of shape 3×2×5, expected floats"),
    "integers": (lambda image, rng: image.astype(int), "returns int64 of shape 3×4×5"),
    "a list": (lambda image, rng: image.tolist(), "returns list, expected floats"),
    "a tensor": (lambda image, rng: torch.from_numpy(image), "returns Tensor, expected"),
    "nothing": (lambda image, rng: None, "returns NoneType"),
    "NaN": (lambda image, rng: image * np.nan, "returns values from nan to nan"),
    "one NaN": (
        lambda image, rng: np.where(image.cumsum().reshape(image.shape) == 0.5, np.nan, image),
        "values from nan",
    ),
    "too bright": (
        lambda image, rng: image * 3,
        r"returns values from 1.5 to 1.5, expected floats in \[0, 1\]",
    ),
    "an error": (lambda image, rng: 1 / 0, r"fails on an image of shape 3×4×5 \(ZeroDivisionError: division"),
    "no generator": (lambda image: image, r"fails .*TypeError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_image_of_a_plug_in_is_named_in_one_line(fault):
    augmentation, message = FAULTS[fault]
    with pytest.raises(FlamesError, match=message) as error:
        checked(augmentation, WHO)(GOOD, np.random.default_rng(0))
    assert str(error.value).startswith(WHO)
    assert "\n" not in str(error.value)


def test_rounding_outside_the_range_is_clipped_and_doubles_become_floats():
    found = checked(lambda image, rng: image.astype(float) * 2.0001, WHO)(GOOD, np.random.default_rng(0))
    assert found.dtype == np.float32
    assert found.max() == 1


def test_a_plug_in_that_changes_its_input_does_not_change_ours():
    def in_place(image, rng):
        image[:] = 0
        return image

    image = GOOD.copy()
    checked(in_place, WHO)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(image, GOOD)


PLUGINS = """
import numpy as np

def flip(image, rng):
    return 1 - image if rng.random() < 0.5 else image

def unsteady(image, rng):
    return np.clip(image + np.random.normal(size=image.shape).astype(np.float32), 0, 1)

AUGMENTATIONS = {"invert": flip, "unsteady": unsteady}
"""


def test_an_augmentation_of_a_file_is_used_and_probed(site, tmp_path, cases):
    (tmp_path / "mine.py").write_text(PLUGINS)
    use_files([tmp_path / "mine.py"])
    assert AUGMENTATIONS.summary("invert").startswith("plug-in of mine.py sha256:")
    probe_augmentations(("gamma", "invert"), 16, 3)
    local = replace(ROUND, options=replace(ROUND.options, augmentations=("invert",)))
    plain = torch.cat([images for images, _ in iterate_batches(cases, range(8), 4)])
    found, _ = images_of(cases, local)
    inverted = [torch.allclose(one, -other, atol=1e-6) for one, other in zip(found, plain, strict=True)]
    assert 0 < sum(inverted) < 8
    with pytest.raises(FlamesError, match=r"'unsteady' of the plug-in mine.py .* two different images"):
        probe_augmentations(("unsteady",), 16, 1)
    with pytest.raises(FlamesError, match="augmentation 'gone' is not known"):
        probe_augmentations(("gone",), 16, 1)
