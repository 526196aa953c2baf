import numpy as np
import pytest

from flames_cli.core.federated.reports import Entries, Report, State, find_fault, rejection_reason
from tests.support.asserts import assert_same
from tests.support.reports import make_model, make_report


@pytest.mark.parametrize(
    ("change", "n_examples", "reason"),
    [
        ({}, 0, "it reports 0 examples, expected more than 0"),
        ({}, -3, "it reports -3 examples, expected more than 0"),
        ({"conv.bias": np.ones(2)}, 1, "'conv.bias' is not in the model"),
        ({"norm.running_var": np.ones(1, np.float32)}, 1, "'norm.running_var' has shape (1,), expected (3,)"),
        (
            {"norm.num_batches_tracked": np.array(0.0)},
            1,
            "'norm.num_batches_tracked' is float64, expected int64",
        ),
        (
            {"conv.weight": np.full((2, 3), np.nan, np.float32)},
            1,
            "'conv.weight' contains values that are not finite",
        ),
        (
            {"conv.weight": np.full((2, 3), -np.inf, np.float32)},
            1,
            "'conv.weight' contains values that are not finite",
        ),
    ],
)
def test_a_bad_report_is_refused_with_its_reason(change, n_examples, reason):
    assert (
        rejection_reason(Report("breast", "US", {**make_model(1), **change}, n_examples), make_model(0))
        == reason
    )


def test_only_a_report_that_lacks_nothing_is_taken():
    assert rejection_reason(make_report("breast", 1), make_model(0)) is None
    assert rejection_reason(Report("breast", "US", {}, 1), make_model(0)) == "'conv.weight' is missing"


def test_a_client_without_a_personalised_model_starts_from_its_group():
    state = State(0, {"MRI": make_model(1)}, {"brain-1": make_model(2)})
    assert_same(state.model_for("brain-1", "MRI"), state.personal["brain-1"])
    assert state.model_for("brain-2", "MRI") is state.server["MRI"]


def test_a_client_starts_from_its_group_with_its_own_entries():
    own = {"norm.running_var": np.full(3, 9, np.float32)}
    state = State(0, {"all": make_model(1)}, {"breast": own})
    got = state.model_for("breast", "all")
    assert list(got) == list(make_model(1))
    assert_same(got, {**make_model(1), **own})
    assert_same(state.server["all"], make_model(1))


def test_of_an_unknown_model_every_float_is_a_parameter():
    entries = Entries.of(make_model(1))
    assert entries == Entries(frozenset({"conv.weight", "norm.running_var"}), frozenset())
    assert entries.shared_of(make_model(1)).keys() == make_model(1).keys()


def test_parameters_that_are_not_shared_are_not_counted():
    entries = Entries(
        frozenset({"conv.weight", "norm.running_var"}), frozenset(), frozenset({"norm.running_var", "x"})
    )
    assert list(entries.shared_of(make_model(1))) == ["norm.running_var"]
    assert list(entries.parameters_of(make_model(1))) == ["norm.running_var"]


def test_a_fault_is_a_difference_or_a_value_that_is_not_finite():
    assert find_fault(make_model(1), make_model(2)) is None
    assert find_fault({}, make_model(2)) == "'conv.weight' is missing"
    assert (
        find_fault(make_model(np.inf), make_model(2)) == "'conv.weight' contains values that are not finite"
    )
