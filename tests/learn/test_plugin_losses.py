import sys
from dataclasses import replace

import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset, iterate_batches
from flames_cli.learn.loss_registry import LOSSES
from flames_cli.learn.losses import make_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.plugin_losses import checked, probe_loss
from flames_cli.learn.steps import Plan, Steps
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import LocalRound, TrainOptions
from flames_cli.plugins import use_files
from tests.support.datasets import draw_discs
from tests.support.plugins import make_site

__all__ = ["make_site"]

CPU = torch.device("cpu")
WHO = "loss 'x' of the plug-in some 1.0"
LOSSES_OF_A_FILE = """
import torch

def squares(probabilities, masks):
    return ((probabilities - masks) ** 2).mean()

def unsteady(probabilities, masks):
    return squares(probabilities, masks) * torch.rand(())

def counting(probabilities, masks, calls=[]):
    calls.append(1)
    return squares(probabilities, masks) / len(calls)

def bare_dice(probabilities, masks):
    return 1 - 2 * (probabilities * masks).sum() / masks.sum()

def steep(probabilities, masks):
    return (probabilities - probabilities.detach()).sqrt().sum()

def cut(probabilities, masks):
    return probabilities.detach().mean().requires_grad_()

LOSSES = {"squares": squares, "unsteady": unsteady, "counting": counting, "bare-dice": bare_dice,
    "steep": steep, "cut": cut, "number": 3}
"""


@pytest.fixture
def file(site, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LOSSES_OF_A_FILE)
    use_files([path])
    return path


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(2, 1, 8, 8, generator=generator)
    return probabilities.requires_grad_(), (probabilities.detach() > 0.5).float()


FAULTS = {
    "a number": (lambda p, m: 0.5, "returns float, expected a finite scalar tensor with a gradient"),
    "one loss an image": (lambda p, m: (p - m).mean(dim=(1, 2, 3)), r"returns a tensor of shape \(2,\)"),
    "a count": (lambda p, m: (p > m).sum(), "returns a scalar of type torch.int64"),
    "no gradient": (lambda p, m: (p.detach() - m).mean(), "returns a scalar without a gradient"),
    "nothing": (lambda p, m: None, "returns NoneType"),
    "an error": (lambda p, m: p.nope, r"fails on a batch of 2×1×8×8 \(AttributeError: "),
    "one argument": (lambda p: p.mean(), r"fails .*TypeError"),
    "the end of the program": (lambda p, m: sys.exit(3), r"fails on a batch of 2×1×8×8 \(SystemExit: 3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_result_of_a_plug_in_is_named_in_one_line(fault, batch):
    loss, message = FAULTS[fault]
    with pytest.raises(FlamesError, match=message) as error:
        checked(loss, WHO)(*batch)
    assert str(error.value).startswith(WHO)
    assert "\n" not in str(error.value)


def test_validation_needs_no_gradient(batch):
    loss = checked(lambda p, m: (p - m).abs().mean(), WHO)
    with torch.inference_mode():
        assert loss(*batch) > 0


def test_a_loss_computes_in_float32_without_autocast(batch):
    probabilities, masks = batch
    seen = []

    def loss(p, m):
        seen.append((p.dtype, m.dtype, torch.is_autocast_enabled("cpu"), (p.flatten() @ m.flatten()).dtype))
        return p.mean()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        checked(loss, WHO)(probabilities.bfloat16(), masks.bool())
    assert seen == [(torch.float32, torch.float32, False, torch.float32)]


def test_memory_that_runs_out_is_no_fault_of_the_plug_in(batch):
    def loss(p, m):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        checked(loss, WHO)(*batch)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "unsteady",
            "'unsteady' of the plug-in mine.py .* gives .* and .* for the same batch, expected a func",
        ),
        ("counting", "for the same batch"),
        ("bare-dice", "gives -?(nan|inf) for masks without a tumour, expected a finite scalar"),
        ("steep", "gives a gradient that is not finite for masks with a tumour"),
        ("cut", "gives no gradient for masks with a tumour"),
        (
            "number",
            "the loss 'number', which cannot be used: it is int, expected a function of probabilities",
        ),
        ("gone", "loss 'gone' is not known"),
    ],
)
def test_a_loss_is_probed_before_a_run(file, name, message):
    with pytest.raises(FlamesError, match=message):
        probe_loss(name, 16)


def test_good_losses_pass_the_probe(file):
    probe_loss("squares", 16)
    probe_loss("dice-focal", 16)


def test_training_and_validation_take_the_loss_of_a_plug_in(file):
    cases, held_out = ShardDataset([draw_discs(8)]), ShardDataset([draw_discs(3, seed=1)])
    options = TrainOptions(
        local_epochs=1, batch_size=8, lr=1e-2, loss="squares", precise_norm=False, augment=False
    )
    local = LocalRound(seed=0, round=1, client="a", options=options)
    make = lambda: build_model("unet", seed=1, base_channels=4, depth=2)  # noqa: E731
    result = train_epochs(make(), cases, held_out, local, CPU, "fp32")
    with torch.no_grad():
        ((images, masks),) = iterate_batches(cases, range(8), 8)
        expected = ((make().train()(images) - masks) ** 2).mean()
    assert result.train_loss == pytest.approx(float(expected), rel=1e-4)
    ((images, masks),) = iterate_batches(held_out, range(3), 3)
    with torch.no_grad():
        expected = ((make().eval()(images) - masks) ** 2).mean()
    assert result.received.loss == pytest.approx(float(expected), rel=1e-4)


def test_a_loss_that_is_not_finite_is_named_where_the_training_ends(file):
    cases = ShardDataset([draw_discs(4)])
    options = TrainOptions(local_epochs=1, batch_size=4, lr=1e30, loss="squares", precise_norm=False)
    local = LocalRound(seed=0, round=1, client="a", options=replace(options, local_epochs=4))
    model = build_model("unet", seed=1, base_channels=4, depth=2)
    with pytest.raises(FlamesError, match="client a: the loss 'squares' is nan in round 1; lower --lr"):
        train_epochs(model, cases, ShardDataset([]), local, CPU, "fp32")


def test_the_usual_loss_has_the_options_of_its_client():
    loss = make_loss(TrainOptions(dice_weight=0.7, per_pixel_focal=True))
    assert loss.keywords == {"dice_weight": 0.7, "per_pixel_focal": True}
    assert loss.func is LOSSES["dice-focal"]


def test_a_loss_that_cannot_be_recorded_is_computed_without_a_recording(monkeypatch):
    """A device reports an operation that waits for it as a RuntimeError, which the check of a plug-in's loss
    makes a FlamesError."""
    model = torch.nn.Linear(2, 1)

    def loss(images, masks):
        if recording:
            raise FlamesError("loss 'x' of the plug-in some 1.0 fails (RuntimeError: capture)")
        return (model(images) - masks).abs().mean()

    class Graph:
        def __init__(self, *_args, **_options):
            pass

        def __enter__(self):
            recording.append(True)

        def __exit__(self, *_):
            recording.clear()

    recording = []
    for name in ("CUDAGraph", "graph", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, Graph if name != "graph_pool_handle" else lambda: 1)
    steps = Steps(model, loss, Plan(kind=1), CPU, print)
    images = torch.ones(3, 2)
    assert steps._record(images, torch.zeros(3, 1)) is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert steps.differentiate(images, torch.zeros(3, 1)) >= 0
