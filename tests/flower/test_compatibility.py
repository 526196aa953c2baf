"""The private modules of Flower that are used, and the releases of Flower that were tested with them."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest

from flames_cli.flower import __main__ as launcher
from flames_cli.flower.compatibility import TESTED_FLOWER, flower_problem

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flames_cli"

PUBLIC = ("flwr.app", "flwr.serverapp", "flwr.clientapp")

PRIVATE = {
    "flwr.cli.supernode.register": {"flower/flwr_command.py"},
    "flwr.common.constant": {"flower/clientapp_process.py", "flower/node_state.py"},
    "flwr.common.serde": {"flower/control_api.py"},
    "flwr.proto.control_pb2": {"flower/control_api.py"},
    "flwr.proto.node_pb2": {"flower/control_api.py"},
    "flwr.proto.runtime_pb2": {"flower/clientapp_process.py"},
    "flwr.proto.task_pb2": {"flower/node_state.py"},
    "flwr.server.superlink.linkstate": {"flower/superlink.py"},
    "flwr.supercore.constant": {"flower/clientapp_process.py", "flower/node_state.py"},
    "flwr.supercore.exit": {"flower/supernode.py"},
    "flwr.supercore.fab": {"flower/app_guard.py", "flower/control_api.py", "flower/node_state.py"},
    "flwr.supercore.heartbeat": {"flower/clientapp_process.py"},
    "flwr.supercore.http_logging": {"flower/superlink.py"},
    "flwr.supercore.inflatable": {"flower/retries.py"},
    "flwr.supercore.interceptors": {"flower/clientapp_process.py"},
    "flwr.supercore.logger": {"flower/superlink.py"},
    "flwr.supercore.object_store": {"flower/node_state.py", "flower/supernode.py"},
    "flwr.supercore.retry": {"flower/clientapp_process.py"},
    "flwr.supercore.run": {"flower/app_guard.py"},
    "flwr.supercore.runtime": {"flower/clientapp_process.py"},
    "flwr.supercore.task_identity": {"flower/task_identity.py"},
    "flwr.supercore.telemetry": {"flower/supernode.py"},
    "flwr.supercore.utils": {"flower/control_api.py"},
    "flwr.superlink.cli.flower_superlink": {"flower/superlink.py"},
    "flwr.superlink.main": {"flower/superlink.py"},
    "flwr.supernode.cli.flower_supernode": {"flower/supernode.py"},
    "flwr.supernode.nodestate": {"flower/node_state.py"},
    "flwr.supernode.nodestate.in_memory_nodestate": {"flower/node_state.py"},
    "flwr.supernode.runtime.run_clientapp": {"flower/clientapp_process.py"},
    "flwr.supernode.start_client_internal": {"flower/supernode.py"},
}
"""Private modules of Flower that FLAMES uses, and the files that use them: a new release may break these."""


def modules_of_flower(tree: ast.AST) -> set[str]:
    """Return the modules of Flower that are imported, or named in a string that is a module's name."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names}
            case ast.ImportFrom(module="flwr", names=names):
                found |= {f"flwr.{name.name}" for name in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
            case ast.Constant(value=str(text)) if re.fullmatch(r"flwr(\.\w+)+", text):
                found.add(text)
    return {name for name in found if name.split(".")[0] == "flwr"}


def test_private_modules_of_flower_are_used_in_known_places_of_one_package():
    found = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for module in modules_of_flower(ast.parse(path.read_text("utf-8"))):
            if not module.startswith(PUBLIC):
                found[module].add(path.relative_to(PACKAGE).as_posix())

    assert found == PRIVATE
    assert {place.split("/")[0] for places in found.values() for place in places} == {"flower"}


def test_the_installed_flower_is_of_a_tested_minor_release():
    installed = metadata.version("flwr")

    assert flower_problem(installed) is None, (
        f"flwr {installed} is installed, and FLAMES was tested with {', '.join(TESTED_FLOWER)} only. To "
        "allow it, compare the modules of PRIVATE in this file with those of the former release, run `pytest "
        "tests/flower tests/fed/engines` and `pytest -m long tests/stages/federate/test_superlink.py`, add "
        "it to TESTED_FLOWER in flames_cli/flower/compatibility.py and widen the bounds in pyproject.toml"
    )


def test_the_bounds_of_pyproject_allow_the_tested_releases_and_no_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    bounds = {re.sub(r"^flwr(\[.*\])?", "", one) for one in chain(*lists) if re.match(r"flwr\b", one)}
    minors = [int(release.split(".")[1]) for release in TESTED_FLOWER]

    assert minors == list(range(minors[0], minors[-1] + 1))
    assert bounds == {f">=1.{minors[0]},<1.{minors[-1] + 1}"}


@pytest.mark.parametrize("version", ["1.40.0", "2.41.0", "1.410.0"])
def test_another_release_is_a_problem(version):
    assert flower_problem(version) == f"flwr {version} is installed, expected {' or '.join(TESTED_FLOWER)}"


GONE = """
import sys
import flwr.supernode.start_client_internal as module
del module._pull_and_store_message
sys.argv[1:] = ["supernode", "--insecure"]
from flames_cli.flower.__main__ import main
main()
"""


def test_a_private_function_that_is_gone_stops_the_start_with_one_line():
    done = subprocess.run(
        [sys.executable, "-c", GONE], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == (
        "ERROR: cannot import name '_pull_and_store_message' from 'flwr.supernode.start_client_internal': "
        f"flwr {metadata.version('flwr')} is installed, expected {' or '.join(TESTED_FLOWER)}, because "
        f"FLAMES uses private functions of Flower; run pip install 'flwr=={TESTED_FLOWER[-1]}.*'"
    )


@pytest.mark.parametrize("arguments", [[], ["flwr"]])
def test_a_program_that_does_not_exist_is_named(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flower", *arguments])

    with pytest.raises(SystemExit, match="expected superlink or supernode"):
        launcher.main()
