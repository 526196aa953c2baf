import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
]

LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
"""import-linter has no `python -m`; this needs no script on the PATH."""

LOADED = "import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def packages_loaded_by(module):
    result = run_python(LOADED.format(module=module))
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_every_import_keeps_to_the_layers():
    result = run_python(LINT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in result.stdout


WORK = "flames_cli.stages.source_cache"
"""Module that each process of `stages.worker_processes` loads."""


@pytest.mark.parametrize("module", ["flames_cli.cli.app", "flames_cli.config", WORK])
def test_starting_up_loads_nothing_heavy(module):
    assert packages_loaded_by(module) & {"torch", "flwr", "sklearn", "matplotlib"} == set()


def test_algorithms_load_neither_torch_nor_flower():
    assert packages_loaded_by("flames_cli.fed.algorithms") & {"torch", "flwr"} == set()


def test_secure_aggregation_is_arithmetic_without_files_and_messages():
    heavy = {"torch", "flwr", "h5py", "safetensors", "pydantic", "typer", "matplotlib"}
    assert packages_loaded_by("flames_cli.secagg") & heavy == set()


def test_core_loads_nothing_that_reads_or_trains():
    modules = ", ".join(
        f"flames_cli.core.{path.stem}" for path in (ROOT / "flames_cli" / "core").glob("[!_]*.py")
    )
    heavy = {
        "torch",
        "flwr",
        "h5py",
        "safetensors",
        "matplotlib",
        "nibabel",
        "PIL",
        "pydantic",
        "typer",
        "rich",
    }
    assert packages_loaded_by(modules) & heavy == set()
