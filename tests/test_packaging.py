"""What is installed: the wheel and the source archive, the extras, and how messages speak of them."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from flames_cli import __version__
from flames_cli.errors import install_extra
from tests.support.command_line import shell_environment

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "flames_cli").rglob("*.py")}


BUILD = """
from setuptools import build_meta
build_meta.build_sdist("dist")
build_meta.build_wheel("dist")
"""
"""What `python -m build` does, in this environment."""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the wheel and the source archive, made without a network."""
    copy = tmp_path_factory.mktemp("clone") / "flames"
    shutil.copytree(ROOT / "flames_cli", copy / "flames_cli", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    (copy / "tests" / "test_one.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, copy)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=copy, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return copy / "dist"


@pytest.mark.slow
def test_the_wheel_has_the_package_its_pages_its_types_and_the_licence_and_runs(made, tmp_path):
    (wheel,) = made.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    about = f"flames_cli-{__version__}.dist-info"
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "flames_cli").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if not name.startswith(about)} == package
    assert "flames_cli/py.typed" in names
    assert "flames_cli/report/templates/report.html" in names
    assert f"{about}/licenses/LICENSE" in names
    environment = shell_environment(PYTHONPATH=str(tmp_path / "installed"))
    run = subprocess.run(
        [sys.executable, "-c", "import flames_cli; print(flames_cli.__file__); import flames_cli.__main__"],
        cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert Path(run.stdout.strip()).is_relative_to(tmp_path)


@pytest.mark.slow
def test_the_source_archive_has_no_tests_and_can_be_built(made):
    (archive,) = made.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "flames_cli/report/templates/base.html"} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "."))]


def test_an_extra_is_installed_from_a_clone_or_from_an_index():
    words = "pip install -e '.[ray]' in FLAMES's folder (from an index: pip install 'flames-cli[ray]')"
    assert install_extra("ray") == words


def test_every_message_says_so_by_one_function_and_names_an_extra_that_exists():
    extras = PROJECT["optional-dependencies"]
    own = ROOT / "flames_cli" / "errors.py"
    assert [path for path, text in SOURCES.items() if "flames-cli[" in text and path != own] == []
    named = set(re.findall(r"""install_extra\(['"]([a-z-]+)['"]\)""", "".join(SOURCES.values())))
    assert len(named) >= 5
    assert named <= set(extras)
    for page in (*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"):
        assert set(re.findall(r"'\.\[([a-z,-]+)\]'", page.read_text(encoding="utf-8"))) <= {*extras}, page


def test_all_extras_of_users_are_in_the_extra_all():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    inside = re.fullmatch(r"flames-cli\[(.+)\]", everything)
    assert inside
    assert set(inside[1].split(",")) == set(extras) - {"all", "test", "docs"}


IMPORT = re.compile(r"^\s*(?:from (\w+)[\w.]* import |import (\w+)[\w.]*(?: as \w+)?$)", re.M)


def test_what_the_package_imports_is_what_it_depends_on():
    """Each top-level import is a dependency, one of an extra, or comes with one."""
    extras = [one for group in PROJECT["optional-dependencies"].values() for one in group]
    stated = {re.split(r"[^a-zA-Z0-9-]", one)[0].lower() for one in [*PROJECT["dependencies"], *extras]}
    distributions = {
        "PIL": "pillow", "cv2": "opencv-python-headless", "sklearn": "scikit-learn", "google": "protobuf",
        "mlflow": "mlflow-skinny", "click": "typer", "markupsafe": "jinja2", "pydantic_core": "pydantic",
        "starlette": "flwr", "fastapi": "flwr", "httpx": "flwr", "requests": "flwr", "ray": "flwr",
    }  # fmt: skip
    modules = {one or other for text in SOURCES.values() for one, other in IMPORT.findall(text)}
    assert {"cv2", "portalocker", "torch"} <= modules
    outside = modules - {*sys.stdlib_module_names, "flames_cli", "_typeshed"}
    unstated = {name for name in outside if distributions.get(name, name.replace("_", "-")) not in stated}
    assert unstated == set()
