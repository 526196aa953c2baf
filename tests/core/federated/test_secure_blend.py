from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.federated.flames_blend import blend_flames
from flames_cli.core.federated.reports import Entries, LastReport, State
from flames_cli.core.federated.secure_blend import GroupSum, apply_sums, personalise, weigh, weighing_of
from flames_cli.core.federated.sum_layout import SumLayout
from flames_cli.fed.algorithms import get_algorithm

FLAMES, MEAN = get_algorithm("flames"), get_algorithm("fedavg-modality")


def model(seed):
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.normal(size=(3, 2)).astype(np.float32),
        "frozen.weight": np.full(4, 1 / 3, np.float32),
        "norm.running_var": np.array([0.0, rng.uniform(0, 2)], np.float32),
        "count": np.array(int(rng.integers(1000))),
    }


ENTRIES = Entries(
    trainable=frozenset({"conv.weight", "frozen.weight"}),
    norm=frozenset({"norm.running_var"}),
    variances=frozenset({"norm.running_var"}),
    frozen=frozenset({"frozen.weight"}),
)


def sum_of(models, factors, personal=True):
    """Return exact sums of the clients' vectors."""
    layout = SumLayout.of(models[0], personal, 0)
    vectors = [
        np.concatenate(
            [np.asarray(values, float) * scale for _, values, scale in layout.parts(one, factor, [])]
        )
        for one, factor in zip(models, factors, strict=True)
    ]
    total = np.sum(vectors, axis=0)
    return layout.read(lambda start, end: total[start:end], total)


def test_reports_that_are_equal_within_the_error_of_the_sum_keep_their_bits():
    own = {"w": np.array([1 / 3, 1 / 3], np.float32)}
    near = {"w": 3 * own["w"].astype(np.float64) + [1e-11, 1e-3]}
    found = personalise(own, 1.0, GroupSum(near, 3.0, 3, 1e-11))
    assert found["w"][0] == own["w"][0]
    assert found["w"][1] != own["w"][1]


def state_with(*clients):
    return State(4, {"MRI": model(99)}, clients={name: LastReport("MRI") for name in clients})


@given(st.lists(st.integers(1, 2000), min_size=3, max_size=6), st.integers(0, 100))
def test_a_client_makes_the_model_that_a_server_with_all_reports_would_make(counts, seed):
    models = [model(seed + index) for index in range(len(counts))]
    names = tuple(f"c{index}" for index in range(len(counts)))
    factors = [weigh("inverse", n, 0, min(counts)) for n in counts]
    result = apply_sums(state_with(*names), {"MRI": (names, sum_of(models, factors))}, FLAMES, ENTRIES)
    (opened,) = result.state.sums
    expected, server = blend_flames(models, counts)
    for own, factor, plain in zip(models, factors, expected, strict=True):
        found = personalise(own, factor, GroupSum(opened.words, opened.total, len(counts), 1e-13))
        slack = 2.0**-22 * 5  # both models are rounded to float32
        for name, array in plain.items():
            assert found[name].dtype == array.dtype
            if name == "count":
                assert abs(int(found[name]) - int(array)) <= 1
            else:
                np.testing.assert_allclose(found[name], array, atol=slack, rtol=0)
        assert (found["norm.running_var"] >= 0).all()
        np.testing.assert_array_equal(found["frozen.weight"], own["frozen.weight"])
    for name in ("conv.weight", "norm.running_var"):
        np.testing.assert_allclose(result.state.server["MRI"][name], server[name], atol=1e-6)
    assert result.state.server["MRI"]["frozen.weight"].tobytes() == model(99)["frozen.weight"].tobytes()


