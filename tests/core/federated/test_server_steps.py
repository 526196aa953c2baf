import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvgM
from flwr.supercore.task_identity import TaskIdentity

from flames_cli.core.federated.running_sum import RunningSum, weighted_mean
from flames_cli.core.federated.server_steps import adam_step, average_step, control_step, momentum_step
from flames_cli.core.rng import derive_rng

NAMES = ("a", "b")
COUNTS = (10, 30)


@pytest.fixture
def identity(monkeypatch):
    """Give messages a sender: they take it from the identity of the process."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def draw(*scope):
    rng = derive_rng(0, *scope)
    return {name: rng.normal(size=(3, 2)).astype(np.float32) for name in NAMES}


def record(weights):
    return ArrayRecord({name: Array(array) for name, array in weights.items()})


def reply(weights, n_examples, node):
    content = RecordDict({"arrays": record(weights), "metrics": MetricRecord({"num-examples": n_examples})})
    request = Message(RecordDict(), node, "train")
    request.metadata.__dict__["_message_id"] = str(node)
    return Message(content, reply_to=request)


def flower_rounds(strategy, start, rounds):
    """Return the models of Flower's own `strategy` if clients report these weights in these rounds."""
    models = []
    for round_, reports in enumerate(rounds, 1):
        # `configure_train` does the same, but needs a grid.
        current = record(models[-1] if models else start)
        if isinstance(strategy, FedAvgM):
            strategy.current_arrays = strategy.current_arrays or current
        else:
            strategy.current_arrays = {name: array.numpy() for name, array in current.items()}
        replies = [
            reply(weights, n, i + 1) for i, (weights, n) in enumerate(zip(reports, COUNTS, strict=True))
        ]
        arrays, _ = strategy.aggregate_train(round_, replies)
        models.append({name: array.numpy() for name, array in arrays.items()})
    return models


def our_rounds(step, start, rounds):
    weights, memory, models = start, {}, []
    for round_, reports in enumerate(rounds, 1):
        weights, memory = step(weights, weighted_mean(reports, COUNTS), memory, round_)
        models.append(weights)
    return models


ROUNDS = [[draw(round_, client) for client in range(2)] for round_ in range(4)]


def assert_alike(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        for name in NAMES:
            assert one[name].dtype == np.float32
            np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_adam_is_flowers_fedadam(lr, identity):
    ours = our_rounds(
        lambda start, blend, memory, round_: adam_step(start, blend, memory, lr, round_),
        draw("start"),
        ROUNDS,
    )
    assert_alike(ours, flower_rounds(FedAdam(eta=lr), draw("start"), ROUNDS))


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_is_flowers_fedavgm(momentum, identity):
    ours = our_rounds(
        lambda start, blend, memory, _: momentum_step(start, blend, memory, momentum), draw("start"), ROUNDS
    )
    assert_alike(ours, flower_rounds(FedAvgM(server_momentum=momentum), draw("start"), ROUNDS))


def test_adam_steps_by_hand():
    start, blend = {"w": np.array([1.0])}, {"w": np.array([3.0])}
    stepped, memory = adam_step(start, blend, {}, 0.1, 1)
    assert memory["adam_m"]["w"] == pytest.approx(0.1 * 2)
    assert memory["adam_v"]["w"] == pytest.approx(0.01 * 4)
    rate = 0.1 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2)
    assert stepped["w"] == pytest.approx(1 + rate * 0.2 / (0.2 + 1e-3))


def test_adam_does_not_move_where_clients_do_not():
    start = draw("start")
    stepped, _ = adam_step(start, start, {}, 0.1, 1)
    for name in NAMES:
        np.testing.assert_array_equal(stepped[name], start[name])


def test_controls_add_up_over_all_clients():
    start, changes = draw("start"), RunningSum()
    for client in range(2):
        changes.add(draw("change", client), 1.0)
    memory = {"control": draw("control")}
    got = control_step(start, changes, memory, 5)["control"]
    for name in NAMES:
        expected = memory["control"][name] + (draw("change", 0)[name] + draw("change", 1)[name]) / 5
        np.testing.assert_allclose(got[name], expected, rtol=1e-6, atol=1e-7)
        assert got[name].dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "step",
    [
        lambda start, blend, memory: momentum_step(start, blend, memory, 0.9),
        lambda start, blend, memory: adam_step(start, blend, memory, 0.1, 1),
    ],
    ids=["momentum", "adam"],
)
def test_steps_and_memories_keep_dtypes_shapes_and_inputs(step, dtype):
    start = {"w": np.ones((2, 3), dtype), "scale": np.array(2, dtype)}
    blend = {name: array + dtype(0.5) for name, array in start.items()}
    before = {name: array.copy() for name, array in start.items()}
    memory = {}
    for _ in range(2):
        stepped, memory = step(start, blend, memory)
        for weights in (stepped, *memory.values()):
            assert {name: (a.dtype, a.shape) for name, a in weights.items()} == {
                name: (a.dtype, a.shape) for name, a in start.items()
            }
            assert not any(np.shares_memory(weights[name], start[name]) for name in start)
    for name, array in before.items():
        np.testing.assert_array_equal(start[name], array)


def averages_of(models, decay):
    """Return the state after each of the models."""
    states = [{}]
    for model in models:
        states.append(average_step(model, states[-1], decay))
    return states[1:]


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9, 0.999])
def test_the_average_has_the_weights_of_a_moving_average_with_bias_correction(decay):
    models = [draw("average", number) for number in range(6)]
    for number, state in enumerate(averages_of(models, decay), 1):
        weights = (1 - decay) * decay ** np.arange(number)[::-1] / (1 - decay**number)
        assert weights.sum() == pytest.approx(1)
        for name in NAMES:
            expected = sum(w * model[name].astype(float) for w, model in zip(weights, models, strict=False))
            np.testing.assert_allclose(state["ema"][name], expected, rtol=1e-5, atol=1e-6)
            assert state["ema"][name].dtype == np.float32
        assert state["ema_rounds"]["rounds"] == number


def test_the_average_is_the_first_moment_of_torchs_adam_after_its_bias_correction():
    """With √v̂ = ε ≈ 0 the step of Adam is lr·m̂/ε: here gradients are so small that v does not count."""
    models = [draw("adam", number) for number in range(5)]
    parameter = torch.nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    adam = torch.optim.Adam([parameter], lr=1.0, betas=(0.9, 0.0), eps=1e12)
    for model, state in zip(models, averages_of(models, 0.9), strict=True):
        before = parameter.detach().clone()
        parameter.grad = torch.tensor(model["a"], dtype=torch.float64)
        adam.step()
        first = (before - parameter.detach()) * 1e12
        np.testing.assert_allclose(state["ema"]["a"], first, rtol=1e-4, atol=1e-5)


def test_the_average_of_equal_models_is_that_model_and_counters_have_none():
    model = {**draw("start"), "count": np.array(7)}
    for state in averages_of([model] * 4, 0.9):
        assert set(state["ema"]) == set(NAMES)
        for name in NAMES:
            np.testing.assert_array_equal(state["ema"][name], model[name])
            assert not np.shares_memory(state["ema"][name], model[name])
