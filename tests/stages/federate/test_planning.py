"""The plan of a run, made before anything is trained."""

import pytest

from flames_cli.errors import FlamesError
from flames_cli.plugins import use_files
from flames_cli.stages.federate.planning import make_plan
from tests.support.plugins import make_site
from tests.support.stages import federate_config

__all__ = ["make_site"]


def test_a_batch_too_small_for_batchnorm_is_an_error_before_training_with_the_users_numbers(tmp_path):
    small = {"model": "unet", "model_options": {"base_channels": 2, "depth": 4}, "batch_size": 1}
    facts = {"size": 16, "channels": 1}
    with pytest.raises(FlamesError, match=r"got --batch-size 1 with images of 16×16, of which .* needs 2"):
        make_plan(federate_config(tmp_path, **small), facts, None)
    assert make_plan(federate_config(tmp_path, **{**small, "batch_size": 2}), facts, None).smallest_batch == 2
    assert make_plan(federate_config(tmp_path, **small, norm="group"), facts, None).smallest_batch == 1


PLUGINS = """
from torch import nn

def squares(probabilities, masks):
    return ((probabilities - masks) ** 2).mean()

def pair(in_channels):
    return nn.Conv2d(in_channels, 2, 3, padding=1)

def good(in_channels):
    return nn.Conv2d(in_channels, 1, 3, padding=1)

LOSSES = {"squares": squares, "number": lambda probabilities, masks: 3.0}
MODELS = {"pair": pair, "good": good}
AUGMENTATIONS = {"half": lambda image, rng: image[:, ::2]}
"""


@pytest.fixture
def plugins(site, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGINS)
    use_files([tmp_path / "mine.py"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": "pair"},
            r"model 'pair' of the plug-in mine.py sha256:\w+ maps images .* to 2×2×16×16, exp",
        ),
        ({"loss": "number"}, r"loss 'number' of the plug-in mine.py sha256:\w+ returns float, expected"),
        ({"augmentations": ["half"]}, "augmentation 'half' of .* returns float32 of shape 1×8×16, expected"),
        (
            {"loss": "squares", "model": "sdnet", "model_options": {"depth": 2, "base_channels": 2}},
            "model sdnet rebuilds its images and has its own loss for that, got --loss squares; leave --loss",
        ),
        ({"loss": "squares", "dice_weight": 0.5}, "--dice-weight 0.5 is an option of --loss dice-focal, got"),
        ({"loss": "squares", "per_pixel_focal": True}, "--per-pixel-focal is an option of --loss dice-focal"),
        (
            {"model": "good", "norm": "group"},
            "--norm group replaces the BatchNorm .* this one has no BatchNorm",
        ),
    ],
)
def test_what_a_plug_in_gives_is_checked_before_training(options, message, tmp_path, plugins):
    config = federate_config(tmp_path, **{"model": "unet", "model_options": {}, **options})
    with pytest.raises(FlamesError, match=message):
        make_plan(config, {"size": 16, "channels": 1}, None)


def test_a_model_and_a_loss_of_a_plug_in_have_a_plan(tmp_path, plugins):
    config = federate_config(tmp_path, model="good", model_options={}, loss="squares")
    plan = make_plan(config, {"size": 16, "channels": 3}, None)
    assert plan.training.loss == "squares"
    assert list(plan.initial) == ["weight", "bias"]
    assert plan.entries.trainable == {"weight", "bias"}
