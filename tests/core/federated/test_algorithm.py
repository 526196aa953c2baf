from dataclasses import replace

import pytest

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError

PLAIN = Algorithm(local_update="plain", groups="all", blend="mean")


@pytest.mark.parametrize(("groups", "group"), [("all", "all"), ("modality", "US"), ("none", "breast-1")])
def test_a_client_trains_the_model_of_its_group(groups, group):
    assert replace(PLAIN, groups=groups).model_group_of("breast-1", "US") == group


def test_steps_are_needed_where_they_weigh_or_normalise():
    assert replace(PLAIN, weight="steps").needs_steps
    assert replace(PLAIN, blend="fednova").needs_steps
    assert not PLAIN.needs_steps


@pytest.mark.parametrize("momentum", [-0.1, 1, 2, float("nan"), float("inf")])
def test_a_momentum_of_1_is_rejected(momentum):
    with pytest.raises(FlamesError, match=f"server momentum is {momentum}, expected 0 or more and below 1"):
        replace(PLAIN, server_momentum=momentum)


@pytest.mark.parametrize("lr", [0, -1, float("nan"), float("inf")])
def test_a_server_learning_rate_must_move_something(lr):
    with pytest.raises(FlamesError, match=f"server learning rate is {lr}, expected a number above 0"):
        replace(PLAIN, server_lr=lr)


@pytest.mark.parametrize("decay", [-0.1, 1, 2, float("nan"), float("inf")])
def test_a_decay_of_1_is_rejected(decay):
    with pytest.raises(FlamesError, match=f"ema is {decay}, expected 0 or more and below 1"):
        replace(PLAIN, ema=decay)


def test_adam_takes_no_second_momentum():
    with pytest.raises(FlamesError, match=r"server momentum is 0\.9 with a server that steps by Adam"):
        replace(PLAIN, server="adam", server_momentum=0.9)
