"""The plan of a run, made before anything is trained."""

import pytest

from flames_cli.errors import FlamesError
from flames_cli.stages.federate.planning import make_plan
from tests.support.stages import federate_config


def test_a_batch_too_small_for_batchnorm_is_an_error_before_training_with_the_users_numbers(tmp_path):
    small = {"model": "unet", "model_options": {"base_channels": 2, "depth": 4}, "batch_size": 1}
    facts = {"size": 16, "channels": 1}
    with pytest.raises(FlamesError, match=r"got --batch-size 1 with images of 16×16, of which .* needs 2"):
        make_plan(federate_config(tmp_path, **small), facts, None)
    assert make_plan(federate_config(tmp_path, **{**small, "batch_size": 2}), facts, None).smallest_batch == 2
    assert make_plan(federate_config(tmp_path, **small, norm="group"), facts, None).smallest_batch == 1
