"""The pass after the last round with secure aggregation, without messages: its vectors, and its sums."""

from types import MappingProxyType

import numpy as np
import pytest

from flames_cli.core.federated.final_statistics import pool_statistics
from flames_cli.core.federated.pooled_numbers import NAMES, to_parts
from flames_cli.core.federated.reports import State
from flames_cli.core.federated.sum_layout import Sums
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.plan import Plan
from flames_cli.fed.secure.final_pass import assemble, divide
from flames_cli.fed.secure.final_vector import from_moments, to_moments
from flames_cli.fed.secure.sums import Outcome
from tests.support.federation import SIZE, make_profile

IMAGES = {"a": 30, "b": 7, "c": 11, "d": 2, "e": 5, "f": 20}


def statistics(seed):
    rng = np.random.default_rng(seed)
    mean, variance = rng.normal(0, 3, 4), rng.uniform(0, 9, 4)
    return {"bn.running_mean": mean.astype(np.float32), "bn.running_var": variance.astype(np.float32)}


def sums_of(clients, validation=MappingProxyType({})):
    """Return what a server opens of these clients: factors are numbers of images by 30."""
    moments = {name: to_moments(statistics(IMAGES[name])) for name in clients}
    factors = {name: IMAGES[name] / 30 for name in clients}
    numbers = [to_parts(validation.get(name, {}), 10) for name in clients]
    return Sums(
        weighted={
            entry: sum(factors[name] * moments[name][entry] for name in clients)
            for entry in to_moments(statistics(0))
        },
        plain={},
        factor=sum(factors.values()),
        numbers=np.sum(numbers, axis=0),
    )


def pooled(clients):
    return pool_statistics([(statistics(IMAGES[name]), IMAGES[name]) for name in clients])


def assert_equal_statistics(found, expected):
    assert {*found} == {*expected}
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-5)
        assert found[name].dtype == array.dtype


def test_sums_of_moments_give_the_statistics_that_a_plain_run_pools():
    assert_equal_statistics(from_moments(sums_of("abc"), statistics(0)), pooled("abc"))


def test_a_variance_that_rounding_makes_negative_is_0():
    moments = {"bn.running_mean": np.array([2.0]), "bn.running_var": np.array([4.0 - 1e-12])}
    one = Sums(moments, {}, 1.0, np.zeros(0))
    like = {"bn.running_mean": np.ones(1, np.float32), "bn.running_var": np.ones(1, np.float32)}
    assert from_moments(one, like)["bn.running_var"].tolist() == [0.0]


def plan_of(algorithm):
    initial = {**statistics(0), "w": np.zeros(2, np.float32)}
    return Plan(get_algorithm(algorithm), 2, 0, "unet", {}, initial, SIZE)


def clients_of(modalities):
    return [(n, make_profile(name, modality, 4)) for n, (name, modality) in enumerate(modalities.items())]


SIX = {name: "MRI" if name in "abc" else "US" for name in IMAGES}


@pytest.mark.parametrize(
    ("algorithm", "modalities", "parts", "alone"),
    [
        ("flames", SIX, {"MRI": "abc", "US": "def"}, ""),
        ("flames", {**SIX, "c": "US"}, {"US": "cdef"}, "ab"),
        ("fedavg", SIX, {"MRI": "abc", "US": "def"}, ""),
        ("fedavg", {**SIX, "c": "US"}, {"all": "abcdef"}, ""),
        ("fedavg", {"a": "MRI", "b": "MRI"}, {}, "ab"),
    ],
)
def test_no_sum_and_no_difference_of_two_has_fewer_than_three_clients(algorithm, modalities, parts, alone):
    found, left = divide(plan_of(algorithm), clients_of(modalities))
    assert {name: "".join(one.client for _, one in members) for name, members in found.items()} == parts
    assert "".join(one.client for _, one in left) == alone


def test_a_model_of_all_clients_has_the_statistics_of_each_modality_and_of_all():
    plan = plan_of("fedavg")
    state = State(2, {"all": plan.initial})
    validation = {
        "a": {"received_val_dice": 0.5, "n_val": 2.0},
        "d": {"received_val_dice": 0.8, "n_val": 4.0},
    }
    members = {"MRI": ("a", "b", "c"), "US": ("d", "e", "f")}
    outcome = Outcome({name: (clients, sums_of(clients, validation)) for name, clients in members.items()})
    profiles = {one.client: one for _, one in clients_of(SIX)}
    found, numbers = assemble(plan, state, profiles, outcome, 10)
    assert_equal_statistics(found.groups["all"], pooled("abcdef"))
    assert_equal_statistics(found.modalities["US"], pooled("def"))
    assert found.clients == {}
    assert (numbers["all"]["clients"], numbers["all"]["n_val"]) == (6, 6.0)
    assert numbers["all"]["val_dice"] == pytest.approx((2 * 0.5 + 4 * 0.8) / 6)
    assert len(NAMES) == len(outcome.sums["MRI"][1].numbers)
