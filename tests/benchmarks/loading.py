"""Scripts of `benchmarks`, loaded in this process: to import torch and flwr again takes seconds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a script as a module that is new for each test."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(name: str, monkeypatch: pytest.MonkeyPatch, *options: object) -> Any:
    """Call the script's `main` with these options of the command line."""
    module = load(name, monkeypatch)
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / f"{name}.py"), *map(str, options)])
    return module.main()
