import random
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.learn import epochs, losses
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.learn.predict import Validation, validate
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, LocalRound, TrainOptions
from tests.support.asserts import assert_same
from tests.support.datasets import draw_discs

CPU = torch.device("cpu")
OPTIONS = TrainOptions(local_epochs=2, batch_size=3, lr=1e-2, precise_norm=False, keep_epoch="best")
ROUND = LocalRound(seed=0, round=1, client="a", options=OPTIONS)


@pytest.fixture
def cases():
    return ShardDataset([draw_discs(8)])


@pytest.fixture
def small_discs():
    drawn = draw_discs(8)
    return ShardDataset([replace(drawn, info=replace(drawn.info, small=SmallLesionRule("area", 2.0, 100.0)))])


@pytest.fixture
def held_out():
    return ShardDataset([draw_discs(3, seed=1)])


@pytest.fixture
def nothing():
    return ShardDataset([])


def make(dropout=0.0):
    return build_model("unet", seed=1, base_channels=4, depth=2, dropout=dropout)


def run(cases, val, model=None, on_step=None, **changes):
    return train_epochs(model or make(), cases, val, changed(**changes), CPU, "fp32", on_step)


def changed(**changes):
    """ROUND with other options, or otherwise another round."""
    options = {name: changes.pop(name) for name in asdict(OPTIONS) if name in changes}
    return replace(ROUND, options=replace(OPTIONS, **options), **changes)


def assert_same_weights(one, other):
    assert_same(one.weights, other.weights)


def differ(one, other):
    return any(not np.array_equal(array, other.weights[name]) for name, array in one.weights.items())


def test_the_loss_falls_and_the_discs_are_found(cases, held_out):
    result = run(cases, held_out, local_epochs=30, augment=False)
    assert result.trained.loss < 0.5 * result.received.loss
    assert result.trained.dice > 0.8
    assert result.train_loss < 0.2


def test_discs_are_found_by_their_colour():
    cases, held_out = (ShardDataset([draw_discs(n, seed=n, channels=3)]) for n in (8, 3))
    model = build_model("unet", seed=1, base_channels=4, depth=2, in_channels=3)
    result = run(cases, held_out, model, local_epochs=15)
    assert result.received.dice < 0.1
    assert result.trained.dice > 0.8


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_scope_gives_the_same_weights(dropout, cases, held_out):
    one, other = (run(cases, held_out, make(dropout)) for _ in range(2))
    assert_same_weights(one, other)
    assert (one.train_loss, one.trained, one.received) == (other.train_loss, other.trained, other.received)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"round": 2}, {"client": "b"}])
def test_any_part_of_the_scope_gives_other_weights(changes, cases, nothing):
    assert differ(run(cases, nothing), run(cases, nothing, **changes))


def test_what_ran_before_does_not_matter(cases, nothing):
    expected = run(cases, nothing, make(dropout=0.5))
    torch.rand(17)
    np.random.default_rng().random()
    assert_same_weights(run(cases, nothing, make(dropout=0.5)), expected)


def test_no_global_generator_moves(cases, held_out):
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    run(cases, held_out, make(dropout=0.5))
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert all(np.array_equal(one, other) for one, other in zip(before[1], after[1], strict=True))
    assert before[2] == after[2]


@pytest.fixture
def warps(monkeypatch):
    """All warps that are drawn, in order."""
    drawn = []

    def draw(rng):
        drawn.append(draw_warp(rng))
        return drawn[-1]

    monkeypatch.setattr(epochs, "draw_warp", draw)
    return drawn


def test_every_case_of_every_epoch_has_its_own_warp(cases, nothing, warps):
    run(cases, nothing, local_epochs=3)
    assert len(warps) == len(set(warps)) == 3 * len(cases)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"round": 2}, {"client": "b"}])