def test_a_group_without_a_sum_keeps_its_model_and_the_sum_that_its_clients_need():
    before = state_with("a", "b", "c", "d")
    abc = {"MRI": (("a", "b", "c"), sum_of([model(1), model(2), model(3)], [1.0, 0.5, 0.25]))}
    first = apply_sums(before, abc, FLAMES, ENTRIES).state
    none = apply_sums(first, {}, FLAMES, ENTRIES)
    assert none.unchanged_groups == ("MRI",)
    assert none.state.server is not first.server
    assert none.state.server["MRI"] is first.server["MRI"]
    assert none.state.sums == first.sums
    assert (none.state.round, none.accepted) == (6, ())
    bcd = {"MRI": (("b", "c", "d"), sum_of([model(1), model(2), model(3)], [1.0, 0.5, 0.25]))}
    last = apply_sums(none.state, bcd, FLAMES, ENTRIES).state
    # a still makes its model from the sum of round 5, and nobody else does.
    assert [(one.round, one.clients) for one in last.sums] == [(5, ("a", "b", "c")), (7, ("b", "c", "d"))]
    assert [last.sum_of(name).round for name in "abcd"] == [5, 7, 7, 7]
    again = apply_sums(last, abc, FLAMES, ENTRIES).state
    assert [one.round for one in again.sums] == [7, 8]


def test_a_mean_weighs_by_the_factors_and_leaves_no_sum():
    models = [model(1), model(2), model(3)]
    opened = {"MRI": (("a", "b", "c"), sum_of(models, [1.0, 0.5, 0.25], personal=False))}
    found = apply_sums(state_with("a", "b", "c"), opened, MEAN, ENTRIES).state
    expected = (
        models[0]["conv.weight"] + models[1]["conv.weight"] * 0.5 + models[2]["conv.weight"] * 0.25
    ) / 1.75
    np.testing.assert_allclose(found.server["MRI"]["conv.weight"], expected, atol=1e-6)
    assert found.sums == ()


def test_the_server_steps_and_averages_as_in_a_plain_round():
    algorithm = replace(MEAN, server_momentum=0.5, ema=0.5)
    opened = {"MRI": (("a", "b", "c"), sum_of([model(1)] * 3, [1.0] * 3, personal=False))}
    before = state_with("a", "b", "c")
    found = apply_sums(before, opened, algorithm, ENTRIES).state
    assert set(found.optimiser_state["MRI"]) == {"momentum", "ema", "ema_rounds"}
    again = apply_sums(found, opened, algorithm, ENTRIES).state
    start, target = before.server["MRI"]["conv.weight"], model(1)["conv.weight"]
    np.testing.assert_allclose(again.server["MRI"]["conv.weight"], target + 0.5 * (target - start), atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [("flames", "inverse"), ("flames-adaptive", "inverse"), ("fedavg", "examples"), ("fedgs", "steps")],
)
def test_clients_weigh_as_the_algorithm_does(algorithm, expected):
    assert weighing_of(get_algorithm(algorithm)) == expected


def test_factors_are_proportional_and_at_most_1():
    assert weigh("inverse", 40, 0, 10) == 0.25
    assert weigh("examples", 10, 0, 40) == 0.25
    assert weigh("steps", 1, 3, 4) == 0.75
    assert weigh("uniform", 5, 5, 1) == 1.0


@pytest.mark.parametrize(
    "case", [("inverse", 5, 0, 10), ("examples", 50, 0, 10), ("steps", 5, 0, 10), ("inverse", 0, 0, 1)]
)
def test_a_factor_outside_its_range_is_an_error(case):
    with pytest.raises(ValueError, match="has no factor from 0 to 1"):
        weigh(*case)


@pytest.mark.parametrize(
    ("total", "factor", "clients"), [(1.0, 1.0, 3), (2.0, 1.0, 1), (2.0, 0.0, 3), (float("nan"), 0.5, 3)]
)
def test_a_sum_without_others_gives_no_model(total, factor, clients):
    own = model(1)
    with pytest.raises(ValueError, match="expected more than"):
        personalise(own, factor, GroupSum(own, total, clients, 0.0))
