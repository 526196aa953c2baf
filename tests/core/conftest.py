import numpy as np
import pytest

from flames_cli.core.federated.reports import Report, State, find_difference

MODALITIES = {"brain-1": "MRI", "brain-2": "MRI", "breast": "US"}


def make_model(value, counter=0):
    return {
        "conv.weight": np.full((2, 3), value, np.float32),
        "norm.running_var": np.full(3, value, np.float32),
        "norm.num_batches_tracked": np.array(counter, np.int64),
    }


def make_report(client, value, n_examples=10, counter=0, n_steps=4, **more):
    floats = {name: a / 8 for name, a in make_model(value).items() if a.dtype == np.float32}
    sent = {"control": floats, **more}
    return Report(client, MODALITIES[client], make_model(value, counter), n_examples, n_steps, **sent)


def check_same(got, expected, rtol=0.0, atol=0.0):
    assert find_difference(got, expected) is None
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol, atol, err_msg=name)


def check_same_state(got, expected, atol=0.0):
    assert got.round == expected.round
    by_name = [
        (got.server, expected.server),
        (got.personal, expected.personal),
        (got.styles, expected.styles),
    ]
    assert got.optimiser_state.keys() == expected.optimiser_state.keys()
    by_name += [(got.optimiser_state[group], kinds) for group, kinds in expected.optimiser_state.items()]
    for models, others in by_name:
        assert models.keys() == others.keys()
        for name in others:
            check_same(models[name], others[name], atol=atol)


@pytest.fixture(scope="session")
def model():
    """A model whose every value is the same."""
    return make_model


@pytest.fixture(scope="session")
def report():
    """A client's report of such a model, with all that any algorithm asks for."""
    return make_report


@pytest.fixture(scope="session")
def start():
    """The state in which an algorithm's groups are before a round."""

    def start_of(algorithm):
        groups = {algorithm.model_group_of(client, modality) for client, modality in MODALITIES.items()}
        return State(5, {group: make_model(0.5) for group in groups})

    return start_of


@pytest.fixture
def good_reports():
    return [
        make_report("brain-1", 1, 10, 4, 5),
        make_report("brain-2", 2, 30, 7, 3),
        make_report("breast", 4, 60, 9, 2),
    ]


@pytest.fixture(scope="session")
def assert_same():
    return check_same


@pytest.fixture(scope="session")
def assert_same_state():
    return check_same_state