def test_rounds_and_clients_have_their_own_warps_and_the_same_scope_the_same(changes, cases, nothing, warps):
    for options in ({}, {}, changes):
        run(cases, nothing, local_epochs=1, **options)
    first, again, other = (set(warps[start : start + 8]) for start in (0, 8, 16))
    assert first == again
    assert not first & other


def test_a_case_is_warped_by_its_number_not_by_its_place(cases, nothing, warps):
    run(cases, nothing, local_epochs=1)
    expected = {draw_warp(derive_rng(0, "augment", "a", 1, 1, index)) for index in range(len(cases))}
    assert set(warps) == expected


def test_without_augmentation_nothing_is_warped(cases, nothing, warps):
    run(cases, nothing, augment=False)
    assert warps == []


def test_validation_cases_are_never_warped(cases, held_out, warps):
    run(cases, held_out, local_epochs=1)
    assert len(warps) == len(cases)


@pytest.fixture
def batches(monkeypatch):
    """The order of every epoch."""
    orders, original = [], epochs.batches_on

    def iterate(device, precision, dataset, order, *rest, **options):
        orders.append(list(order))
        return original(device, precision, dataset, order, *rest, **options)

    monkeypatch.setattr(epochs, "batches_on", iterate)
    return orders


def test_every_epoch_takes_every_case_once_in_another_order(cases, nothing, batches):
    run(cases, nothing, local_epochs=3)
    assert all(sorted(order) == list(range(len(cases))) for order in batches)
    assert len({tuple(order) for order in batches}) == 3


def judged(monkeypatch, *verdicts):
    """Replace validation: it returns `verdicts` (Dice, loss), the first for the received model."""
    weights = []

    def validate(model, *rest):
        weights.append(to_weights(model))
        dice, loss = verdicts[len(weights) - 1]
        return Validation(loss, dice, 3)

    monkeypatch.setattr(epochs, "validate_by", validate)
    return weights


@pytest.mark.parametrize(
    ("verdicts", "best"),
    [
        ([(0.9, 0.1), (0.3, 0.2), (0.5, 0.9), (0.4, 0.1)], 2),
        ([(0.0, 0.5), (0.5, 0.3), (0.5, 0.2), (0.5, 0.2)], 2),
        ([(0.0, 0.5), (0.5, 0.3), (0.4, 0.2), (0.3, 0.1)], 1),
        ([(0.0, 0.5), (0.1, 0.3), (0.2, 0.3), (0.3, 0.3)], 3),
    ],
    ids=["highest Dice", "then lowest loss, then first", "first", "last"],
)
def test_the_best_epoch_is_selected_by_the_validation_patients(verdicts, best, cases, held_out, monkeypatch):
    weights = judged(monkeypatch, *verdicts)
    result = run(cases, held_out, local_epochs=3)
    assert result.best_epoch == best
    assert (result.trained.dice, result.trained.loss) == verdicts[best]
    assert (result.received.dice, result.received.loss) == verdicts[0]
    for name, array in weights[best].items():
        np.testing.assert_array_equal(result.weights[name], array)


def test_without_validation_patients_the_last_epoch_is_selected(cases, nothing):
    model = make()
    result = run(cases, nothing, model, local_epochs=3)
    assert result.best_epoch == 3
    assert result.received is None
    assert result.trained is None
    for name, array in to_weights(model).items():
        np.testing.assert_array_equal(result.weights[name], array)


def test_validation_does_not_change_training(cases, held_out, nothing):
    model, other = make(dropout=0.5), make(dropout=0.5)
    run(cases, held_out, model, local_epochs=2)
    run(cases, nothing, other, local_epochs=2)
    for name, array in to_weights(model).items():
        np.testing.assert_array_equal(to_weights(other)[name], array)


@pytest.mark.parametrize("per_pixel_focal", [False, True])
def test_validation_uses_the_same_loss_as_training(per_pixel_focal, cases, held_out):
    result = run(cases, held_out, local_epochs=1, dice_weight=0.6, per_pixel_focal=per_pixel_focal)
    assert result.received == validate(
        make(),
        held_out,
        3,
        CPU,
        "fp32",
        partial(dice_focal_loss, dice_weight=0.6, per_pixel_focal=per_pixel_focal),
    )


