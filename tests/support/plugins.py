"""Packages with plug-ins, made as an installer leaves them: modules, and a folder of metadata."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from flames_cli.plugins import ALLOWED_VARIABLE, FILES_VARIABLE


def make_package(
    folder: Path,
    name: str,
    entries: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str] | None = None,
    version: str | None = "1.0",
) -> None:
    """Install a package into `folder`: references by group and name, and the sources of its modules."""
    metadata = folder / f"{name.replace('-', '_')}-{version or '0'}.dist-info"
    metadata.mkdir(parents=True)
    stated = f"Version: {version}\n" if version else ""
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n{stated}", encoding="utf-8")
    tables = (
        f"[flames.{group}]\n" + "".join(f"{one} = {reference}\n" for one, reference in names.items())
        for group, names in entries.items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(tables), encoding="utf-8")
    for module, source in (modules or {}).items():
        (folder / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")


@pytest.fixture(name="site")
def make_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of packages that Python finds; the variables of plug-ins are as before after the test."""
    for variable in (FILES_VARIABLE, ALLOWED_VARIABLE):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder
