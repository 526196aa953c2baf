"""Steps on a device that computes while the process goes on, and with too little memory."""

import math
from dataclasses import replace

import pytest
import torch

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.learn import epochs, losses, steps
from flames_cli.learn.batches import batches_on
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.local_updates import batch_scale
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.predict import validate
from flames_cli.learn.steps import Plan, Steps, learned, pays_to_compile
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from tests.support.asserts import assert_same
from tests.support.asynchronous import pretend_asynchronous
from tests.support.datasets import draw_discs

CPU = torch.device("cpu")
OPTIONS = TrainOptions(local_epochs=2, batch_size=3, lr=1e-2, augment=False)
ROUND = LocalRound(seed=0, round=1, client="a", options=OPTIONS)


@pytest.fixture
def cases():
    drawn = draw_discs(8)
    return ShardDataset([replace(drawn, info=replace(drawn.info, small=SmallLesionRule("area", 2.0, 100.0)))])


@pytest.fixture
def held_out():
    return ShardDataset([draw_discs(4, seed=1)])


def make(norm="batch"):
    return build_model("unet", seed=1, norm=norm, base_channels=4, depth=2)


def run(cases, val, model=None, rule="plain", **changes):
    local = replace(ROUND, rule=rule, options=replace(OPTIONS, **changes))
    return train_epochs(model or make(), cases, val, local, CPU, "fp32")


def numbers(result):
    return result.train_loss, result.best_epoch, result.n_steps, result.received, result.trained


@pytest.mark.parametrize("rule", ["plain", "fedprox"])
def test_an_asynchronous_device_trains_as_the_cpu_does(rule, cases, held_out, monkeypatch):
    expected = run(cases, held_out, rule=rule)
    pretend_asynchronous(monkeypatch)
    found = run(cases, held_out, rule=rule)
    assert numbers(found) == numbers(expected)
    assert_same(found.weights, expected.weights)


def test_fedgs_scales_steps_on_the_device_as_on_the_cpu(cases, held_out, monkeypatch):
    ((_, masks),) = batches_on(CPU, "fp32", cases, range(8), 8)
    masks[2] = 0  # moved out of its image
    expected, trained = batch_scale(masks, range(8), cases), run(cases, held_out, rule="fedgs")
    pretend_asynchronous(monkeypatch)
    found = batch_scale(masks, range(8), cases)
    assert isinstance(found, torch.Tensor)
    assert expected > 1
    assert float(found) == pytest.approx(expected, rel=1e-12)
    on_device = run(cases, held_out, rule="fedgs")
    for name, array in trained.weights.items():
        assert on_device.weights[name] == pytest.approx(array, abs=1e-6)
    large = ShardDataset([draw_discs(8)])
    assert batch_scale(masks, range(8), large) == 1.0


def test_a_warped_epoch_of_the_device_stays_near_the_cpus(cases, held_out, monkeypatch):
    expected = run(cases, held_out, augment=True)
    pretend_asynchronous(monkeypatch)
    found = run(cases, held_out, augment=True)
    assert found.train_loss == pytest.approx(expected.train_loss, rel=0.05)


def test_an_asynchronous_device_is_asked_for_its_losses_after_the_epoch(cases, held_out, monkeypatch):
    """The message is the same, and the steps after the first bad loss do no harm."""
    pretend_asynchronous(monkeypatch)
    with pytest.raises(FlamesError, match=r"client a: the loss is nan in round 1; lower --lr \(now 1e\+30\)"):
        run(cases, held_out, lr=1e30)


def out_of_memory_above(n, monkeypatch):
    """Let a pass fail with more than `n` images, after its forward pass; return the sizes of all passes."""
    sizes = []

    def loss(pred, target, **options):
        if pred.requires_grad:  # validation has the same loss
            sizes.append(len(pred))
            if len(pred) > n:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return dice_focal_loss(pred, target, **options)

    monkeypatch.setattr(losses, "dice_focal_loss", loss)
    return sizes


def test_a_batch_too_large_for_the_memory_is_divided_and_says_so_once(cases, held_out, monkeypatch):
    sizes, model = out_of_memory_above(2, monkeypatch), make()
    result = run(cases, held_out, model, batch_size=8)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert result.n_steps == 2
    assert [note.partition(":")[0] for note in result.notes] == [
        "the device's memory is too small for 8 images",
        "the device's memory is too small for 4 images",
    ]
    assert "BatchNorm and Dice are computed for each part" in result.notes[1]
    sizes.clear()
    assert run(cases, held_out, model, batch_size=8).notes == ()  # the next round knows it already
    assert sizes == [2] * 8


def test_parts_of_a_batch_sum_to_its_gradients(monkeypatch):
    """With a loss that is a mean over images, and layers without statistics of a batch."""
    model = make("group")
    images, masks = torch.rand(5, 1, 16, 16), torch.rand(5, 1, 16, 16).round()

    def loss(images, masks):
        return (model(images) - masks).square().mean()

    losses = [Steps(model, loss, Plan(), CPU, str).differentiate(images, masks)]
    gradients = [[parameter.grad.clone() for parameter in model.parameters()]]
    learned(model).part = 2
    losses.append(Steps(model, loss, Plan(), CPU, str).differentiate(images, masks))
    gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_memory_too_small_for_one_image_ends_the_round_with_advice(cases, held_out, monkeypatch):
    out_of_memory_above(0, monkeypatch)
    with pytest.raises(FlamesError, match="too small for a step on one image; close other programs"):
        run(cases, held_out)