def test_the_training_loss_is_the_mean_over_cases(cases, nothing, monkeypatch):
    seen = []

    def loss(pred, target, **options):
        value = dice_focal_loss(pred, target, **options)
        seen.append((float(value.detach()), len(pred)))
        return value

    monkeypatch.setattr(losses, "dice_focal_loss", loss)
    result = run(cases, nothing, local_epochs=1)
    assert [n for _, n in seen] == [3, 3, 2]
    assert result.train_loss == pytest.approx(sum(value * n for value, n in seen) / 8)


def test_steps_are_counted_and_reported(cases, nothing):
    told = []
    result = run(cases, nothing, on_step=lambda *step: told.append(step))
    assert told == [(step, 6) for step in range(1, 7)]
    assert result.n_steps == 6
    assert result.n_examples == 8


def test_one_case_is_enough(nothing):
    result = run(ShardDataset([draw_discs(1)]), nothing)
    assert (result.n_examples, result.n_steps) == (1, 2)


def test_a_batch_larger_than_the_set_is_one_step(cases, held_out):
    result = run(cases, held_out, batch_size=64, local_epochs=1)
    assert (result.n_examples, result.n_steps) == (8, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_epochs": 0}, "client a was asked to train 0 epochs, expected at least 1"),
        ({"lr": 1e30}, r"client a: the loss is nan in round 1; lower --lr \(now 1e\+30\)"),
    ],
)
def test_training_that_cannot_work_is_rejected(changes, message, cases, nothing):
    with pytest.raises(FlamesError, match=message):
        run(cases, nothing, **changes)


def test_no_training_cases_are_rejected(held_out, nothing):
    with pytest.raises(FlamesError, match="client a has no training cases"):
        run(nothing, held_out)


def test_the_learning_rate_has_an_effect(cases, nothing):
    assert differ(run(cases, nothing), run(cases, nothing, lr=2e-2))


def test_counters_of_batches_stay_integers(cases, nothing):
    result = run(cases, nothing)
    counters = [array for name, array in result.weights.items() if name.endswith("num_batches_tracked")]
    assert counters
    assert all(counter.dtype == np.int64 and counter == 6 for counter in counters)


def test_a_last_batch_of_one_case_joins_the_previous_one(nothing):
    told = []
    run(ShardDataset([draw_discs(7)]), nothing, local_epochs=1, on_step=lambda *steps: told.append(steps))
    assert told == [(1, 2), (2, 2)]


def test_the_last_epoch_is_selected_on_request(cases, held_out, monkeypatch):
    verdicts = iter([0.9, 0.3])  # as received, and after the last epoch
    monkeypatch.setattr(epochs, "validate_by", lambda *_: Validation(1.0, next(verdicts), 3))
    result = run(cases, held_out, local_epochs=3, keep_epoch="last")
    assert (result.best_epoch, result.n_steps, result.trained.dice) == (3, 9, 0.3)


def test_the_reported_steps_led_to_the_selected_epoch(cases, held_out, monkeypatch):
    verdicts = iter([0.1, 0.2, 0.9, 0.3])
    monkeypatch.setattr(epochs, "validate_by", lambda *_: Validation(1.0, next(verdicts), 3))
    result = run(cases, held_out, local_epochs=3)
    assert (result.best_epoch, result.n_steps) == (2, 6)


@pytest.mark.parametrize(
    "changes", [{"optimiser": "sgd"}, {"optimiser": "adamw", "weight_decay": 0.1}, {"weight_decay": 0.1}]
)
def test_the_optimiser_has_an_effect(changes, cases, nothing):
    assert differ(run(cases, nothing), run(cases, nothing, **changes))


