"""`flames --help` answers at once: it loads nothing that works on data."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import shell_environment

ROOT = Path(__file__).parents[2]

HEAVY = {
    "PIL", "cv2", "flwr", "grpc", "h5py", "imagehash", "matplotlib", "nibabel", "numpy", "pandas", "psutil",
    "pydantic", "ray", "safetensors", "scipy", "skimage", "sklearn", "torch", "torchvision",
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


@pytest.mark.parametrize("args", [("--help",), ("federate", "--help"), ("--version",), ("fedrate",)])
def test_help_loads_nothing_that_works_on_data(args, tmp_path):
    assert loaded_by(shell_environment, tmp_path, *args) & HEAVY == set()


@pytest.mark.parametrize("command", ["federate", "evaluate", "tsne", "demo"])
def test_a_mistyped_option_is_told_before_torch_is_loaded(command, tmp_path):
    loaded = loaded_by(shell_environment, tmp_path, command, "--device", "tpu")
    assert loaded & {"torch", "flwr", "sklearn", "matplotlib"} == set()


def test_preprocessing_and_partitioning_load_neither_torch_nor_flower(phantom_raw, tmp_path):
    raw = phantom_raw["busi"]
    for args in (("preprocess", "--dataset", "busi", "--raw", raw, "--size", 32), ("partition",)):
        assert loaded_by(shell_environment, tmp_path, *args) & {"torch", "flwr", "sklearn"} == set()
    assert (tmp_path / "flames-workspace" / "partition.json").is_file()


def test_the_start_up_benchmark_prints_its_medians():
    result = subprocess.run(
        [sys.executable, "benchmarks/startup.py", "--runs", "1"],
        cwd=ROOT, env=shell_environment(), capture_output=True, encoding="utf-8", timeout=60, check=True,
    )  # fmt: skip
    assert re.fullmatch(r"flames --help +[\d.]+ s\npython -c pass +[\d.]+ s\nratio +[\d.]+\n", result.stdout)
