import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn import devices
from flames_cli.learn.devices import autocast, pick_device, pick_precision, place
from flames_cli.learn.models import build_model

CPU = torch.device("cpu")


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def set_bf16_instructions(monkeypatch, there: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there}, raising=False)


def test_auto_takes_the_cpu_without_an_accelerator(no_accelerator):
    assert pick_device("auto") == CPU
    assert pick_device("cpu") == CPU


def test_auto_prefers_cuda_and_then_mps(monkeypatch, no_accelerator):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert pick_device("auto") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_the_error_of_a_missing_device_lists_the_available_ones(name, no_accelerator):
    with pytest.raises(FlamesError, match=f"no device {name} here: this machine has cpu"):
        pick_device(name)


def test_the_error_of_an_unknown_device_lists_the_known_ones():
    with pytest.raises(FlamesError, match=r"unknown device 'gpu'.*auto, cpu, cuda, mps"):
        pick_device("gpu")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_named_precision_is_taken_on_the_cpu(name):
    assert pick_precision(name, CPU, "unet") == name


def test_auto_keeps_fp32_on_a_cpu_without_bf16_instructions(monkeypatch):
    set_bf16_instructions(monkeypatch, there=False)
    assert pick_precision("auto", CPU, "densenet-unet") == "fp32"


def test_auto_takes_bf16_for_densenet_unet_only_where_the_cpu_has_the_instructions(monkeypatch):
    set_bf16_instructions(monkeypatch, there=True)
    assert pick_precision("auto", CPU, "densenet-unet") == "bf16"
    assert pick_precision("auto", CPU, "unet") == "fp32"


def test_auto_uses_the_private_functions_of_older_torch(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert pick_precision("auto", CPU, "densenet-unet") == "bf16"
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert pick_precision("auto", CPU, "densenet-unet") == "fp32"


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_on_cuda_where_it_is_native(monkeypatch, native, expected):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation
    )
    assert pick_precision("auto", torch.device("cuda"), "unet") == expected


def test_mps_trains_in_fp32_only():
    assert pick_precision("auto", torch.device("mps"), "unet") == "fp32"
    with pytest.raises(FlamesError, match="mps does not run bf16"):
        pick_precision("bf16", torch.device("mps"), "unet")


def test_the_error_of_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(FlamesError, match=r"unknown precision 'fp16'.*auto, fp32, bf16"):
        pick_precision("fp16", CPU, "unet")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_sets_the_precision_of_a_convolution(precision, dtype):
    with autocast(CPU, precision):
        assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == dtype


@pytest.mark.parametrize(
    ("name", "avx512", "last"),
    [
        ("unet", False, True),
        ("unet", True, True),
        ("densenet-unet", False, False),
        ("densenet-unet", True, True),
    ],
)
def test_weights_on_a_cpu_are_channels_last_except_those_of_a_wide_model_without_avx512(
    name, avx512, last, monkeypatch
):
    model = build_model(name)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512" if avx512 else "AVX2")
    place(model, CPU, "fp32")
    deep = [p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p[0, 0].numel() > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) is last for p in deep)


def test_a_placed_model_computes_what_it_did_before():
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    model = build_model("unet", seed=0, base_channels=4).eval()
    with torch.no_grad():
        before = model(images)
        torch.testing.assert_close(place(model, CPU, "fp32")(images), before)


@pytest.mark.parametrize(
    ("threads", "cores", "omp", "expected"),
    [(64, 4, None, [4]), (4, 4, None, []), (2, 8, None, []), (64, 4, "64", [])],
)
def test_torch_uses_no_more_threads_than_a_containers_quota_has_cores(
    threads, cores, omp, expected, monkeypatch
):
    given = []
    monkeypatch.setattr(devices, "available_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if omp:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    devices.pick_device("cpu")
    assert given == expected
