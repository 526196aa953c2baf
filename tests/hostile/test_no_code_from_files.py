"""No module can run code from a file: functions that could are neither imported nor called."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "flames_cli"

MODULES = re.compile(
    r"_?pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal|yaml|ruamel|tarfile|runpy|code|codeop|imp|ctypes"
)
CALLS = re.compile(
    r"eval|exec|compile|__import__|importlib\.(import_module|reload|util\.(?!find_spec)\w+)|os\.(system|popen|exec\w*|spawn\w*|posix_spawn\w*)"
    r"|subprocess\.get(status)?output|shutil\.unpack_archive|numpy\.load|torch\.(hub\.load|jit\.load|package)\w*"
    r"|.*\.(extractall|extract|read_pickle|unsafe_load)"
)
WITH_ZIP = {
    "flower/app_guard.py",
    "flower/fab.py",
    "learn/models/torch_files.py",
    "store/model_archives.py",
}

"""Modules that look into archives, and unpack none."""

WITH_C = {"core/allocator.py"}
"""Modules that call functions of the C library, which this process has loaded already."""

BY_NAME = {
    "__init__.py",
    "flower/__main__.py",
    "flower/clientapp_process.py",
    "learn/formats/onnx_files.py",
    "plugins/registry.py",
}
"""Modules that import modules by names from a table in their source, or from the entry points of packages
that the user has installed; never from a file of the workspace or from a message."""

OF_THE_USER = {"plugins/files.py"}
"""The module that runs the files that the user has named with --plugin: `tests/plugins` shows that no
artifact and no message names one."""


def forbidden(source: str, where: str = "") -> list[str]:
    """Return the imports and calls of `source` that could run code from a file, in order of the lines."""
    tree = ast.parse(source)
    names = imported_names(tree)
    modules = {name.partition(".")[0] for name in names.values()}
    found = [module for module in sorted(modules) if MODULES.fullmatch(module)]
    found = [module for module in found if module != "ctypes" or where not in WITH_C]
    found += ["zipfile"] if "zipfile" in modules and where not in WITH_ZIP else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += forbidden_call(node, names)
        elif isinstance(node, ast.ImportFrom):
            found += [name for name in dotted_names(node) if CALLS.fullmatch(name)]
    allowed = {"importlib.import_module"} if where in BY_NAME else set()
    allowed |= {"compile", "exec"} if where in OF_THE_USER else set()
    return [name for name in found if name not in allowed]


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Return the complete name of every import, by the name that the module uses."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {
                alias.asname or alias.name: name
                for alias, name in zip(node.names, dotted_names(node), strict=True)
            }
    return names


def dotted_names(node: ast.ImportFrom) -> list[str]:
    return [f"{node.module}.{alias.name}" for alias in node.names]


def forbidden_call(node: ast.Call, names: dict[str, str]) -> list[str]:
    first, dot, rest = ast.unparse(node.func).partition(".")
    name = names.get(first, first) + dot + rest
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    found = [name] if CALLS.fullmatch(name) else []
    found += ["shell"] if options.get("shell", "False") != "False" else []
    found += ["allow_pickle"] if options.get("allow_pickle", "False") != "False" else []
    found += ["weights_only"] if name == "torch.load" and options.get("weights_only") != "True" else []
    return found


def test_no_module_can_run_code_from_a_file():
    sources = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert len(sources) > 200
    found = {name: forbidden(path.read_text(encoding="utf-8"), name) for name, path in sources.items()}
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", ["pickle"]),
        ("def f():\n    from pickle import loads as read", ["pickle"]),
        ("import yaml", ["yaml"]),
        ("import zipfile", ["zipfile"]),
        ("import numpy as np\nnp.load(path)", ["numpy.load"]),
        ("from numpy import load\nload(path)", ["numpy.load", "numpy.load"]),
        ("read(path, allow_pickle=True)", ["allow_pickle"]),
        ("import torch\ntorch.load(path)", ["weights_only"]),
        ("import torch\ntorch.load(path, weights_only=False)", ["weights_only"]),
        ("from torch import load\nload(path, weights_only=trusted)", ["weights_only"]),
        ("import torch\ntorch.load(path, weights_only=True)", []),
        ("eval(text)", ["eval"]),
        ("import re\nre.compile(text)", []),
        ("model.eval()", []),
        ("import os\nos.system(line)", ["os.system"]),
        ("from os import system", ["os.system"]),
        ("from subprocess import run\nrun(line, shell=True)", ["shell"]),
        ("import shutil\nshutil.unpack_archive(path)", ["shutil.unpack_archive"]),
        ("archive.extractall(folder)", ["archive.extractall"]),
    ],
)
def test_the_check_finds_every_dangerous_call(source, found):
    assert forbidden(source) == found