@pytest.fixture
def forwards(monkeypatch):
    """Replace compilation; list the numbers of images of compiled passes."""
    sizes = []

    def forward(model, images):
        sizes.append(len(images))
        return model(images)

    monkeypatch.setattr(epochs, "compiled_forward", lambda: forward)
    return sizes


def test_full_batches_are_compiled_on_request_and_train_the_same(cases, held_out, forwards):
    expected = run(cases, held_out)
    assert forwards == []
    local = replace(ROUND, compile="on")
    found = train_epochs(make(), cases, held_out, local, CPU, "fp32")
    assert forwards == [3, 3, 3, 3]  # of 3, 3 and 2 images in each of two epochs
    assert_same(found.weights, expected.weights)
    assert found.notes == ("the model was compiled for faster steps (0 s)",)


def test_a_model_that_cannot_be_compiled_trains_without(cases, held_out, monkeypatch):
    def forward(model, images):
        raise RuntimeError("no C compiler\nin a long text")

    monkeypatch.setattr(epochs, "compiled_forward", lambda: forward)
    found = train_epochs(make(), cases, held_out, replace(ROUND, compile="on"), CPU, "fp32")
    assert_same(found.weights, run(cases, held_out).weights)
    assert found.notes == ("the model is not compiled (RuntimeError: no C compiler); it trains without",)


def test_compilation_pays_if_the_steps_of_all_clients_take_long():
    model = make()
    assert not pays_to_compile(model, 1000)  # nothing is known yet
    known = learned(model)
    known.seconds, known.steps = 0.05, {"a": 40, "b": 20}
    assert not pays_to_compile(model, 100)
    assert pays_to_compile(model, 101)


def test_a_prediction_too_large_for_the_memory_is_made_in_halves(held_out):
    model, sizes = make(), []
    expected = validate(model, held_out, 4, CPU, "fp32", dice_focal_loss)
    original = model.forward

    def forward(images):
        sizes.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(images)

    model.forward = forward
    found = validate(model, held_out, 4, CPU, "fp32", dice_focal_loss)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert math.isclose(found.loss, expected.loss, rel_tol=1e-6)
    assert found.dice == expected.dice


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_a_full_device_loses_its_own_recordings_and_no_other_devices():
    models = {name: make() for name in ("cpu", "meta")}
    for name, model in models.items():
        place = torch.zeros(1, device=name)
        learned(model).recordings["kind"] = steps.Recording(None, place, place, place, [])
    assert steps.forget_recordings(CPU)
    assert not steps.forget_recordings(CPU)
    kept = {name: (learned(model).records, len(learned(model).recordings)) for name, model in models.items()}
    assert kept == {"cpu": (False, 0), "meta": (True, 1)}


@pytest.mark.gpu
@gpu
def test_recorded_steps_of_a_gpu_train_as_steps_without_a_recording(cases, held_out, monkeypatch):
    """Three batches of three an epoch: the third epoch repeats recordings."""
    device, results = torch.device("cuda", 0), []
    for records in (True, False):
        model = make().to(device).to(memory_format=torch.channels_last)
        steps._LEARNED[model] = steps.Learned(records=records)
        local = replace(ROUND, options=replace(OPTIONS, local_epochs=6, keep_epoch="last"))
        results.append(train_epochs(model, cases, held_out, local, device, "fp32"))
        assert bool(steps._LEARNED[model].recordings) == records
    assert results[0].train_loss == pytest.approx(results[1].train_loss, rel=1e-3)
    for name, array in results[1].weights.items():
        assert results[0].weights[name] == pytest.approx(array, abs=1e-2)


@pytest.mark.gpu
@gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
def test_a_gpu_never_waits_for_a_step(cases, held_out):
    """Synchronisation inside the epoch's steps would raise an error."""
    device = torch.device("cuda", 0)
    model = make().to(device).to(memory_format=torch.channels_last)
    run_once = replace(ROUND, options=replace(OPTIONS, augment=True), rule="fedgs")
    train_epochs(model, cases, held_out, run_once, device, "bf16")
    ((images, masks),) = batches_on(device, "bf16", cases, range(8), 8)
    try:
        torch.cuda.set_sync_debug_mode("error")
        passes = Steps(model, lambda one, truth: (model(one) - truth).square().mean(), Plan(), device, str)
        passes.differentiate(images, masks)
        batch_scale(masks, range(8), cases)
        next(iter(batches_on(device, "bf16", cases, [2, 1, 0], 3)))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@gpu
def test_weights_of_a_gpu_are_those_of_the_cpu():
    model = make()
    assert_same(to_weights(model), to_weights(model.cuda().to(memory_format=torch.channels_last)))