def test_fedgs_trains_like_plain_and_reports_other_weights(cases, small_discs, held_out):
    plain, scaled = (run(small_discs, held_out, rule=rule) for rule in ("plain", "fedgs"))
    assert (plain.trained, plain.train_loss) == (scaled.trained, scaled.train_loss)
    assert differ(plain, scaled)
    # Without small lesions the report equals that of plain training bit for bit.
    assert_same_weights(*(run(cases, held_out, rule=rule) for rule in ("plain", "fedgs")))


DECAYING = {"optimiser": "adamw", "weight_decay": 0.1}


def test_fedgs_without_its_factor_is_fedgs_where_no_lesion_is_small(cases, small_discs, nothing):
    both = [run(cases, nothing, rule=rule, **DECAYING) for rule in ("fedgs", "fedgs-unscaled")]
    assert_same_weights(*both)
    assert differ(*(run(small_discs, nothing, rule=rule, **DECAYING) for rule in ("fedgs", "fedgs-unscaled")))


def test_fedgs_without_its_factor_reports_the_trained_weights_where_none_decay(small_discs, nothing):
    assert_same_weights(*(run(small_discs, nothing, rule=rule) for rule in ("plain", "fedgs-unscaled")))
    plain, unscaled = (
        run(small_discs, nothing, rule=rule, **DECAYING) for rule in ("plain", "fedgs-unscaled")
    )
    assert differ(plain, unscaled)


def test_precise_statistics_fit_the_reported_weights_and_do_not_change_plain_reports(small_discs, nothing):
    plain, published, precise = (
        run(small_discs, nothing, rule=rule, precise_norm=norm)
        for rule, norm in (("plain", True), ("fedgs", False), ("fedgs", True))
    )
    assert_same_weights(plain, run(small_discs, nothing))
    for name, array in precise.weights.items():
        alike = not name.endswith(("running_mean", "running_var"))
        assert np.array_equal(array, published.weights[name]) == alike, name
    assert_same_weights(precise, run(small_discs, nothing, rule="fedgs", precise_norm=True))


def test_fedprox_with_mu_zero_is_plain_training_and_a_large_mu_stays_near_the_start(cases, nothing):
    plain = run(cases, nothing)
    assert_same_weights(run(cases, nothing, rule="fedprox", proximal_mu=0.0), plain)
    start = to_weights(make())
    near = run(cases, nothing, rule="fedprox", proximal_mu=1e3)

    def moved(result):
        return sum(np.abs(result.weights[name] - start[name]).sum() for name in parameters())

    assert moved(near) < moved(plain)


def parameters():
    return [name for name, _ in make().named_parameters()]


def test_a_step_of_scaffold_follows_g_minus_the_clients_control_plus_the_servers(cases, nothing):
    server = {name: np.full_like(to_weights(make())[name], 0.5) for name in parameters()}
    client = {name: np.full_like(array, 0.2) for name, array in server.items()}
    one_step = {"optimiser": "sgd", "local_epochs": 1, "batch_size": 8, "lr": 0.1}
    local = changed(rule="scaffold", controls=Controls(server, client), **one_step)
    corrected = train_epochs(make(), cases, nothing, local, CPU, "fp32")
    plain = run(cases, nothing, **one_step)
    for name in parameters():
        np.testing.assert_allclose(corrected.weights[name], plain.weights[name] - 0.1 * 0.3, atol=1e-6)


def test_equal_control_variates_leave_plain_sgd(cases, nothing):
    control = {name: np.full_like(to_weights(make())[name], 0.5) for name in parameters()}
    local = changed(optimiser="sgd", rule="scaffold", controls=Controls(control, control))
    result = train_epochs(make(), cases, nothing, local, CPU, "fp32")
    assert_same_weights(result, run(cases, nothing, optimiser="sgd"))
    assert set(result.control_change) == set(parameters())
    assert run(cases, nothing, optimiser="sgd").control_change is None


