from dataclasses import replace

import pytest

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import LastReport, State
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


class Part:
    """A part of a plug-in, which states nothing about itself."""


def test_parts_of_a_plug_in_get_the_safe_answers():
    blending = replace(PLAIN, blend=Part)
    no = ("takes_one_mean", "averages", "clients_choose", "needs_steps", "alone", "has_client_state")
    assert not any(getattr(blending, name) for name in no)
    updating = replace(PLAIN, local_update=Part)
    assert updating.takes_one_mean
    assert not any(getattr(updating, name) for name in ("has_client_state", "clients_correct_gradients"))
    grouped = replace(PLAIN, groups=lambda client, modality: modality)
    assert grouped.clients_share_models
    assert not any(getattr(grouped, name) for name in ("has_one_model", "alone"))


def test_parts_of_a_plug_in_state_what_they_need():
    assert replace(PLAIN, local_update=type("Own", (), {"keeps_state": True})).has_client_state
    assert replace(PLAIN, blend=type("Own", (), {"needs_steps": True})).needs_steps


@pytest.mark.parametrize("aggregation", ["median", "krum"])
def test_a_plug_ins_blend_takes_no_robust_mean(aggregation):
    with pytest.raises(FlamesError, match="replaces a plain mean, and this strategy takes none"):
        replace(PLAIN, blend=Part, aggregation=aggregation)


@pytest.mark.parametrize("name", ["PET/CT", "site 1", "A-b_c.d+e", "x" * 64])
def test_a_function_names_the_groups(name):
    grouped = replace(PLAIN, groups=lambda client, modality: modality if modality == name else name)
    assert grouped.model_group_of("a", "PET/CT" if name == "PET/CT" else "MRI") == name


@pytest.mark.parametrize("name", ["", "all", "../up", "a/b", "x" * 65, "ä", None, 3, "\n"])
def test_a_name_that_is_no_model_group_is_rejected(name):
    grouped = replace(PLAIN, groups=lambda client, modality: name, plugin="strategy 'mine' of pack 1.0")
    with pytest.raises(FlamesError, match=r"strategy 'mine' of pack 1\.0: its groups give .* for client 'a'"):
        grouped.model_group_of("a", "MRI")


def test_a_function_that_fails_is_named():
    grouped = replace(PLAIN, groups=lambda client, modality: {}[client])
    with pytest.raises(
        FlamesError, match=r"its groups fail for client 'a' of modality MRI \(KeyError: 'a'\)"
    ):
        grouped.model_group_of("a", "MRI")


def test_pooled_clients_have_groups_by_name():
    with pytest.raises(FlamesError, match="pools the clients of model groups that a function gives"):
        replace(PLAIN, pooled=True, groups=lambda client, modality: modality)


def test_groups_that_change_are_an_error():
    names = iter("abc")
    grouped = replace(PLAIN, groups=lambda *_: next(names), plugin="strategy 'mine' of pack 1.0")
    with pytest.raises(
        FlamesError, match="its groups give 'a' and then 'b' for client 'c1', expected always"
    ):
        grouped.model_group_of("c1", "US")


def test_a_client_stays_in_the_group_in_which_it_trained():
    """A model of another group would be evaluated and trained, without a word."""
    state = State(1, {"a": {}, "b": {}}, clients={"c1": LastReport("a", 1)})
    grouped = replace(PLAIN, groups=lambda *_: "b", plugin="strategy 'mine' of pack 2.0")
    with pytest.raises(FlamesError, match=r"pack 2\.0: its groups give 'a' and then 'b' for client 'c1'"):
        state.group_of("c1", "US", grouped)
    assert state.group_of("c2", "US", grouped) == "b"
