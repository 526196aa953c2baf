"""`flames --help` answers at once: it loads nothing that works on data."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flames_cli.config import SECTIONS
from flames_cli.store.workspace import partition_file
from tests.support.command_line import shell_environment

ROOT = Path(__file__).parents[2]

HEAVY = {
    "PIL", "cv2", "flwr", "grpc", "h5py", "imagehash", "matplotlib", "nibabel", "numpy", "pandas", "psutil",
    "ray", "safetensors", "scipy", "skimage", "sklearn", "torch", "torchvision",
}  # fmt: skip

LOADED = """
import sys
from flames_cli.__main__ import main
sys.argv[0] = "flames"
try:
    main()
finally:
    print("LOADED", *{name.split(".")[0] for name in sys.modules})
"""


def loaded_by(environment, folder, *args):
    result = subprocess.run(
        [sys.executable, "-c", LOADED, *map(str, args)],
        cwd=folder, env=environment(), capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    return set(result.stdout.split("LOADED ")[1].split())


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("fedrate",)])
def test_the_help_of_flames_does_not_even_load_the_configuration(args, tmp_path):
    assert loaded_by(shell_environment, tmp_path, *args) & {*HEAVY, "pydantic"} == set()


@pytest.mark.parametrize("command", [*SECTIONS, "info", "deploy"])
def test_the_help_of_a_command_loads_nothing_that_works_on_data(command, tmp_path):
    assert loaded_by(shell_environment, tmp_path, command, "--help") & HEAVY == set()


WRONG = {
    "option": ("federate", "--bogus", "1"),
    "kind of value": ("federate", "--rounds", "many"),
    "choice": ("federate", "--device", "tpu"),
    "choice of evaluate": ("evaluate", "--device", "tpu"),
    "choice of tsne": ("tsne", "--features", "colour"),
    "choice of demo": ("demo", "--device", "tpu"),
    "strategy": ("federate", "--strategy", "flamse"),
    "model": ("federate", "--model", "unte"),
    "data set": ("preprocess", "--dataset", "bus"),
    "key": ("federate", "--config", "flames.toml"),
    "run to resume": ("federate", "--resume", "gone"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_option_is_reported_before_anything_heavy_is_loaded(what, tmp_path):
    (tmp_path / "flames.toml").write_text("[federate]\nround = 3\n")
    assert loaded_by(shell_environment, tmp_path, *WRONG[what]) & HEAVY == set()


def test_preprocessing_and_partitioning_load_neither_torch_nor_flower(phantom_raw, tmp_path):
    raw = phantom_raw["busi"]
    for args in (("preprocess", "--dataset", "busi", "--raw", raw, "--size", 32), ("partition",)):
        assert loaded_by(shell_environment, tmp_path, *args) & {"torch", "flwr", "sklearn"} == set()
    assert partition_file(tmp_path / "flames-workspace").is_file()


def test_the_start_up_benchmark_prints_its_medians():
    result = subprocess.run(
        [sys.executable, "benchmarks/startup.py", "--runs", "1"],
        cwd=ROOT, env=shell_environment(), capture_output=True, encoding="utf-8", timeout=60, check=True,
    )  # fmt: skip
    assert re.fullmatch(r"flames --help +[\d.]+ s\npython -c pass +[\d.]+ s\nratio +[\d.]+\n", result.stdout)