def test_a_different_client_control_changes_training(cases, nothing):
    server = {name: np.full_like(to_weights(make())[name], 0.5) for name in parameters()}
    client = {name: np.zeros_like(array) for name, array in server.items()}
    local = changed(optimiser="sgd", rule="scaffold", controls=Controls(server, client))
    result = train_epochs(make(), cases, nothing, local, CPU, "fp32")
    assert differ(result, run(cases, nothing, optimiser="sgd"))


def test_clipped_gradients_bound_the_first_step_of_sgd(cases, nothing):
    start = to_weights(make())
    one_step = {"optimiser": "sgd", "local_epochs": 1, "batch_size": 8, "lr": 1.0, "augment": False}

    def distance(result):
        moved = (result.weights[name] - start[name] for name in parameters())
        return float(np.sqrt(sum((change.astype(np.float64) ** 2).sum() for change in moved)))

    free = run(cases, nothing, **one_step)
    limit = distance(free) / 4
    np.testing.assert_allclose(distance(run(cases, nothing, grad_clip=limit, **one_step)), limit, rtol=1e-4)
    assert_same_weights(run(cases, nothing, grad_clip=1e6, **one_step), free)


@pytest.mark.parametrize(
    ("keep_epoch", "patients", "best_epoch", "validations"),
    [
        ("auto", 9, 3, 2),
        ("auto", 10, 2, 4),
        ("best", 1, 2, 4),
        ("last", 10, 3, 2),
    ],
)
def test_auto_selects_by_ten_or_more_validation_patients(
    keep_epoch, patients, best_epoch, validations, cases, monkeypatch
):
    weights = judged(monkeypatch, (0.1, 1.0), (0.2, 1.0), (0.9, 1.0), (0.3, 1.0))
    if best_epoch == 3:
        weights = judged(monkeypatch, (0.1, 1.0), (0.3, 1.0))
    val = ShardDataset([draw_discs(patients, seed=1)])
    result = run(cases, val, local_epochs=3, keep_epoch=keep_epoch)
    assert (result.best_epoch, len(weights)) == (best_epoch, validations)


def test_two_images_of_a_patient_count_once():
    drawn = draw_discs(10, seed=1)
    twice = [drawn.cases[0], replace(drawn.cases[1], patient=drawn.cases[0].patient), *drawn.cases[2:]]
    assert ShardDataset([replace(drawn, cases=twice)]).n_patients == 9


def test_trained_weights_are_validated_with_statistics_of_their_own_and_reported_as_they_are(cases, held_out):
    one, other = (
        run(cases, held_out, make(dropout=0.5), precise_norm=precise_norm) for precise_norm in (False, True)
    )
    assert_same_weights(one, other)
    plain, precise = (
        run(cases, held_out, local_epochs=1, precise_norm=precise_norm) for precise_norm in (False, True)
    )
    model = make()
    estimate_statistics(model, plain.weights, cases, 3, CPU, "fp32")
    assert precise.trained == validate(model, held_out, 3, CPU, "fp32", dice_focal_loss)
    assert precise.trained != plain.trained


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_models_without_statistics_of_batches_are_validated_as_they_are(norm, cases, held_out):
    plain, precise = (
        run(
            cases,
            held_out,
            build_model("unet", seed=1, base_channels=4, depth=2, norm=norm),
            local_epochs=1,
            precise_norm=precise_norm,
        )
        for precise_norm in (False, True)
    )
    assert (plain.received, plain.trained) == (precise.received, precise.trained)
    assert_same_weights(plain, precise)


def test_the_generator_of_an_apple_gpu_is_restored_after_a_validation(monkeypatch):
    restored = []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: "before")
    monkeypatch.setattr(torch.mps, "set_rng_state", restored.append)
    for device in ("cpu", "mps"):
        with epochs.torch_randomness(ROUND, torch.device(device)):
            torch.rand(1)
    assert restored == ["before"]
