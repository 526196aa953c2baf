"""Blends of plug-ins: what they get, what they may return, and how their errors are named."""

from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.aggregation import apply_round
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.blends import MeanBlend
from flames_cli.core.federated.reports import Entries
from flames_cli.core.federated.shelf import Shelf
from flames_cli.errors import FlamesError
from tests.support.asserts import assert_same, assert_same_state
from tests.support.plugin_strategies import STRATEGIES
from tests.support.reports import make_model, make_report, start_state

FEDAVG = Algorithm(local_update="plain", groups="all", blend="mean")
ENTRIES = Entries(
    trainable=frozenset({"conv.weight"}), norm=frozenset(), variances=frozenset({"norm.running_var"})
)


class Counting(MeanBlend):
    """The mean; its state counts the rounds."""

    def load_state(self, state):
        self.seen = state["rounds"]

    def state(self):
        return {"rounds": np.array(getattr(self, "seen", 0) + 1)}


def with_blend(kind, **changes):
    return replace(FEDAVG, blend=kind, plugin="strategy 'mine' of pack 1.0", **changes)


def returning(**results):
    """A blend whose methods return these results, or raise them."""

    def answer(found):
        def method(self, *_):
            if isinstance(found, Exception):
                raise found
            return found

        return method

    return with_blend(type("Wrong", (MeanBlend,), {name: answer(one) for name, one in results.items()}))


def one_round(algorithm, state=None, reports=None):
    reports = [make_report("brain-1", 1), make_report("breast", 3)] if reports is None else reports
    return apply_round(state or start_state(algorithm), reports, algorithm, ENTRIES)


def test_a_plug_in_that_averages_gives_the_bits_of_the_built_in_mean():
    own, built_in = one_round(with_blend(MeanBlend)).state, one_round(FEDAVG).state
    assert_same_state(own, built_in)


def test_a_blend_gets_its_own_state_of_the_last_round_with_a_report():
    algorithm = with_blend(Counting)
    first = one_round(algorithm).state
    unchanged = one_round(algorithm, first, []).state
    second = one_round(algorithm, unchanged).state
    assert [one.optimiser_state["all"]["blend"]["rounds"] for one in (first, unchanged, second)] == [1, 1, 2]


def test_state_that_a_blend_no_longer_returns_is_no_longer_stored():
    first = one_round(with_blend(Counting)).state
    assert one_round(with_blend(MeanBlend), first).state.optimiser_state == {}


def test_a_blend_knows_its_group_its_round_and_its_number_of_clients():
    seen = []

    class Curious(MeanBlend):
        def server(self):
            seen.append((self.group, self.round, self.n_clients))
            return super().server()

    algorithm = with_blend(Curious)
    apply_round(start_state(algorithm), [make_report("breast", 1)], algorithm, ENTRIES, {"all": 7})
    assert seen == [("all", 6, 7)]


def test_numbers_of_another_type_are_cast_to_that_of_the_entry():
    wide = {name: array.astype(np.float64) + 0.25 for name, array in make_model(1).items()}
    found = one_round(returning(server=wide)).state.server["all"]
    assert {name: array.dtype for name, array in found.items()} == {
        name: array.dtype for name, array in make_model(1).items()
    }
    np.testing.assert_array_equal(found["conv.weight"], np.full((2, 3), 1.25))


def test_what_a_blend_keeps_for_clients_goes_to_the_shelf():
    stored = []

    class Watching(Shelf):
        def keep_model(self, weights):
            stored.append(sorted(weights))
            return super().keep_model(weights)

    from flames_cli.core.federated.aggregation import RoundSettings

    algorithm = replace(STRATEGIES["sharp-heads"], groups="all")
    reports = [make_report("brain-1", 1), make_report("breast", 3)]
    result = apply_round(
        start_state(algorithm), reports, algorithm, ENTRIES, settings=RoundSettings(shelf=Watching())
    )
    assert stored == [["norm.num_batches_tracked", "norm.running_var"]] * 2
    assert_same(result.state.personal["breast"], {name: reports[1].weights[name] for name in stored[0][::-1]})


def test_feddyn_moves_further_than_the_mean_by_its_state():
    algorithm = STRATEGIES["feddyn"]
    first = one_round(algorithm).state
    moved = np.float64(np.float32(2.0)) - 0.5
    np.testing.assert_allclose(first.server["all"]["conv.weight"], 2.0 + moved, rtol=1e-6)
    np.testing.assert_allclose(first.optimiser_state["all"]["blend"]["conv.weight"], -0.1 * moved, rtol=1e-6)
    np.testing.assert_array_equal(first.server["all"]["norm.running_var"], 2.0)


def missing(name):
    return {one: array for one, array in make_model(1).items() if one != name}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"server": missing("conv.weight")}, r"server\(\) of its blend gives no entry 'conv.weight'"),
        ({"server": {**make_model(1), "odd": np.ones(1)}}, "gives an entry 'odd'"),
        ({"server": {**make_model(1), "conv.weight": np.ones(3)}}, r"'conv.weight' of shape \(3,\)"),
        ({"server": {**make_model(1), "conv.weight": np.full((2, 3), "a")}}, "'conv.weight' of type <U1"),
        ({"server": make_model(np.nan)}, "'conv.weight' contains values that are not finite"),
        ({"server": {**make_model(1), "conv.weight": np.full((2, 3), 1e300)}}, "that are not finite"),
        ({"server": {**make_model(1), "norm.running_var": -np.ones(3)}}, "a negative variance"),
        ({"server": None}, "gives a NoneType"),
        ({"server": ValueError("no")}, r"fails in round 6 for model group 'all' \(ValueError: no\)"),
        ({"add": KeyError("x")}, r"add\(\) of its blend fails in round 6"),
        ({"personal": {"nobody": {}}}, "a client 'nobody'"),
        ({"personal": {"breast": {"odd": np.ones(1)}}}, "an entry 'odd'"),
        ({"personal": [1]}, "gives a list"),
        ({"state": {"h": np.array([np.inf])}}, "'h' contains values that are not finite"),
        ({"state": {3: np.ones(1)}}, "an array called 3"),
        ({"rejection_reason": ZeroDivisionError()}, r"\(ZeroDivisionError\); correct the plug-in"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_what_a_blend_does_wrong_is_one_line_with_plug_in_group_and_round(results, message):
    with pytest.raises(FlamesError, match=message) as caught:
        one_round(returning(**results))
    text = str(caught.value)
    assert text.startswith("strategy 'mine' of pack 1.0: ")
    assert "round 6 for model group 'all'" in text
    assert "\n" not in text


def test_a_blend_that_writes_into_a_report_or_the_model_is_stopped():
    class Careless(MeanBlend):
        def add(self, report):
            report.weights["conv.weight"] *= 2
            super().add(report)

    algorithm = with_blend(Careless)
    state = start_state(algorithm)
    with pytest.raises(FlamesError, match="read-only"):
        one_round(algorithm, state)
    assert_same_state(state, start_state(algorithm))


def test_a_report_without_steps_is_rejected_where_the_blend_needs_them():
    algorithm = with_blend(type("Paced", (MeanBlend,), {"needs_steps": True}))
    result = one_round(algorithm, reports=[make_report("breast", 1, n_steps=0), make_report("brain-1", 1)])
    assert result.rejected == {"breast": "it reports 0 steps, expected more than 0"}
